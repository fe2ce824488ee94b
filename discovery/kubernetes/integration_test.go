//go:build unix

package kubernetes_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/discovery/kubernetes"
	"github.com/zerohop/zerohop/internal/kubetest"
)

// patience is how long things may take that have no bound of their own.
const patience = 30 * time.Second

// Starting a server takes longer than all that is tested here, so there is one.
func TestRealServer(t *testing.T) {
	// Client-go logs to stderr, where a library has nothing to say.
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	real := os.Stderr
	os.Stderr = stderr
	defer func() {
		os.Stderr = real
		if said, _ := os.ReadFile(stderr.Name()); len(said) > 0 {
			t.Errorf("written to stderr: %s", said)
		}
	}()

	// A frozen server is found in 2 s instead of 45.
	t.Setenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "1")
	t.Setenv("HTTP2_PING_TIMEOUT_SECONDS", "1")
	s := &source{Server: kubetest.Start(t)}
	client := newClient(t, kubernetes.ClientConfig{REST: s.Config(kubetest.AdminToken)})
	s.resolver = kubernetes.Resolver{Client: client}

	for _, test := range []struct {
		name string
		run  func(*testing.T, *source)
	}{
		{"Fields", testFields},
		{"Moves", testMoves},
		{"Denied", testDenied},
		{"Pod", testPod},
		{"Zone", testZone},
		{"ManyServices", testManyServices},
		{"Frozen", testFrozen},
		{"Killed", testKilled},
		{"Conformance", testConformance},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
}

type source struct {
	*kubetest.Server
	resolver kubernetes.Resolver
}

func newClient(t *testing.T, config kubernetes.ClientConfig) *kubernetes.Client {
	t.Helper()
	c, err := kubernetes.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ptr[T any](v T) *T { return &v }

// slice returns a slice of a service in namespace "default" with ready endpoints.
func slice(service, name string, addrs ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{},
	}
	for _, addr := range addrs {
		host, port, _ := net.SplitHostPort(addr)
		n, _ := strconv.Atoi(port)
		s.Ports = []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(n))}}
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{host}})
	}
	return s
}

// set makes the slices of service list exactly set: two slices, among which endpoints move from call to call.
func (s *source) set(t testing.TB, service string, set []discovery.Endpoint) {
	t.Helper()
	addrs := addrsOf(set)
	if len(addrs) == 0 {
		s.DeleteSlice(t, "", service+"-a")
		s.DeleteSlice(t, "", service+"-b")
		return
	}
	s.PutSlice(t, slice(service, service+"-a", addrs...))
	s.PutSlice(t, slice(service, service+"-b", addrs[0]))
}

func addrsOf(set []discovery.Endpoint) []string {
	var list []string
	for _, e := range set {
		list = append(list, e.Addr)
	}
	slices.Sort(list)
	return list
}

func testConformance(t *testing.T, s *source) {
	discoverytest.Test(t, discoverytest.Source{
		Resolver: s.resolver,
		Set:      s.set,
		Break:    func(t testing.TB) { s.Kill(t) },
		Heal:     func(t testing.TB) { s.Restart(t) },
		Timeout:  patience,
	})
}

func testFields(t *testing.T, s *source) {
	one := slice("fields", "fields-1")
	one.Labels["version"] = "2"
	one.Labels["endpointslice.kubernetes.io/managed-by"] = "test"
	one.Ports = []discoveryv1.EndpointPort{
		{Name: ptr("http"), Port: ptr(int32(8080))},
		{Name: ptr("metrics"), Port: ptr(int32(9090))},
		{Name: ptr("dns"), Port: ptr(int32(53)), Protocol: ptr(corev1.ProtocolUDP)},
	}
	conditions := func(ready, serving, terminating *bool) discoveryv1.EndpointConditions {
		return discoveryv1.EndpointConditions{Ready: ready, Serving: serving, Terminating: terminating}
	}
	yes, no := ptr(true), ptr(false)
	one.Endpoints = []discoveryv1.Endpoint{
		{
			Addresses: []string{"192.0.2.1"}, Zone: ptr("eu-1a"), NodeName: ptr("node-1"),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "fields-x", Namespace: "default", UID: "u-1"},
			Hints:     &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "eu-1a"}, {Name: "eu-1b"}}},
		},
		{Addresses: []string{"192.0.2.2"}, Conditions: conditions(yes, yes, no)},
		{Addresses: []string{"192.0.2.3"}, Conditions: conditions(no, no, no)},
		{Addresses: []string{"192.0.2.4"}, Conditions: conditions(no, yes, yes)},
		{Addresses: []string{"192.0.2.5"}, Conditions: conditions(no, no, yes)},
	}
	two := slice("fields", "fields-2") // the same port has another number; one of its pods is known by its IPv4 address
	two.AddressType = discoveryv1.AddressTypeIPv6
	two.Ports = []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080))}}
	two.Endpoints = []discoveryv1.Endpoint{
		{Addresses: []string{"2001:db8::1"}, TargetRef: one.Endpoints[0].TargetRef},
		{Addresses: []string{"2001:db8::2"}},
	}
	three := slice("fields", "fields-3")
	three.AddressType = discoveryv1.AddressTypeFQDN
	three.Ports = []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8443))}}
	three.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"pod.example.com"}}}
	for _, slice := range []*discoveryv1.EndpointSlice{one, two, three} {
		s.PutSlice(t, slice)
		t.Cleanup(func() { s.DeleteSlice(t, "", slice.Name) })
	}

	labels := map[string]string{"version": "2"}
	want := []discovery.Endpoint{
		{Addr: "192.0.2.1:8080", Weight: 1, Zone: "eu-1a", Meta: map[string]string{
			"version": "2", "kubernetes-pod": "fields-x", "kubernetes-node": "node-1", "kubernetes-for-zones": "eu-1a,eu-1b",
		}},
		{Addr: "192.0.2.2:8080", Weight: 1, Meta: labels},
		{Addr: "192.0.2.4:8080", Weight: 1, Health: discovery.Terminating, Meta: labels},
		{Addr: "[2001:db8::2]:8080", Weight: 1},
		{Addr: "pod.example.com:8443", Weight: 1},
	}
	if diff := cmp.Diff(want, first(t, s.resolver, "fields")); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}

	all := s.resolver
	all.IncludeNotReady, all.PreferIPv6, all.Services = true, true, map[string]string{"other": "fields.default:metrics"}
	var got []string
	for _, e := range first(t, all, "fields:http") {
		got = append(got, e.Addr+" "+e.Health.String())
	}
	wantAll := []string{
		"192.0.2.2:8080 healthy", "192.0.2.3:8080 unhealthy", "192.0.2.4:8080 terminating", "192.0.2.5:8080 unhealthy",
		"[2001:db8::1]:8080 healthy", "[2001:db8::2]:8080 healthy", "pod.example.com:8443 healthy",
	}
	if diff := cmp.Diff(wantAll, got); diff != "" {
		t.Errorf("endpoints with all that are not ready (-want +got):\n%s", diff)
	}
	if got, want := len(first(t, all, "other")), 5; got != want {
		t.Errorf("%d endpoints have port metrics, want %d", got, want)
	}

	err := all.Watch(t.Context(), "fields:dns", func([]discovery.Endpoint) { t.Error("update for a port that is not TCP") })
	if _, ok := errors.AsType[*discovery.RefusedError](err); !ok || !strings.Contains(err.Error(), `"metrics" (9090)`) {
		t.Errorf("Watch() of a port that is not TCP = %v, want a refusal that lists the others", err)
	}
}

// first returns the first set that Run makes of service.
func first(t *testing.T, r discovery.Resolver, service string) []discovery.Endpoint {
	t.Helper()
	return follow(t, r, service).next()
}

// testMoves moves an endpoint between slices, by two writes in both orders.
func testMoves(t *testing.T, s *source) {
	const stays, moves = "192.0.2.1:80", "192.0.2.2:80"
	put := func(name string, addrs ...string) { s.PutSlice(t, slice("moves", name, addrs...)) }
	put("moves-a", stays, moves)
	put("moves-b", stays)
	defer s.set(t, "moves", nil)
	f := follow(t, s.resolver, "moves")
	f.until(stays, moves)
	var slowest time.Duration
	for range 10 {
		put("moves-b", stays, moves) // into b before it leaves a, and back the other way round
		put("moves-a", stays)
		left := time.Now()
		put("moves-b", stays)
		put("moves-a", stays, moves)
		slowest = max(slowest, time.Since(left))
	}
	put("moves-a", stays, moves, "192.0.2.3:80")
	for {
		set := addrsOf(f.next())
		if !slices.Contains(set, moves) {
			if slowest < 200*time.Millisecond { // what is kept for 300 ms may have been slower on a busy machine
				t.Errorf("set %v lacks %s", set, moves)
			}
			t.Logf("set %v lacks %s, the slowest move took %v", set, moves, slowest)
		}
		if len(set) == 3 {
			break
		}
	}
}

func testDenied(t *testing.T, s *source) {
	for name, token := range map[string]string{"no permission": kubetest.StrangerToken, "unknown token": "secret-of-a-user", "no token": ""} {
		t.Run(name, func(t *testing.T) {
			r := kubernetes.Resolver{Client: newClient(t, kubernetes.ClientConfig{REST: s.Config(token)})}
			err := r.Watch(t.Context(), "orders", func([]discovery.Endpoint) { t.Error("update without permission") })
			if refused, ok := errors.AsType[*discovery.RefusedError](err); !ok || !refused.Denied {
				t.Errorf("Watch() = %v, want that it is denied", err)
			}
			if !strings.Contains(err.Error(), s.Addr()) || strings.Contains(err.Error(), "secret") {
				t.Errorf("Watch() = %v, want the address of the server and no token in it", err)
			}
		})
	}
}

// testPod does as in a pod whose token is replaced, with the permissions that the package names.
func testPod(t *testing.T, s *source) {
	host, port, _ := net.SplitHostPort(s.Addr())
	t.Setenv("KUBERNETES_SERVICE_HOST", host)
	t.Setenv("KUBERNETES_SERVICE_PORT", port)
	account := t.TempDir()
	ca, err := os.ReadFile(s.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(account, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ca.crt", string(ca))
	write("namespace", "team\n")
	write("token", "expired\n")
	client, err := kubernetes.NewPodClient(account)
	if err != nil {
		t.Fatal(err)
	}

	s.Do(t, http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]string{"name": "team"}})
	const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/team/"
	s.Do(t, http.MethodPost, rbac+"roles", map[string]any{
		"metadata": map[string]string{"name": "endpoints"},
		"rules": []map[string]any{{
			"apiGroups": []string{"discovery.k8s.io"}, "resources": []string{"endpointslices"}, "verbs": []string{"get", "list", "watch"},
		}},
	})
	s.Do(t, http.MethodPost, rbac+"rolebindings", map[string]any{
		"metadata": map[string]string{"name": "endpoints"},
		"subjects": []map[string]string{{"kind": "User", "name": "stranger"}},
		"roleRef":  map[string]string{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "endpoints"},
	})
	team := slice("orders", "orders-1", "192.0.2.7:80")
	team.Namespace = "team"
	s.PutSlice(t, team)

	f := follow(t, kubernetes.Resolver{Client: client}, "orders")
	if refused, ok := errors.AsType[*discovery.RefusedError](f.failure()); !ok || !refused.Denied {
		t.Error("a wrong token is not denied")
	}
	write("token", kubetest.StrangerToken)
	f.until("192.0.2.7:80")
}

func testZone(t *testing.T, s *source) {
	s.Do(t, http.MethodPost, "/api/v1/nodes", map[string]any{"metadata": map[string]any{
		"name": "node-1.example.com", "labels": map[string]string{"topology.kubernetes.io/zone": "eu-1a"},
	}})
	t.Setenv("NODE_NAME", "node-1.example.com")
	if got, err := s.resolver.Zone(t.Context()); got != "eu-1a" || err != nil {
		t.Errorf("Zone() = %q, %v, want eu-1a", got, err)
	}
	r := s.resolver
	r.NodeName = "node-2"
	if got, err := r.Zone(t.Context()); err == nil || !strings.Contains(err.Error(), "node-2") {
		t.Errorf("Zone() of an unknown node = %q, %v, want an error that names it", got, err)
	}
	r.Client = newClient(t, kubernetes.ClientConfig{REST: s.Config(kubetest.StrangerToken)})
	_, err := r.Zone(t.Context())
	if refused, ok := errors.AsType[*discovery.RefusedError](err); !ok || !refused.Denied {
		t.Errorf("Zone() of a stranger = %v, want that it is denied", err)
	}
}

func testManyServices(t *testing.T, s *source) {
	const services = 200
	s.PutSlice(t, slice("many-7", "many-7", "192.0.2.1:80"))
	defer s.DeleteSlice(t, "", "many-7")
	streams := make(chan struct{}, services)
	config := s.Config(kubetest.AdminToken)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(req)
			if err == nil && req.URL.Query().Get("watch") == "true" {
				streams <- struct{}{}
			}
			return resp, err
		})
	})
	r := kubernetes.Resolver{Client: newClient(t, kubernetes.ClientConfig{REST: config})}
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	first, ended := make(chan int), make(chan struct{})
	for i := range services {
		go func() {
			begun := false
			_ = discovery.Run(ctx, r, fmt.Sprintf("many-%d", i), discovery.RunOptions{}, func(set []discovery.Endpoint) {
				if !begun {
					begun = true
					first <- len(set)
				}
			})
			ended <- struct{}{}
		}()
	}
	found := 0
	for range services {
		found += <-first
	}
	if found != 1 {
		t.Errorf("%d endpoints found, want 1", found)
	}
	for range services {
		<-streams
	}
	// Goroutines of lists end a moment later.
	const most = 2*services + 20
	late := time.Now().Add(patience)
	got := runtime.NumGoroutine() - before
	for got > most && time.Now().Before(late) {
		runtime.Gosched()
		got = runtime.NumGoroutine() - before
	}
	if got > most {
		t.Errorf("%d goroutines for %d services, want at most %d", got, services, most)
	}
	t.Logf("%d goroutines for %d services", got, services)
	cancel()
	for range services {
		<-ended
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func testFrozen(t *testing.T, s *source) {
	s.set(t, "frozen", []discovery.Endpoint{{Addr: "192.0.2.1:80"}})
	defer s.set(t, "frozen", nil)
	f := follow(t, s.resolver, "frozen")
	f.until("192.0.2.1:80")
	s.Stop(t)
	frozen := time.Now()
	err := f.failure()
	if got := time.Since(frozen); got > 4*time.Second {
		t.Errorf("noticed after %v, want 2 s with pings after one second", got)
	}
	if !strings.Contains(err.Error(), s.Addr()) {
		t.Errorf("error %v does not name %s", err, s.Addr())
	}
	s.Cont(t)
	healed := time.Now()
	s.set(t, "frozen", []discovery.Endpoint{{Addr: "192.0.2.2:80"}})
	f.until("192.0.2.2:80")
	t.Logf("noticed after %v, right %v after it went on", healed.Sub(frozen), time.Since(healed))
}

func testKilled(t *testing.T, s *source) {
	s.set(t, "killed", []discovery.Endpoint{{Addr: "192.0.2.1:80"}})
	defer s.set(t, "killed", nil)
	f := follow(t, s.resolver, "killed")
	f.until("192.0.2.1:80")
	s.Kill(t)
	for range 3 {
		err := f.failure()
		if _, ok := errors.AsType[*discovery.RefusedError](err); ok || !strings.Contains(err.Error(), s.Addr()) {
			t.Errorf("error %v, want one that names %s and is no refusal", err, s.Addr())
		}
	}
	s.Restart(t)
	back := time.Now()
	s.set(t, "killed", []discovery.Endpoint{{Addr: "192.0.2.1:80"}, {Addr: "192.0.2.2:80"}})
	f.until("192.0.2.1:80", "192.0.2.2:80")
	if got := time.Since(back); got > 2*time.Second {
		t.Errorf("right %v after the server was back, want at most 2 s", got)
	}
	t.Logf("right %v after the server was back", time.Since(back))
}

// follow runs discovery of service until the test ends.
func follow(t testing.TB, r discovery.Resolver, service string) *follower {
	f := &follower{t: t, sets: make(chan []discovery.Endpoint, 1000), failures: make(chan error, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	opts := discovery.RunOptions{Observe: func(e discovery.Event) {
		if e.Kind == discovery.EventWatchFailed {
			select {
			case f.failures <- e.Err:
			default:
			}
		}
	}}
	go func() { // ended and awaited by the cleanup
		defer close(done)
		_ = discovery.Run(ctx, r, service, opts, func(set []discovery.Endpoint) { f.sets <- set })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

type follower struct {
	t        testing.TB
	sets     chan []discovery.Endpoint
	failures chan error
}

func (f *follower) next() []discovery.Endpoint {
	f.t.Helper()
	select {
	case set := <-f.sets:
		return set
	case <-time.After(patience):
		f.t.Fatalf("no set within %v", patience)
		return nil
	}
}

// until reads sets until one has exactly the given addresses.
func (f *follower) until(want ...string) {
	f.t.Helper()
	for {
		if slices.Equal(addrsOf(f.next()), want) {
			return
		}
	}
}

func (f *follower) failure() error {
	f.t.Helper()
	select {
	case err := <-f.failures:
		return err
	case <-time.After(patience):
		f.t.Fatalf("no failure within %v", patience)
		return nil
	}
}

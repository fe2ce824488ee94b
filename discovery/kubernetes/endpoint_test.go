package kubernetes

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zerohop/zerohop/discovery"
)

func ptr[T any](v T) *T { return &v }

func TestHealthOfConditions(t *testing.T) {
	yes, no := ptr(true), ptr(false)
	for _, tt := range []struct {
		ready, serving, terminating *bool
		health                      discovery.Health
		serves                      bool
	}{
		{nil, nil, nil, discovery.Healthy, true},
		{nil, no, nil, discovery.Healthy, true}, // serving says nothing of endpoints that do not terminate
		{yes, nil, nil, discovery.Healthy, true},
		{yes, yes, no, discovery.Healthy, true},
		{no, nil, nil, discovery.Unhealthy, false},
		{no, no, no, discovery.Unhealthy, false},
		{no, yes, no, discovery.Unhealthy, false},
		{no, yes, yes, discovery.Terminating, true},
		{nil, yes, yes, discovery.Terminating, true},
		{no, nil, yes, discovery.Terminating, true},
		{nil, nil, yes, discovery.Terminating, true},
		{no, no, yes, discovery.Unhealthy, false},
		{nil, no, yes, discovery.Unhealthy, false},
		{yes, no, yes, discovery.Terminating, true}, // publishNotReadyAddresses
	} {
		got, serves := health(discoveryv1.EndpointConditions{Ready: tt.ready, Serving: tt.serving, Terminating: tt.terminating})
		if got != tt.health || serves != tt.serves {
			t.Errorf("health(%v, %v, %v) = %v, %v, want %v, %v", show(tt.ready), show(tt.serving), show(tt.terminating), got, serves, tt.health, tt.serves)
		}
	}
}

func show(b *bool) any {
	if b == nil {
		return nil
	}
	return *b
}

func TestPortOfSlice(t *testing.T) {
	udp := discoveryv1.EndpointPort{Name: ptr("dns"), Port: ptr(int32(53)), Protocol: ptr(corev1.ProtocolUDP)}
	all := discoveryv1.EndpointPort{Name: ptr("all")}
	list := func(p ...discoveryv1.EndpointPort) []discoveryv1.EndpointPort { return p }
	for name, tt := range map[string]struct {
		ports      []discoveryv1.EndpointPort
		port, want string
		err        string
	}{
		"the only one":           {ports: list(port("web", 80)), want: "80"},
		"the only one of TCP":    {ports: list(port("web", 80), udp), want: "80"},
		"without a name":         {ports: list(discoveryv1.EndpointPort{Port: ptr(int32(81))}), want: "81"},
		"http of several":        {ports: list(port("metrics", 90), port("grpc", 70), port("http", 80)), want: "80"},
		"grpc of several":        {ports: list(port("metrics", 90), port("grpc", 70)), want: "70"},
		"none to choose":         {ports: list(port("a", 1), port("b", 2)), err: `there is "a" (1), "b" (2): set Resolver.Port`},
		"none of TCP":            {ports: list(udp), err: "there are no TCP ports"},
		"no ports":               {err: "there are no TCP ports"},
		"by name":                {ports: list(port("http", 80), port("metrics", 90)), port: "metrics", want: "90"},
		"by unknown name":        {ports: list(port("http", 80)), port: "web", err: `no port "web": there is "http" (80)`},
		"by number":              {ports: list(port("http", 80), port("metrics", 90)), port: "90", want: "90"},
		"by unknown number":      {ports: list(port("http", 80)), port: "8080", err: `no port "8080"`},
		"by number of no ports":  {port: "8080", want: "8080"},
		"by number of all ports": {ports: list(all), port: "8080", want: "8080"},
		"by name of all ports":   {ports: list(all), port: "all", err: "no port"},
		"by number of UDP":       {ports: list(udp, port("http", 80)), port: "53", err: "no port"},
		"by number too large":    {ports: nil, port: "65536", err: "no port"},
	} {
		got, err := portOf(tt.ports, tt.port)
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) || got != tt.want {
			t.Errorf("%s: portOf() = %q, %v, want %q, %q", name, got, err, tt.want, tt.err)
		}
	}
}

// tell returns a function that applies slices to merged and returns the addresses of its set.
func tell(t *testing.T, m *merged) func(...discoveryv1.EndpointSlice) string {
	t.Helper()
	m.slices = make(map[string]part)
	return func(list ...discoveryv1.EndpointSlice) string {
		t.Helper()
		for i := range list {
			if err := m.put(&list[i], true); err != nil {
				t.Fatal(err)
			}
		}
		set, _, err := m.set(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return addrs(set)
	}
}

func TestEndpointOfTwoSlicesCountsOnce(t *testing.T) {
	m := &merged{}
	put := tell(t, m)
	worse := slice("a", "192.0.2.1")
	worse.Endpoints[0].Conditions.Ready = ptr(false)
	if got, want := put(worse, slice("b", "192.0.2.1"), slice("c", "192.0.2.1")), "192.0.2.1:8080"; got != want {
		t.Errorf("set = %q, want %q", got, want)
	}
	// The address of a pod that is not ready has become that of another one.
	old, young := slice("a", "192.0.2.1"), slice("b", "192.0.2.1")
	old.Endpoints[0].Conditions.Ready = ptr(false)
	old.Endpoints[0].TargetRef = &corev1.ObjectReference{UID: "old"}
	young.Endpoints[0].TargetRef = &corev1.ObjectReference{UID: "young", Kind: "Pod", Name: "young"}
	put(old, young, slice("c"))
	if got, want := m.last["192.0.2.1:8080"].Meta[podKey], "young"; got != want {
		t.Errorf("the address is that of pod %q, want %q", got, want)
	}
}

func TestPodOfTwoFamiliesCountsOnce(t *testing.T) {
	pod := func(s discoveryv1.EndpointSlice, uid types.UID, ready bool) discoveryv1.EndpointSlice {
		for i := range s.Endpoints {
			s.Endpoints[i].TargetRef = &corev1.ObjectReference{UID: uid}
			s.Endpoints[i].Conditions.Ready = &ready
		}
		return s
	}
	v6 := func(name string, addr string) discoveryv1.EndpointSlice {
		s := slice(name, addr)
		s.AddressType = discoveryv1.AddressTypeIPv6
		return s
	}
	for _, tt := range []struct {
		prefer bool
		want   string
	}{{false, "192.0.2.1:8080 [2001:db8::2]:8080"}, {true, "[2001:db8::1]:8080 [2001:db8::2]:8080"}} {
		put := tell(t, &merged{preferIPv6: tt.prefer})
		list := []discoveryv1.EndpointSlice{
			pod(v6("a", "2001:db8::1"), "1", true), pod(slice("b", "192.0.2.1"), "1", true), pod(v6("c", "2001:db8::2"), "2", true),
		}
		if got := put(list...); got != tt.want {
			t.Errorf("with PreferIPv6 %v the set is %q, want %q", tt.prefer, got, tt.want)
		}
	}
	// That the other slice lags behind does not make the pod change its address.
	put := tell(t, &merged{})
	if got := put(pod(v6("a", "2001:db8::1"), "1", true), pod(slice("b", "192.0.2.1"), "1", false)); got != "" {
		t.Errorf("set = %q, want none: the pod is not ready", got)
	}
}

// An endpoint moves between slices by two writes, in any order.
func TestMovedEndpointIsNeverMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const both = "192.0.2.1:8080 192.0.2.2:8080"
		put := tell(t, &merged{})
		put(slice("a", "192.0.2.1", "192.0.2.2"), slice("b"))
		for _, steps := range [][]discoveryv1.EndpointSlice{
			{slice("b", "192.0.2.2"), slice("a", "192.0.2.1")},
			{slice("b"), slice("a", "192.0.2.1", "192.0.2.2")},
		} {
			for _, step := range steps {
				if got := put(step); got != both {
					t.Errorf("set = %q, want %q", got, both)
				}
				time.Sleep(moveTime / 2)
			}
		}
		put(slice("a", "192.0.2.1"))
		time.Sleep(moveTime)
		if got, want := put(), "192.0.2.1:8080"; got != want {
			t.Errorf("set = %q after it has left, want %q", got, want)
		}
		// One that is said to be not ready is not kept, nor one that terminated before it left.
		unready := slice("a", "192.0.2.1")
		unready.Endpoints[0].Conditions.Ready = ptr(false)
		if got := put(unready); got != "" {
			t.Errorf("set = %q, want none: it is not ready", got)
		}
		leaving := slice("a", "192.0.2.1")
		leaving.Endpoints[0].Conditions.Terminating = ptr(true)
		put(leaving)
		if got := put(slice("a")); got != "" {
			t.Errorf("set = %q, want none: it had terminated", got)
		}
	})
}

// There is nowhere to move to from the only slice: calls to an address that nobody may have any more end at once.
func TestEndpointThatLeavesTheOnlySliceIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		put := tell(t, &merged{})
		v6 := slice("c", "2001:db8::1")
		v6.AddressType = discoveryv1.AddressTypeIPv6
		put(slice("a", "192.0.2.1", "192.0.2.2"), v6)
		for _, step := range []struct {
			slice discoveryv1.EndpointSlice
			want  string
		}{
			{slice("a", "192.0.2.1"), "192.0.2.1:8080 [2001:db8::1]:8080"},
			{slice("b"), "192.0.2.1:8080 [2001:db8::1]:8080"},
			{slice("a"), "192.0.2.1:8080 [2001:db8::1]:8080"}, // to b, maybe
		} {
			if got := put(step.slice); got != step.want {
				t.Errorf("set = %q, want %q", got, step.want)
			}
		}
	})
}

func TestSlicesAreBounded(t *testing.T) {
	m := &merged{slices: make(map[string]part)}
	big := slice("a", make([]string, maxRecords-1)...)
	for range 3 { // the same slice again is no more
		if err := m.put(&big, true); err != nil {
			t.Fatal(err)
		}
	}
	one := slice("b")
	if err := m.put(&one, true); err == nil {
		t.Errorf("slice number 2 is accepted with %d endpoints in the first", maxRecords-1)
	}
	if err := m.put(&big, false); err != nil {
		t.Fatal(err)
	}
	if err := m.put(&one, true); err != nil {
		t.Error(err)
	}
}

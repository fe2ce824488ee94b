//go:build unix

package consul_test

import (
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/consul"
	"github.com/zerohop/zerohop/internal/consultest"
)

// patience is how long things may take that have no bound of their own.
const patience = 15 * time.Second

func newClient(t testing.TB, agent *consultest.Agent, token string) *api.Client {
	t.Helper()
	config := agent.Config(token)
	config.Transport = &http.Transport{}
	t.Cleanup(config.Transport.CloseIdleConnections)
	c, err := consul.NewClient(*config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// follow runs discovery of service until the test ends. It believes empty answers at once.
func follow(t testing.TB, r discovery.Resolver, service string) *follower {
	return followWith(t, r, service, discovery.RunOptions{EmptyGrace: -1})
}

func followWith(t testing.TB, r discovery.Resolver, service string, opts discovery.RunOptions) *follower {
	f := &follower{t: t, sets: make(chan []discovery.Endpoint, 1000), events: make(chan discovery.Event, 1000)}
	opts.Addresses.AllowLoopback = true // where tests have their servers
	opts.Observe = func(e discovery.Event) {
		select {
		case f.events <- e:
		default:
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ended and awaited by the cleanup
		defer close(done)
		_ = discovery.Run(ctx, r, service, opts, func(set []discovery.Endpoint) { f.sets <- set })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

type follower struct {
	t      testing.TB
	sets   chan []discovery.Endpoint
	events chan discovery.Event
}

// until reads sets until one has exactly the given addresses, and returns it.
func (f *follower) until(want ...string) []discovery.Endpoint {
	f.t.Helper()
	late := time.After(patience)
	var last []string
	for {
		select {
		case set := <-f.sets:
			last = addrsOf(set)
			if slices.Equal(last, want) {
				return set
			}
		case <-late:
			f.t.Fatalf("the set is %v after %v, want %v", last, patience, want)
		}
	}
}

// failure waits for the next failed watch and returns its error.
func (f *follower) failure() error {
	f.t.Helper()
	late := time.After(patience)
	for {
		select {
		case e := <-f.events:
			if e.Kind == discovery.EventWatchFailed {
				return e.Err
			}
		case <-late:
			f.t.Fatalf("no failure within %v", patience)
		}
	}
}

func addrsOf(set []discovery.Endpoint) []string {
	var list []string
	for _, ep := range set {
		list = append(list, ep.Addr)
	}
	return list
}

func register(t testing.TB, r consul.Registrar, inst discovery.Instance) discovery.Registration {
	t.Helper()
	g, err := r.Register(t.Context(), inst)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = g.Close(ctx) // fails where the test has killed the agent
	})
	return g
}

// list makes the catalog list exactly set for service. New instances come before old ones go.
func list(t testing.TB, c *api.Client, service string, set []discovery.Endpoint) {
	t.Helper()
	old, err := c.Agent().ServicesWithFilter(`Service == "` + service + `"`)
	if err != nil {
		t.Fatal(err)
	}
	for _, ep := range set {
		host, port, _ := net.SplitHostPort(ep.Addr)
		n, _ := strconv.Atoi(port)
		id := service + "-" + ep.Addr
		if err := c.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: id, Name: service, Address: host, Port: n}); err != nil {
			t.Fatal(err)
		}
		delete(old, id)
	}
	for id := range old {
		if err := c.Agent().ServiceDeregister(id); err != nil {
			t.Fatal(err)
		}
	}
	listed(t, c, service, addrsOf(set)...)
}

// listed waits until the catalog lists exactly the given addresses for service: the agent takes note of an instance at
// once and tells the catalog later, and a cluster may have no leader for a while.
func listed(t testing.TB, c *api.Client, service string, want ...string) {
	t.Helper()
	slices.Sort(want)
	var index uint64
	var failure error
	for late := time.Now().Add(patience); time.Now().Before(late); {
		q := &api.QueryOptions{RequireConsistent: true, WaitIndex: index, WaitTime: time.Second}
		entries, meta, err := c.Health().Service(service, "", true, q)
		if err != nil {
			failure = err
			<-time.After(20 * time.Millisecond)
			continue
		}
		var got []string
		for _, e := range entries {
			got = append(got, net.JoinHostPort(e.Service.Address, strconv.Itoa(e.Service.Port)))
		}
		slices.Sort(got)
		if slices.Equal(got, want) {
			return
		}
		index = meta.LastIndex
	}
	t.Fatalf("the catalog does not list %v of %s within %v (last failure: %v)", want, service, patience, failure)
}

// token makes a token with the given rules and returns its secret.
func token(t testing.TB, admin *api.Client, rules string) string {
	t.Helper()
	policy, _, err := admin.ACL().PolicyCreate(&api.ACLPolicy{Name: strings.ToLower(rand.Text()), Rules: rules}, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, _, err := admin.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made.SecretID
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

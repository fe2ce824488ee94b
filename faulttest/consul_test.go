//go:build unix

package faulttest

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/consul"
	"github.com/zerohop/zerohop/internal/consultest"
)

// The agent that callers and instances share is killed for 30 s, twice as long as a lease, and comes back knowing
// nothing.
func TestConsulOutageIsNotSeen(t *testing.T) {
	t.Parallel()
	const (
		rate   = 200
		outage = 30 * time.Second
		limit  = 5 * time.Second // until everything is as it should be
	)
	agent := consultest.Start(t, consultest.Options{})
	config := agent.Config("")
	config.Transport = &http.Transport{}
	t.Cleanup(config.Transport.CloseIdleConnections)
	client, err := consul.NewClient(*config)
	if err != nil {
		t.Fatal(err)
	}
	register := func(service, addr string) {
		t.Helper()
		registrar := consul.Registrar{Client: client, Advertising: discovery.Advertising{AllowLoopback: true}}
		g, err := registrar.Register(t.Context(), discovery.Instance{
			Service: service, Endpoint: discovery.Endpoint{Addr: addr},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := g.Close(ctx); err != nil {
				t.Errorf("Close() of %s = %v", addr, err)
			}
		})
	}

	list := startBackends(t, 4, capacity{Workers: 8, Queue: 100, Mean: 10 * time.Millisecond})
	late := list[3] // registered after the outage
	m, _ := newMesh(t, consul.Resolver{Client: client})
	var runs []*consulRun
	for _, p := range protocols {
		r := &consulRun{protocol: p, service: service + "-" + p.name, changed: make(chan struct{}, 1)}
		for _, addr := range p.addrs(list[:3]) {
			register(r.service, addr)
		}
		r.follow(t, m)
		r.call = p.meshed(t, m, r.service)
		runs = append(runs, r)
	}
	for _, r := range runs {
		r.until(t, limit, r.protocol.addrs(list[:3])...)
		r.load = startLoad(t, rate, r.call)
	}
	first := runs[0].load
	first.until(2 * time.Second)
	agent.Kill(t)
	first.until(2*time.Second + outage)
	agent.Restart(t)
	back := time.Now()
	for _, r := range runs {
		register(r.service, r.protocol.addr(late))
	}
	for _, r := range runs {
		least := r.until(t, limit-time.Since(back), r.protocol.addrs(list)...)
		t.Logf("%s: all 3 instances of before and a new one known %v after the agent was back, never fewer than %d",
			r.protocol.name, time.Since(back).Round(time.Millisecond), least)
	}
	<-time.After(time.Until(back.Add(limit)))
	for _, r := range runs {
		r.until(t, time.Second, r.protocol.addrs(list)...) // and so it stays
		result := r.load.stop()
		result.log(t, r.protocol.name+" Consul agent killed for "+outage.String())
		if result.ok < result.calls {
			t.Errorf("%s: %d of %d calls failed", r.protocol.name, result.calls-result.ok, result.calls)
		}
	}
}

// consulRun is a service that is found through Consul.
type consulRun struct {
	protocol protocol
	service  string
	call     caller
	load     *load
	changed  chan struct{} // holds a value after known has changed

	mu    sync.Mutex // guards what follows
	known []string   // addresses, sorted
	least int        // addresses in any set since the last that was waited for
}

// follow notes what the mesh knows of the service.
func (r *consulRun) follow(t *testing.T, m *zerohop.Mesh) {
	stop, err := m.Subscribe(r.service, func(e zerohop.Endpoints) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.known = nil
		for _, n := range e.Balancer.Set().Nodes() {
			r.known = append(r.known, n.Addr())
		}
		slices.Sort(r.known)
		r.least = min(r.least, len(r.known))
		select {
		case r.changed <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
}

// until waits until the mesh knows exactly the given addresses, and returns the least number that it knew since the last
// call of until.
func (r *consulRun) until(t *testing.T, limit time.Duration, want ...string) int {
	t.Helper()
	slices.Sort(want)
	expired := time.After(limit)
	for {
		r.mu.Lock()
		known, least := r.known, r.least
		if slices.Equal(known, want) {
			r.least = len(known)
			r.mu.Unlock()
			return least
		}
		r.mu.Unlock()
		select {
		case <-r.changed:
		case <-expired:
			t.Fatalf("%s: the mesh knows %v, want %v", r.protocol.name, known, want)
		}
	}
}

//go:build unix

package consul_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/consul"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/internal/consultest"
)

func TestResolverConformance(t *testing.T) {
	agent := consultest.Start(t, consultest.Options{})
	c := newClient(t, agent, "")
	discoverytest.Test(t, discoverytest.Source{
		Resolver: consul.Resolver{Client: c},
		Set:      func(t testing.TB, service string, set []discovery.Endpoint) { list(t, c, service, set) },
		Break:    agent.Kill,
		Heal:     agent.Restart,
		Timeout:  30 * time.Second,
	})
}

func TestRegisteredInstanceComesBackWhole(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Options{})
	c := newClient(t, agent, "")
	want := discovery.Endpoint{
		Addr: "[2001:db8::1]:8080", Weight: 7, Zone: "eu-1", Priority: 2, Meta: map[string]string{"version": "2"},
	}
	g := register(t, consul.Registrar{Client: c}, discovery.Instance{
		Service: "orders", Endpoint: want, Tags: []string{"blue", "new"},
	})
	tagged := follow(t, consul.Resolver{Client: c, Tags: []string{"new", "blue"}}, "orders")
	other := follow(t, consul.Resolver{Client: c, Tags: []string{"blue", "green"}}, "orders")
	set := tagged.until(want.Addr)
	want.Meta = map[string]string{"version": "2", "consul-tags": "blue,new"}
	if diff := cmp.Diff([]discovery.Endpoint{want}, set); diff != "" {
		t.Errorf("endpoint (-want +got):\n%s", diff)
	}
	other.until()

	if err := g.Close(t.Context()); err != nil {
		t.Errorf("Close() = %v", err)
	}
	if err := g.Close(t.Context()); err != nil {
		t.Errorf("second Close() = %v", err)
	}
	tagged.until()
}

func TestHealthFollowsHTTPCheck(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Options{})
	c := newClient(t, agent, "")
	var status atomic.Int32
	status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
	}))
	defer server.Close()
	addr := server.Listener.Addr().String()
	register(t, consul.Registrar{Client: c, Advertising: discovery.Advertising{AllowLoopback: true}}, discovery.Instance{
		Service:  "orders",
		Endpoint: discovery.Endpoint{Addr: addr, Weight: 9},
		Check:    discovery.Check{HTTP: server.URL, Interval: 200 * time.Millisecond},
	})
	passing := follow(t, consul.Resolver{Client: c}, "orders")
	all := follow(t, consul.Resolver{Client: c, IncludeFailing: true}, "orders")
	untilRated := func(weight uint32, health discovery.Health) {
		t.Helper()
		for {
			if ep := all.until(addr)[0]; ep.Weight == weight && ep.Health == health {
				return
			}
		}
	}
	passing.until(addr)
	untilRated(9, discovery.Healthy)

	status.Store(http.StatusInternalServerError)
	passing.until()
	untilRated(9, discovery.Unhealthy)

	status.Store(http.StatusTooManyRequests) // Consul's word for warning
	untilRated(1, discovery.Healthy)

	status.Store(http.StatusOK)
	passing.until(addr)

	id := "orders-" + addr
	if err := c.Agent().EnableServiceMaintenance(id, "test"); err != nil {
		t.Fatal(err)
	}
	passing.until()
	untilRated(9, discovery.Draining)
}

func TestLeaseIsRenewedUntilClose(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Options{})
	c := newClient(t, agent, "")
	const addr, ttl = "192.0.2.1:80", 3 * time.Second
	g := register(t, consul.Registrar{Client: c}, discovery.Instance{
		Service: "orders", Endpoint: discovery.Endpoint{Addr: addr}, Check: discovery.Check{TTL: ttl},
	})
	f := follow(t, consul.Resolver{Client: c}, "orders")
	f.until(addr)
	select {
	case set := <-f.sets:
		t.Errorf("the set became %v while the lease was renewed", set)
	case <-time.After(ttl + time.Second):
	}

	// The lease of a process that ends without a word runs out: this one has nobody to renew it.
	if err := g.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.until()
	err := c.Agent().ServiceRegister(&api.AgentServiceRegistration{
		Name: "orders", Address: "192.0.2.2", Port: 80,
		Check: &api.AgentServiceCheck{TTL: "1s", Status: api.HealthPassing},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.until("192.0.2.2:80")
	f.until()
}

func TestAgentLostAndRestarted(t *testing.T) {
	for name, check := range map[string]discovery.Check{
		"lease": {},
		"HTTP":  {HTTP: "http://192.0.2.1:80/", Interval: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agent := consultest.Start(t, consultest.Options{})
			c := newClient(t, agent, "")
			const addr = "192.0.2.1:80"
			failed := make(chan error, 1000)
			register(t, consul.Registrar{Client: c, OnError: func(err error) { failed <- err }}, discovery.Instance{
				Service: "orders", Endpoint: discovery.Endpoint{Addr: addr}, Check: check,
			})
			f := followWith(t, consul.Resolver{Client: c, IncludeFailing: true}, "orders", discovery.RunOptions{})
			f.until(addr)

			agent.Kill(t)
			errs := []error{f.failure(), f.failure()}
			for range 4 { // an outage that lasts long enough for the pauses to grow
				errs = append(errs, <-failed)
			}
			for _, err := range errs {
				if err == nil || !strings.Contains(err.Error(), agent.Addr()) {
					t.Errorf("error %v does not name %s", err, agent.Addr())
				}
				if _, ok := errors.AsType[*discovery.RefusedError](err); ok {
					t.Errorf("error %v says that the agent refused, want that it is not reached", err)
				}
			}
			agent.Restart(t)
			passing := follow(t, consul.Resolver{Client: c}, "orders")
			back := time.Now()
			listed(t, c, "orders", addr)
			registered := time.Now()
			passing.until(addr)
			if got := registered.Sub(back); got > 2*time.Second {
				t.Errorf("registered again %v after the agent was back, want at most 2 s", got)
			}
			if got := time.Since(registered); got > 2*time.Second {
				t.Errorf("found %v after it was registered again, want at most 2 s", got)
			}
			t.Logf("registered again after %v, found %v later", registered.Sub(back), time.Since(registered))
			// The catalog was empty for a moment; the set never was.
			for len(f.sets) > 0 {
				if got := addrsOf(<-f.sets); !slices.Equal(got, []string{addr}) {
					t.Errorf("the set became %v", got)
				}
			}
		})
	}
}

func TestCloseIsBoundAndCanBeRepeated(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Options{})
	c := newClient(t, agent, "")
	const addr = "192.0.2.1:80"
	g := register(t, consul.Registrar{Client: c}, discovery.Instance{
		Service: "orders", Endpoint: discovery.Endpoint{Addr: addr},
	})
	f := follow(t, consul.Resolver{Client: c}, "orders")
	f.until(addr)
	agent.Stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := g.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close() with a frozen agent = %v, want %v", err, context.DeadlineExceeded)
	}
	agent.Cont(t)
	if err := g.Close(t.Context()); err != nil {
		t.Errorf("Close() = %v after the agent went on", err)
	}
	f.until()
}

func TestDeniedTokens(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Options{ACL: true})
	admin := newClient(t, agent, consultest.ManagementToken)
	const addr = "192.0.2.1:80"
	inst := discovery.Instance{Service: "orders", Endpoint: discovery.Endpoint{Addr: addr}}
	register(t, consul.Registrar{Client: admin}, inst)
	limited := token(t, admin, `service "invoices" { policy = "write" }`)
	const unknown = "00000000-1111-2222-3333-444444444444"

	for name, secret := range map[string]string{"none": "", "unknown": unknown, "limited": limited} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, agent, secret)
			watched := consul.Resolver{Client: c}.Watch(t.Context(), "orders", func([]discovery.Endpoint) {
				t.Error("a set came without permission")
			})
			_, registered := consul.Registrar{Client: c}.Register(t.Context(), inst)
			for what, err := range map[string]error{"Watch": watched, "Register": registered} {
				refused, ok := errors.AsType[*discovery.RefusedError](err)
				if !ok || !refused.Denied {
					t.Fatalf("%s() = %v, want a denial", what, err)
				}
				for _, want := range []string{agent.Addr(), "permission denied"} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s() = %q, want %q in it", what, err, want)
					}
				}
				if secret != "" && strings.Contains(err.Error(), secret) {
					t.Errorf("%s() = %q contains the token", what, err)
				}
				t.Logf("%s() = %v", what, err)
			}
		})
	}

	t.Run("replaced", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "token")
		write(t, file, unknown)
		f := follow(t, consul.Resolver{Client: newClient(t, agent, ""), TokenFile: file}, "orders")
		if err := f.failure(); !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("watch failed with %v, want a denial", err)
		}
		write(t, file, token(t, admin, `service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`))
		start := time.Now()
		f.until(addr)
		if got := time.Since(start); got > 2*time.Second {
			t.Errorf("the service was found %v after the token was replaced, want at most 2 s", got)
		}
	})
}

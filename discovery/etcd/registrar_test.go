//go:build unix

package etcd_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/etcd"
	"github.com/zerohop/zerohop/internal/etcdtest"
)

const ordersAddr = "192.0.2.1:8080"

var orders = discovery.Instance{
	Service: "orders", Endpoint: discovery.Endpoint{Addr: ordersAddr}, Check: discovery.Check{TTL: 3 * time.Second},
}

func register(t testing.TB, r etcd.Registrar, inst discovery.Instance) discovery.Registration {
	t.Helper()
	g, err := r.Register(t.Context(), inst)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = g.Close(ctx) // fails where the test has killed the server
	})
	return g
}

func TestRegisteredInstanceComesBackWhole(t *testing.T) {
	t.Parallel()
	c := newClient(t, etcdtest.Start(t, etcdtest.Options{}))
	want := discovery.Endpoint{
		Addr: "[2001:db8::1]:8080", Weight: 7, Zone: "eu-1", Priority: 2, Health: discovery.Draining, Meta: map[string]string{"version": "2"},
	}
	g := register(t, etcd.Registrar{Client: c, Prefix: "mesh"}, discovery.Instance{Service: "orders", Endpoint: want, Tags: []string{"blue", "new"}})
	f := follow(t, etcd.Resolver{Client: c, Prefix: "mesh/"}, "orders")
	set := f.until(want.Addr)
	want.Meta = map[string]string{"version": "2", "tags": "blue,new"}
	if diff := cmp.Diff([]discovery.Endpoint{want}, set); diff != "" {
		t.Errorf("endpoint (-want +got):\n%s", diff)
	}
	for n := range 2 {
		if err := g.Close(t.Context()); err != nil {
			t.Errorf("Close() number %d = %v", n+1, err)
		}
	}
	f.until()
}

// Whatever happens to the entry or to the server, the instance is back within 2 s after the server serves.
func TestRegistrarComesBack(t *testing.T) {
	revoke := func(t *testing.T, c *clientv3.Client) {
		leases, err := c.Leases(t.Context())
		if err != nil || len(leases.Leases) != 1 {
			t.Fatalf("leases are %v, %v, want one", leases, err)
		}
		if _, err := c.Revoke(t.Context(), leases.Leases[0].ID); err != nil {
			t.Fatal(err)
		}
	}
	for name, hurt := range map[string]func(*testing.T, *etcdtest.Server, *clientv3.Client){
		"restarted": func(t *testing.T, s *etcdtest.Server, _ *clientv3.Client) { s.Kill(t); s.Restart(t) },
		"restarted without its data": func(t *testing.T, s *etcdtest.Server, _ *clientv3.Client) {
			s.Kill(t)
			s.Wipe(t)
			s.Restart(t)
		},
		"lease revoked": func(t *testing.T, _ *etcdtest.Server, c *clientv3.Client) { revoke(t, c) },
		"key removed": func(t *testing.T, _ *etcdtest.Server, c *clientv3.Client) {
			if _, err := c.Delete(t.Context(), "orders/", clientv3.WithPrefix()); err != nil {
				t.Fatal(err)
			}
		},
		"frozen for longer than the lease": func(t *testing.T, s *etcdtest.Server, _ *clientv3.Client) {
			s.Stop(t)
			<-time.After(4 * time.Second)
			s.Cont(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := etcdtest.Start(t, etcdtest.Options{})
			c := newClient(t, server)
			g := register(t, etcd.Registrar{Client: c, OnError: func(err error) { t.Logf("told: %v", err) }}, orders)
			hurt(t, server, c)
			healed := time.Now()
			// The next renewal is at most a second away.
			for there := 0; there == 0; {
				resp, err := c.Get(t.Context(), "orders/", clientv3.WithPrefix())
				if err == nil {
					there = len(resp.Kvs)
				}
				if since := time.Since(healed); since > 2*time.Second+patience/2 {
					t.Fatalf("not back after %v", since)
				}
			}
			t.Logf("back after %v", time.Since(healed))
			if err := g.Close(t.Context()); err != nil {
				t.Errorf("Close() = %v", err)
			}
			if resp, err := c.Get(t.Context(), "orders/", clientv3.WithPrefix()); err != nil || len(resp.Kvs) > 0 {
				t.Errorf("after Close there are %v, %v", resp, err)
			}
		})
	}
}

func TestRegistrarLeavesTheKeyToTheLast(t *testing.T) {
	t.Parallel()
	c := newClient(t, etcdtest.Start(t, etcdtest.Options{}))
	var failed atomic.Int64
	r := etcd.Registrar{Client: c, OnError: func(error) { failed.Add(1) }}
	inst := orders
	inst.ID = "one"
	first := register(t, r, inst)
	inst.Endpoint.Addr = "192.0.2.2:8080"
	second := register(t, r, inst)
	f := follow(t, etcd.Resolver{Client: c}, "orders")
	f.until("192.0.2.2:8080")
	<-time.After(1200 * time.Millisecond) // a renewal of both
	if len(f.sets) > 0 || failed.Load() > 0 {
		t.Errorf("%d changes and %d errors while two have the same key, want none", len(f.sets), failed.Load())
	}
	if err := second.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.until(ordersAddr)
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.until()
}

func TestRegisterNamesTheWrongFields(t *testing.T) {
	c := newClientOf(t, clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	_, err := etcd.Registrar{Client: c}.Register(t.Context(), discovery.Instance{
		ID: "a/b", Endpoint: discovery.Endpoint{Addr: "nowhere"}, Check: discovery.Check{TTL: time.Second, HTTP: "http://a"},
	})
	for _, want := range []string{"Instance.Service", "Instance.ID", "Instance.Endpoint.Addr", "Instance.Check: HTTP", "Instance.Check.TTL"} {
		if !errors.Is(err, discovery.ErrInvalidInstance) || !strings.Contains(err.Error(), want) {
			t.Errorf("Register() = %v, want %v that names %s", err, discovery.ErrInvalidInstance, want)
		}
	}
	boom := errors.New("boom")
	if _, err := (etcd.Registrar{Client: c, Encode: func(discovery.Instance) ([]byte, error) { return nil, boom }}).Register(t.Context(), orders); !errors.Is(err, boom) || !errors.Is(err, discovery.ErrInvalidInstance) {
		t.Errorf("Register() = %v, want %v as %v", err, boom, discovery.ErrInvalidInstance)
	}
	if _, err := (etcd.Registrar{}).Register(t.Context(), orders); !errors.Is(err, discovery.ErrInvalidInstance) || !strings.Contains(err.Error(), "Registrar.Client") {
		t.Errorf("Register() = %v, want %v that names the client", err, discovery.ErrInvalidInstance)
	}
}

//go:build unix

package consul_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/consul"
	"github.com/zerohop/zerohop/internal/consultest"
)

// Three servers with ACLs and certificates: watches in all modes and leases outlive the leader.
func TestClusterLosesItsLeader(t *testing.T) {
	t.Parallel()
	const first, second, third = "192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"
	cluster := consultest.StartCluster(t)
	leader, others := cluster.Leader(t)
	clients := []*api.Client{
		newClient(t, others[0], consultest.ManagementToken), newClient(t, others[1], consultest.ManagementToken),
	}
	instance := func(c *api.Client, addr string) discovery.Registration {
		return register(t, consul.Registrar{Client: c}, discovery.Instance{
			Service: "orders", Endpoint: discovery.Endpoint{Addr: addr}, Check: discovery.Check{TTL: 3 * time.Second},
		})
	}
	instance(clients[0], first)
	instance(clients[1], second)
	modes := map[string]consul.Resolver{
		"default": {Client: clients[0]},
		"other":   {Client: clients[1]},
		"stale":   {Client: clients[0], AllowStale: true},
		"cached":  {Client: clients[1], UseCache: true},
		"failing": {Client: clients[0], IncludeFailing: true},
	}
	watches := map[string]*follower{}
	for mode, r := range modes {
		watches[mode] = follow(t, r, "orders")
		watches[mode].until(first, second)
	}

	start := time.Now()
	leader.Kill(t)
	// A server that takes the instance has no leader to tell until there is one.
	var g discovery.Registration
	for g == nil {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		made, err := consul.Registrar{Client: clients[1]}.Register(ctx, discovery.Instance{
			Service: "orders", Endpoint: discovery.Endpoint{Addr: third},
		})
		cancel()
		if err == nil {
			g = made
		} else if time.Since(start) > patience {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = g.Close(context.Background()) })
	taken := time.Since(start)
	for _, c := range clients {
		listed(t, c, "orders", first, second, third)
	}
	led := time.Now()
	for mode, f := range watches {
		for set := addrsOf(<-f.sets); !slices.Equal(set, []string{first, second, third}); set = addrsOf(<-f.sets) {
			t.Errorf("%s: the set became %v", mode, set)
		}
		if got := time.Since(led); got > 2*time.Second {
			t.Errorf("%s: the set is true %v after there is a leader, want at most 2 s", mode, got)
		}
	}
	t.Logf("registered %v after the leader was killed, listed after %v, all watches %v later", taken, led.Sub(start), time.Since(led))

	if err := g.Close(t.Context()); err != nil {
		t.Errorf("Close() = %v", err)
	}
	for mode, f := range watches {
		for set := addrsOf(<-f.sets); !slices.Equal(set, []string{first, second}); set = addrsOf(<-f.sets) {
			t.Errorf("%s: the set became %v", mode, set)
		}
	}
}

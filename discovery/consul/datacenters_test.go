//go:build unix

package consul_test

import (
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/consul"
	"github.com/zerohop/zerohop/internal/consultest"
)

// Two datacenters: while the local one has no instance, those of the other are used, also when that is lost.
func TestFailoverToAnotherDatacenter(t *testing.T) {
	t.Parallel()
	const near, far = "192.0.2.1:80", "192.0.2.2:80"
	local := consultest.Start(t, consultest.Options{Zone: "eu-1"})
	remote := consultest.Start(t, consultest.Options{Datacenter: "dc2", Join: local})
	c, other := newClient(t, local, ""), newClient(t, remote, "")
	list(t, c, "orders", []discovery.Endpoint{{Addr: near}})
	list(t, other, "orders", []discovery.Endpoint{{Addr: far}})
	known := func() bool {
		names, err := c.Catalog().Datacenters()
		return err == nil && len(names) == 2
	}
	for late := time.Now().Add(patience); !known(); {
		if time.Now().After(late) {
			t.Fatalf("the datacenters do not know each other after %v", patience)
		}
		<-time.After(20 * time.Millisecond)
	}

	r := consul.Resolver{Client: c, Failover: []string{"no-such-datacenter", "dc2"}}
	if zone, err := r.Zone(t.Context()); zone != "eu-1" || err != nil {
		t.Errorf("Zone() = %q, %v, want that of the agent", zone, err)
	}
	f := follow(t, r, "orders")
	f.until(near)
	list(t, c, "orders", nil)
	start := time.Now()
	set := f.until(far)
	if set[0].Priority != 2 || set[0].Meta["consul-datacenter"] != "dc2" {
		t.Errorf("endpoint of the other datacenter is %+v, want priority 2 and its name", set[0])
	}
	t.Logf("failed over within %v", time.Since(start))
	// The other datacenter is lost: what it said stays.
	remote.Kill(t)
	err := c.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "orders", Address: "192.0.2.3", Port: 80})
	if err != nil {
		t.Fatal(err)
	}
	for {
		got := addrsOf(<-f.sets)
		if len(got) == 1 && got[0] == "192.0.2.3:80" {
			return
		}
		if len(got) != 1 || got[0] != far {
			t.Errorf("the set became %v, want %s until the local one is back", got, far)
		}
	}
}

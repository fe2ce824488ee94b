//go:build unix

package outage

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery/etcd"
	"github.com/zerohop/zerohop/internal/etcdtest"
)

func etcdFaults(t *testing.T) map[string]build {
	shared := etcdtest.Start(t, etcdtest.Options{})
	// with returns a cell behind a gate that can have a fault.
	with := func(f func(service string) rpcFault, change func(*cell)) build {
		return func(t *testing.T, service string) *cell {
			g := newRPCGate(t, "passthrough:///"+shared.Addr())
			c := etcdCell(t, shared, service, g.door.addr.String())
			c.begin, c.heal = g.begin(f(service)), g.heal
			if change != nil {
				change(c)
			}
			return c
		}
	}
	always := func(f rpcFault) func(string) rpcFault { return func(string) rpcFault { return f } }
	return map[string]build{
		"stopped": func(t *testing.T, service string) *cell {
			g := newRPCGate(t, "passthrough:///"+shared.Addr())
			c := etcdCell(t, shared, service, g.door.addr.String())
			c.begin, c.heal = g.door.shut, g.door.reopen
			return c
		},
		"killed": func(t *testing.T, service string) *cell {
			server := etcdtest.Start(t, etcdtest.Options{})
			c := etcdCell(t, server, service, server.Addr())
			c.begin, c.heal, c.mute = server.Kill, server.Restart, true
			return c
		},
		"wiped": func(t *testing.T, service string) *cell {
			server := etcdtest.Start(t, etcdtest.Options{})
			c := etcdCell(t, server, service, server.Addr())
			c.begin, c.mute = func(t testing.TB) { server.Kill(t); server.Wipe(t) }, true
			c.heal = server.Restart
			return c
		},
		"frozen": func(t *testing.T, service string) *cell {
			server := etcdtest.Start(t, etcdtest.Options{})
			c := etcdCell(t, server, service, server.Addr())
			c.begin, c.heal, c.mute = server.Stop, server.Cont, true
			return c
		},
		"deaf": func(t *testing.T, service string) *cell {
			g := newRPCGate(t, "passthrough:///"+shared.Addr())
			c := etcdCell(t, shared, service, g.door.addr.String())
			c.begin, c.over, c.bound = g.door.deafen, true, unnoticed
			return c
		},
		"garbage":   with(always(rpcFault{from: spoil()}), nil),
		"throttled": with(always(rpcFault{refusal: errThrottled}), func(c *cell) { c.bound = refused }),
		// A service of another name answers.
		"empty": with(func(service string) rpcFault {
			none := strings.ToUpper(service)
			return rpcFault{to: swap(service, none), from: swap(none, service)}
		}, func(c *cell) { c.trust = zerohop.Discovery{EmptyGrace: 2 * lasting} }),
		"stale": with(func(service string) rpcFault {
			old := strings.ToUpper(service)
			return rpcFault{to: swap(service, old), from: swap(old, service)}
		}, func(c *cell) {
			begin := c.begin
			c.begin = func(t testing.TB) {
				setEtcd(t, shared, strings.ToUpper(c.service), c.addrs)
				begin(t)
			}
		}),
	}
}

// etcdCell returns a cell without a fault that asks at addr.
func etcdCell(t *testing.T, server *etcdtest.Server, service, addr string) *cell {
	t.Helper()
	c := &cell{
		list:     func(t testing.TB, addrs []string) { setEtcd(t, server, service, addrs) },
		requests: new(atomic.Int64),
	}
	client, err := etcd.NewClient(clientv3.Config{
		Endpoints: []string{addr}, DialOptions: []grpc.DialOption{grpc.WithStatsHandler(counter{c.requests})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // fails with the reason it was given: closed
	c.resolver = etcd.Resolver{Client: client}
	return c
}

// setEtcd makes the server list exactly the addresses for service.
func setEtcd(t testing.TB, server *etcdtest.Server, service string, addrs []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := etcd.NewClient(clientv3.Config{Endpoints: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	listed, err := client.Get(ctx, service+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	gone := map[string]bool{}
	for _, kv := range listed.Kvs {
		gone[string(kv.Key)] = true
	}
	for _, addr := range addrs {
		key := service + "/" + addr
		if _, err := client.Put(ctx, key, addr); err != nil {
			t.Fatal(err)
		}
		delete(gone, key)
	}
	for key := range gone {
		if _, err := client.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
}

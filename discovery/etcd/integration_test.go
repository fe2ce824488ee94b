//go:build unix

package etcd_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/discovery/etcd"
	"github.com/zerohop/zerohop/internal/etcdtest"
)

func TestResolverConformance(t *testing.T) {
	server := etcdtest.Start(t, etcdtest.Options{})
	c := newClient(t, server)
	discoverytest.Test(t, discoverytest.Source{
		Resolver: etcd.Resolver{Client: c},
		Set:      func(t testing.TB, service string, set []discovery.Endpoint) { list(t, c, service+"/", set) },
		Break:    server.Kill,
		Heal:     server.Restart,
		Timeout:  30 * time.Second,
	})
}

func TestResolverUnderstandsOtherLibraries(t *testing.T) {
	t.Parallel()
	c := newClient(t, etcdtest.Start(t, etcdtest.Options{}))
	put(t, c,
		"orders/7587870", "192.0.2.1:80",
		"orders/b", `{"Op":0,"Addr":"192.0.2.2:80","Metadata":null}`,
		"orders/deep/c", "192.0.2.3:80",
		"orders-b/d", "192.0.2.4:80",
		"orders", "192.0.2.5:80",
		"/microservices/orders/f", `{"endpoints":["grpc://192.0.2.6:80?isSecure=false","http://192.0.2.7:80"]}`,
		"kitex/registry-etcd/orders/192.0.2.8:80", `{"network":"tcp","address":"192.0.2.8:80","weight":10}`,
		"mine/orders/x", "anything",
	)
	follow(t, etcd.Resolver{Client: c}, "orders").until("192.0.2.1:80", "192.0.2.2:80")
	follow(t, etcd.Resolver{Client: c}, "orders/deep").until("192.0.2.3:80")
	follow(t, etcd.Resolver{Client: c, Prefix: etcd.KratosPrefix, Scheme: "grpc"}, "orders").until("192.0.2.6:80")
	follow(t, etcd.Resolver{Client: c, Prefix: etcd.KitexPrefix}, "orders").until("192.0.2.8:80")
	follow(t, etcd.Resolver{Client: c, Prefix: "mine", Decode: func(key string, value []byte) (discovery.Endpoint, error) {
		if key != "mine/orders/x" || string(value) != "anything" {
			t.Errorf("Decode(%q, %q)", key, value)
		}
		return discovery.Endpoint{Addr: "192.0.2.9:80"}, nil
	}}, "orders").until("192.0.2.9:80")

	f := follow(t, etcd.Resolver{Client: c, Prefix: etcd.KratosPrefix}, "orders")
	if e := f.event(discovery.EventAnswerRejected, patience); !strings.Contains(e.Err.Error(), "Resolver.Scheme") {
		t.Errorf("a value with two URLs is rejected with %v, want the field that chooses", e.Err)
	}
}

func TestResolverOutlivesItsServer(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t, etcdtest.Options{})
	c := newClient(t, server)
	f := follow(t, etcd.Resolver{Client: c}, "orders")
	f.until()
	put(t, c, "orders/a", "192.0.2.1:80")
	f.until("192.0.2.1:80")
	// recovered changes the set and returns how long that took to show.
	recovered := func(what, addr string) {
		t.Helper()
		healed := time.Now()
		put(t, c, "orders/a", addr)
		f.until(addr)
		took := time.Since(healed)
		t.Logf("%s: seen after %v", what, took)
		if took > 2*time.Second {
			t.Errorf("%s: the change was seen after %v, want 2s", what, took)
		}
	}
	server.Kill(t)
	f.event(discovery.EventWatchFailed, time.Second)
	server.Restart(t)
	recovered("killed", "192.0.2.2:80")

	server.Kill(t)
	server.Wipe(t)
	server.Restart(t)
	recovered("killed and without its data", "192.0.2.3:80")

	server.Stop(t)
	<-time.After(time.Second)
	server.Cont(t)
	recovered("frozen", "192.0.2.4:80")
}

// The first value that is decoded makes history move on and be forgotten between list and watch.
func TestResolverListsAgainAfterCompaction(t *testing.T) {
	t.Parallel()
	c := newClient(t, etcdtest.Start(t, etcdtest.Options{}))
	put(t, c, "orders/a", "192.0.2.1:80")
	var once sync.Once
	f := follow(t, etcd.Resolver{Client: c, Decode: func(_ string, value []byte) (discovery.Endpoint, error) {
		once.Do(func() {
			put(t, c, "orders/b", "192.0.2.2:80", "orders/a", "192.0.2.3:80", "orders/c", "192.0.2.4:80")
			resp, err := c.Get(t.Context(), "orders/a")
			if err == nil {
				_, err = c.Compact(t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical())
			}
			if err != nil {
				t.Error(err)
			}
		})
		return discovery.Endpoint{Addr: string(value)}, nil
	}}, "orders")
	f.until("192.0.2.1:80")
	start := time.Now()
	f.until("192.0.2.2:80", "192.0.2.3:80", "192.0.2.4:80")
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("listed again after %v, want at once", took)
	}
	for len(f.events) > 0 {
		if e := <-f.events; e.Kind == discovery.EventWatchFailed {
			t.Errorf("the watch failed: %v", e.Err)
		}
	}
}

func TestResolverNoticesLossOfTheLeader(t *testing.T) {
	t.Parallel()
	servers := etcdtest.StartCluster(t, 3, etcdtest.Options{})
	all := newClient(t, servers...)
	put(t, all, "orders/a", "192.0.2.1:80")
	// This one can reach only a server that will be cut off.
	f := follow(t, etcd.Resolver{Client: newClient(t, servers[0])}, "orders")
	f.until("192.0.2.1:80")
	servers[1].Kill(t)
	servers[2].Kill(t)
	e := f.event(discovery.EventWatchFailed, patience)
	t.Logf("watch: %v", e.Err)
	if e.Endpoints != 1 {
		t.Errorf("%d endpoints are left, want the last good set", e.Endpoints)
	}
	servers[1].Restart(t)
	healed := time.Now()
	put(t, newClient(t, servers[1]), "orders/a", "192.0.2.2:80")
	f.until("192.0.2.2:80")
	t.Logf("seen after %v", time.Since(healed))
}

func TestResolverWithAuthentication(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t, etcdtest.Options{Args: []string{"--bcrypt-cost", "4"}})
	root := newClient(t, server)
	ctx := t.Context()
	put(t, root, "orders/a", "192.0.2.1:80", "secret/a", "192.0.2.9:80")
	_, err1 := root.UserAdd(ctx, "root", "r")
	_, err2 := root.UserGrantRole(ctx, "root", "root")
	_, err3 := root.UserAdd(ctx, "mesh", "m")
	_, err4 := root.RoleAdd(ctx, "reader")
	_, err5 := root.RoleGrantPermission(ctx, "reader", "orders/", clientv3.GetPrefixRangeEnd("orders/"), clientv3.PermissionType(clientv3.PermRead))
	_, err6 := root.UserGrantRole(ctx, "mesh", "reader")
	_, err7 := root.AuthEnable(ctx)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		t.Fatal(err)
	}
	mesh := newClientOf(t, clientv3.Config{Username: "mesh", Password: "m"}, server)
	f := follow(t, etcd.Resolver{Client: mesh}, "orders")
	f.until("192.0.2.1:80")
	plain, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Addr()}, Username: "mesh", Password: "m", Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for name, r := range map[string]struct {
		client  *clientv3.Client
		service string
		want    bool
	}{
		"other service":             {mesh, "secret", true},
		"other service, plain":      {plain, "secret", true},
		"wrong password":            {newClientOf(t, clientv3.Config{Username: "mesh", Password: "hunter2"}, server), "orders", true},
		"unknown user":              {newClientOf(t, clientv3.Config{Username: "nobody", Password: "m"}, server), "orders", true},
		"nobody":                    {newClient(t, server), "orders", true},
		"client without connection": {clientv3.NewCtxClient(ctx), "orders", false},
	} {
		err := etcd.Resolver{Client: r.client}.Watch(ctx, r.service, func([]discovery.Endpoint) { t.Errorf("%s: got a set", name) })
		refused, ok := errors.AsType[*discovery.RefusedError](err)
		if denied := ok && refused.Denied; denied != r.want || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: Watch() = %v, want denied: %v", name, err, r.want)
		}
	}
	// With the server, tokens are gone: they are in memory.
	server.Kill(t)
	f.event(discovery.EventWatchFailed, time.Second)
	server.Restart(t)
	writer := newClientOf(t, clientv3.Config{Username: "root", Password: "r"}, server)
	put(t, writer, "orders/a", "192.0.2.2:80")
	f.until("192.0.2.2:80")
}

func TestResolverSharesOneStream(t *testing.T) {
	server := etcdtest.Start(t, etcdtest.Options{})
	c := newClient(t, server)
	const services = 200
	var pairs []string
	for n := range services {
		pairs = append(pairs, fmt.Sprintf("s%d/a", n), "192.0.2.1:80")
	}
	put(t, c, pairs...)
	first := follow(t, etcd.Resolver{Client: c}, "s0")
	first.until("192.0.2.1:80")
	before := runtime.NumGoroutine()
	var all []*follower
	for n := range services {
		all = append(all, follow(t, etcd.Resolver{Client: c}, fmt.Sprintf("s%d", n)))
	}
	for _, f := range all {
		f.until("192.0.2.1:80")
	}
	if each := float64(runtime.NumGoroutine()-before) / services; each > 1.1 {
		t.Errorf("%.2f goroutines for each service, want one: that of Run", each)
	}
	put(t, c, "s7/a", "192.0.2.2:80", "s199/a", "192.0.2.3:80")
	all[7].until("192.0.2.2:80")
	all[199].until("192.0.2.3:80")
}

func TestResolverWithTenThousandKeys(t *testing.T) {
	t.Parallel()
	c := newClient(t, etcdtest.Start(t, etcdtest.Options{}))
	var ops []clientv3.Op
	for n := range 10_000 {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("orders/%d", n), fmt.Sprintf(`{"Addr":"10.0.%d.%d:80"}`, n/250, n%250+1)))
	}
	for part := range slices.Chunk(ops, 125) {
		if _, err := c.Txn(t.Context()).Then(part...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	put(t, c, "orders/0", "garbage", "orders/1", `{"Addr":"169.254.169.254:80"}`)
	f := follow(t, etcd.Resolver{Client: c}, "orders")
	e := f.event(discovery.EventEndpointsDropped, patience)
	if set := <-f.sets; len(set) != 9998 {
		t.Errorf("%d endpoints, want 9998: %v", len(set), e)
	}
}

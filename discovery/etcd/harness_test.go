//go:build unix

package etcd_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/etcd"
	"github.com/zerohop/zerohop/internal/etcdtest"
)

// patience is how long things may take that have no bound of their own.
const patience = 15 * time.Second

func newClient(t testing.TB, servers ...*etcdtest.Server) *clientv3.Client {
	t.Helper()
	return newClientOf(t, clientv3.Config{}, servers...)
}

func newClientOf(t testing.TB, config clientv3.Config, servers ...*etcdtest.Server) *clientv3.Client {
	t.Helper()
	for _, s := range servers {
		config.Endpoints = append(config.Endpoints, s.Addr())
	}
	c, err := etcd.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // fails with the reason it was given: closed
	return c
}

// put writes keys and values in turn.
func put(t testing.TB, c *clientv3.Client, pairs ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i := 0; i < len(pairs); i += 2 {
		if _, err := c.Put(ctx, pairs[i], pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
}

// list makes etcd list exactly the given endpoints below prefix.
func list(t testing.TB, c *clientv3.Client, prefix string, set []discovery.Endpoint) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stay := make(map[string]bool)
	for _, ep := range set {
		value, err := json.Marshal(map[string]any{"Addr": ep.Addr})
		if err != nil {
			t.Fatal(err)
		}
		stay[prefix+ep.Addr] = true
		put(t, c, prefix+ep.Addr, string(value))
	}
	resp, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		if !stay[string(kv.Key)] {
			if _, err := c.Delete(ctx, string(kv.Key)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// follow runs discovery of service until the test ends. It believes empty and smaller answers at once.
func follow(t testing.TB, r discovery.Resolver, service string) *follower {
	return followWith(t, r, service, discovery.RunOptions{EmptyGrace: -1})
}

func followWith(t testing.TB, r discovery.Resolver, service string, opts discovery.RunOptions) *follower {
	f := &follower{t: t, sets: make(chan []discovery.Endpoint, 1000), events: make(chan discovery.Event, 1000)}
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

// event waits for the next event of a kind.
func (f *follower) event(kind discovery.EventKind, within time.Duration) discovery.Event {
	f.t.Helper()
	late := time.After(within)
	for {
		select {
		case e := <-f.events:
			if e.Kind == kind {
				return e
			}
		case <-late:
			f.t.Fatalf("no event %q within %v", kind, within)
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

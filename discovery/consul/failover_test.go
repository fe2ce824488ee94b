package consul

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/consulapi"
)

// world is an agent that knows several datacenters.
type world struct {
	mu      sync.Mutex // guards all below
	index   int
	body    map[string]string // by datacenter; missing: no path to it
	changed chan struct{}
	asked   map[string]int
}

func (a *world) set(dc, body string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index++
	if a.body[dc] = body; body == "" {
		delete(a.body, dc)
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *world) requests(dc string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[dc]
}

func (a *world) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	dc := req.FormValue("dc")
	a.mu.Lock()
	a.asked[dc]++
	changed := a.changed
	a.mu.Unlock()
	if req.FormValue("index") != "" {
		select {
		case <-changed:
		case <-time.After(consulapi.WaitTime):
		case <-req.Context().Done():
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	body, ok := a.body[dc]
	if !ok {
		http.Error(w, "No path to datacenter", http.StatusInternalServerError)
		return
	}
	respond(w, fmt.Sprint(a.index+1), body)
}

// levels lists the instances of a set with their priorities.
func levels(set []discovery.Endpoint) string {
	list := make([]string, len(set))
	for i, ep := range set {
		list[i] = fmt.Sprintf("%s/%d%s", strings.TrimPrefix(ep.Addr, "192.0.2.1:"), ep.Priority, ep.Meta[datacenterKey])
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestFailoverGoesThroughTheDatacentersInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &world{body: map[string]string{"": instances(1), "b": instances(2), "c": instances(3)}, changed: make(chan struct{}), asked: map[string]int{}}
		var mu sync.Mutex
		var got []string
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- Resolver{Client: client(t, a.ServeHTTP), Failover: []string{"b", "c"}}.Watch(ctx, "orders", func(set []discovery.Endpoint) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, levels(set))
			})
		}()
		// step changes a datacenter and wants the sets that follow, without the same twice in a row.
		step := func(dc, body string, want ...string) {
			t.Helper()
			mu.Lock()
			got = got[len(got)-1:]
			mu.Unlock()
			a.set(dc, body)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got = slices.Compact(got); !slices.Equal(got[1:], want) {
				t.Errorf("%q with %s: sets are %q, want %q", dc, body, got[1:], want)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got[0] != "1/0" || a.requests("b")+a.requests("c") != 0 {
			t.Errorf("set is %q after %d requests of other datacenters, want the local one and none", got, a.requests("b")+a.requests("c"))
		}
		step("", "[]", "2/1b")
		if n := a.requests("c"); n != 0 {
			t.Errorf("%d requests of the third datacenter, want none while the second has instances", n)
		}
		step("b", instances(2, 4), "2/1b 4/1b")
		step("b", "[]", "3/2c")
		step("c", "[]", "")
		step("b", instances(5), "5/1b")
		step("", instances(1), "1/0")
		before := a.requests("b") + a.requests("c")
		step("b", instances(6))
		if n := a.requests("b") + a.requests("c") - before; n != 0 {
			t.Errorf("%d requests of other datacenters after the local one was back, want none", n)
		}
		cancel()
		<-done
	})
}

func TestFailoverPassesOverBrokenDatacenters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &world{body: map[string]string{"": "[]", "c": instances(3)}, changed: make(chan struct{}), asked: map[string]int{}}
		ctx, cancel := context.WithCancel(t.Context())
		sets := make(chan string, 100)
		done := make(chan error)
		errs := make(chan error, 1000)
		go func() {
			r := Resolver{Client: client(t, a.ServeHTTP), Failover: []string{"b", "c"}, OnError: func(err error) { errs <- err }}
			done <- r.Watch(ctx, "orders", func(set []discovery.Endpoint) {
				sets <- levels(set)
			})
		}()
		if got, want := <-sets, "3/2c"; got != want {
			t.Errorf("first set is %q, want %q", got, want)
		}
		select { // before the set
		case err := <-errs:
			for _, part := range []string{`Resolver.Failover "b"`, "No path to datacenter"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("OnError was told %v, want %q in it", err, part)
				}
			}
		default:
			t.Error("OnError was told nothing of a datacenter that does not exist")
		}
		a.set("b", instances(2))
		for got := range sets {
			if got == "2/1b" {
				break
			}
			if got != "3/2c" {
				t.Errorf("the set became %q before the second datacenter answered", got)
			}
		}
		a.set("b", "") // what it said stays
		time.Sleep(time.Minute)
		synctest.Wait()
		for len(sets) > 0 {
			if got := <-sets; got != "2/1b" {
				t.Errorf("the set became %q when the second datacenter was cut off", got)
			}
		}
		if n := a.requests("b"); n > 100 {
			t.Errorf("%d requests of a broken datacenter in about a minute, want one a second at most", n)
		}
		cancel()
		<-done
	})
}

func TestFailoverKeepsFailingInstancesBehind(t *testing.T) {
	c := newChain(Resolver{Failover: []string{"b", "c"}}, "orders", nil)
	c.levels[0].set = []discovery.Endpoint{{Addr: "192.0.2.1:1", Priority: 3, Health: discovery.Unhealthy}}
	c.levels[1].set = []discovery.Endpoint{{Addr: "192.0.2.1:2", Priority: 255}}
	c.levels[2].set = []discovery.Endpoint{{Addr: "192.0.2.1:3", Meta: map[string]string{"a": "b"}}}
	if got, want := levels(c.join()), "1/3 2/255b 3/255c"; got != want {
		t.Errorf("joined set is %q, want %q", got, want)
	}
	if len(c.levels[2].set[0].Meta) != 1 {
		t.Error("the metadata of an instance was changed")
	}
}

func TestFailoverRejectsNames(t *testing.T) {
	c := client(t, func(_ http.ResponseWriter, req *http.Request) { t.Errorf("request of %s", req.URL) })
	for _, names := range [][]string{{""}, {"a"}, {"b", "b"}} {
		err := Resolver{Client: c, Datacenter: "a", Failover: names}.Watch(t.Context(), "orders", ignore)
		if err == nil || !strings.Contains(err.Error(), "Resolver.Failover") {
			t.Errorf("Failover %q: %v, want an error that names the field", names, err)
		}
	}
}

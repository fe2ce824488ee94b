package zerohop_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/loadbalance"
)

// fleet are endpoints that answer 500 while they are bad, and 200 else. It is used in one goroutine.
type fleet struct {
	endpoints []discovery.Endpoint
	bad       map[string]bool
	got       map[string]int // requests
}

func newFleet(n int) *fleet {
	f := &fleet{bad: map[string]bool{}, got: map[string]int{}}
	for i := range n {
		f.endpoints = append(f.endpoints, discovery.Endpoint{Addr: fmt.Sprintf("10.0.0.%d:80", i+11)})
	}
	return f
}

func (f *fleet) addr(i int) string { return f.endpoints[i].Addr }

func (f *fleet) RoundTrip(req *http.Request) (*http.Response, error) {
	f.got[req.URL.Host]++
	status := http.StatusOK
	if f.bad[req.URL.Host] {
		status = http.StatusInternalServerError
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: req}, nil
}

// open returns a function that makes a request under a preset, and what the mesh knows of the endpoints.
func (f *fleet) open(t *testing.T, preset string) (get func() int, nodes []*loadbalance.Node) {
	t.Helper()
	m, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": f.endpoints},
		Spec:     zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {Preset: preset}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	tr := httpmesh.NewTransport(m, f)
	get = func() int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://orders/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	get() // the endpoints are known then
	clear(f.got)
	stop, err := m.Subscribe("orders", func(e zerohop.Endpoints) { nodes = e.Balancer.Set().Nodes() })
	if err != nil {
		t.Fatal(err)
	}
	stop()
	return get, nodes
}

// ejected returns the indices of those that are.
func ejected(nodes []*loadbalance.Node) (list []int) {
	for i, n := range nodes {
		if n.Ejected() {
			list = append(list, i)
		}
	}
	return list
}

// Five answers of 500 in a row eject an endpoint for 30 s, then for 60 s and so on, and 10 % of the endpoints at most.
func TestEnvoyPresetEjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(20)
		get, nodes := f.open(t, zerohop.PresetEnvoy)
		f.bad[f.addr(3)] = true
		for f.got[f.addr(3)] < 4 {
			get()
		}
		if got := ejected(nodes); len(got) != 0 {
			t.Fatalf("endpoints ejected after 4 failures = %v, want none", got)
		}
		for range len(nodes) { // each has its turn once
			get()
		}
		if got := ejected(nodes); !slices.Equal(got, []int{3}) || f.got[f.addr(3)] != 5 {
			t.Fatalf("endpoints ejected after 5 failures of one = %v, which got %d requests, want that one", got, f.got[f.addr(3)])
		}
		for _, pause := range []time.Duration{30, 60, 90} {
			began, before := time.Now(), f.got[f.addr(3)]
			for f.got[f.addr(3)] == before {
				time.Sleep(100 * time.Millisecond)
				get()
			}
			if got := time.Since(began); got < (pause-1)*time.Second || got > (pause+1)*time.Second {
				t.Errorf("an ejection lasted %v, want %v", got, pause*time.Second)
			}
		}
		for i := 4; i < 10; i++ {
			f.bad[f.addr(i)] = true
		}
		for range 20 * len(nodes) {
			get()
		}
		if got := ejected(nodes); len(got) != 2 || got[0] != 3 {
			t.Errorf("endpoints ejected of 20, where 7 fail, = %v, want two", got)
		}
	})
}

// Seven failures in a row eject an endpoint for up to 1 s, then 2 s and so on up to 60 s, and one request at a time probes it.
func TestLinkerdPresetAccruesFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(2)
		get, nodes := f.open(t, zerohop.PresetLinkerd)
		f.bad[f.addr(0)], f.bad[f.addr(1)] = true, true
		out := -1
		for out < 0 {
			get()
			if list := ejected(nodes); len(list) > 0 {
				out = list[0]
			} else if most := max(f.got[f.addr(0)], f.got[f.addr(1)]); most >= 7 {
				t.Fatalf("an endpoint failed %d times and is not ejected", most)
			}
		}
		if got := f.got[f.addr(out)]; got != 7 {
			t.Errorf("an endpoint was ejected after %d failures in a row, want 7", got)
		}
		for _, most := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			began, before := time.Now(), f.got[f.addr(out)]
			for f.got[f.addr(out)] == before {
				time.Sleep(10 * time.Millisecond)
				get()
			}
			if got := time.Since(began); got < (most*time.Second)/2-50*time.Millisecond || got > most*time.Second+50*time.Millisecond {
				t.Errorf("an ejection lasted %v, want %v to %v", got, most*time.Second/2, most*time.Second)
			}
		}
		clear(f.bad)
		before := f.got[f.addr(out)]
		for until := time.Now().Add(61 * time.Second); len(ejected(nodes)) > 0; time.Sleep(10 * time.Millisecond) {
			if get(); time.Now().After(until) {
				t.Fatal("the endpoint does not return to service")
			}
		}
		if got := f.got[f.addr(out)] - before; got != 1 {
			t.Errorf("the endpoint returned after %d requests, want one", got)
		}
	})
}

// Two retries on other endpoints, and no panic: what is ejected stays so.
func TestIstioPresetRetriesTwice(t *testing.T) {
	m, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": newFleet(10).endpoints},
		Spec:     zerohop.Spec{Defaults: zerohop.Policy{Preset: zerohop.PresetIstio, Idempotent: zerohop.On}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var tried []string
	_, err = zerohop.Do(t.Context(), m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
		tried = append(tried, n.Addr())
		return 0, errors.New("down")
	})
	slices.Sort(tried)
	if err == nil || len(tried) != 3 || len(slices.Compact(slices.Clone(tried))) != 3 {
		t.Errorf("attempts = %v, %v, want three on different endpoints", tried, err)
	}
	var b *loadbalance.Balancer
	stop, err := m.Subscribe("orders", func(e zerohop.Endpoints) { b = e.Balancer })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, n := range b.Set().Nodes()[:9] {
		b.SetFailing(n.Addr(), true, time.Now())
	}
	for range 20 {
		_, err := zerohop.Do(t.Context(), m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
			if n != b.Set().Nodes()[9] {
				t.Errorf("%s was called, which is out of service", n.Addr())
			}
			return 0, nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// Endpoints in turn, and no retry.
func TestGRPCPresetTakesTurns(t *testing.T) {
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			var f faults
			call := d.start(t, &f, zerohop.Policy{Preset: zerohop.PresetGRPC, Idempotent: zerohop.On})
			turns(t, call)
			f.set(1, "")
			ctx, report := zerohop.WithReport(t.Context())
			if _, err := call(ctx, ""); err == nil || len(report.Calls()[0].Attempts) != 1 {
				t.Errorf("a call that failed = %v after %d attempts, want its error after one", err, len(report.Calls()[0].Attempts))
			}
		})
	}
}

// Instances in turn, one retry on the next one, at once.
func TestSpringCloudPresetRetriesOnTheNextInstance(t *testing.T) {
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			var f faults
			call := d.start(t, &f, zerohop.Policy{Preset: zerohop.PresetSpringCloud, Idempotent: zerohop.On})
			order := turns(t, call)
			for range 2 {
				f.set(1, "")
				ctx, report := zerohop.WithReport(t.Context())
				_, err := call(ctx, "")
				a := report.Calls()[0].Attempts
				if err != nil || len(a) != 2 {
					t.Fatalf("a call whose first attempt failed = %v after %+v, want two attempts", err, a)
				}
				if k := slices.Index(order, a[0].Addr); a[1].Addr != order[(k+1)%len(order)] {
					t.Errorf("attempts on %s and %s, want the second on the next of %v", a[0].Addr, a[1].Addr, order)
				}
			}
			f.set(2, "")
			ctx, report := zerohop.WithReport(t.Context())
			if _, err := call(ctx, ""); err == nil || len(report.Calls()[0].Attempts) != 2 {
				t.Errorf("a call whose attempts failed = %v after %d of them, want its error after two", err, len(report.Calls()[0].Attempts))
			}
		})
	}
}

// turns checks that the endpoints are called in turn, and returns their order.
func turns(t *testing.T, call func(context.Context, string) (string, error)) (order []string) {
	t.Helper()
	for i := range 12 {
		addr, err := call(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if i < 4 {
			order = append(order, addr)
		} else if addr != order[i%4] {
			t.Errorf("call %d was answered by %s, want the turn of %s", i, addr, order[i%4])
		}
	}
	return order
}

package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := (TCP{}).Check(t.Context(), Probe{Addr: addr}); err != nil {
		t.Errorf("check of a port that listens = %v", err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection of the check is open")
	}
	conn.Close()
	l.Close()
	if err := (TCP{}).Check(t.Context(), Probe{Addr: addr}); err == nil {
		t.Error("check of a closed port passed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (TCP{}).Check(ctx, Probe{Addr: addr}); !errors.Is(err, context.Canceled) {
		t.Errorf("check that was cancelled = %v, want %v", err, context.Canceled)
	}
}

// The servers count what a client that starts connects to a fleet of them, of which a fifth are closed.
func TestFleetByTCP(t *testing.T) {
	const fleet, dead = 200, 40
	var accepted atomic.Int64
	var servers sync.WaitGroup
	defer servers.Wait()
	var eps []discovery.Endpoint
	var closed []net.Listener
	for i := range fleet {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		eps = append(eps, discovery.Endpoint{Addr: l.Addr().String()})
		if i < dead {
			closed = append(closed, l) // later, or another one would get its port
			continue
		}
		defer l.Close()
		servers.Go(func() { // until the listener is closed
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				accepted.Add(1)
				conn.Close()
			}
		})
	}
	for _, l := range closed {
		l.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	failed := map[string]bool{}
	results := 0
	const rate = 1000
	begun := time.Now()
	r := New(Config{Spread: -1, Interval: time.Hour, Timeout: time.Minute, Rate: rate},
		func(ctx context.Context, ep discovery.Endpoint) error { return TCP{}.Check(ctx, Probe{Addr: ep.Addr}) },
		func(r Result) {
			mu.Lock()
			defer mu.Unlock()
			if r.Err != nil {
				failed[r.Endpoint.Addr] = true
			}
			if results++; results == fleet {
				cancel()
			}
		}, nil)
	r.Update(slices.Values(eps))
	r.Run(ctx)
	if took, least := time.Since(begun), (fleet-20)*time.Second/rate; took < least {
		t.Errorf("%d checks took %v, want %v at least", fleet, took, least)
	}
	for i, ep := range eps {
		if failed[ep.Addr] != (i < dead) {
			t.Errorf("check of %s, closed %v: failed %v", ep.Addr, i < dead, failed[ep.Addr])
		}
	}
	if got := accepted.Load(); got > fleet-dead {
		t.Errorf("connections that %d servers accepted = %d, want one each at most", fleet-dead, got)
	}
}

func TestManyEndpointsCostNoGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := runtime.NumGoroutine()
		w := admit(t, Config{Spread: -1})
		w.takes = hang
		w.Update(slices.Values(patients(10_000)))
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if got := runtime.NumGoroutine() - before; got > w.cfg.InFlight+2 || got < w.cfg.InFlight {
			t.Errorf("goroutines for 10,000 endpoints = %d, want one for each of %d checks at a time, and one more or two", got, w.cfg.InFlight)
		}
	})
}

func ExampleCheckerFunc() {
	// A database says by itself whether it can serve.
	ping := CheckerFunc(func(ctx context.Context, p Probe) error {
		if p.Endpoint.Meta["role"] != "primary" {
			return fmt.Errorf("%s is no primary", p.Addr)
		}
		return TCP{}.Check(ctx, p)
	})
	err := ping.Check(context.Background(), Probe{
		Service: "ledger", Addr: "10.0.0.7:5432", Endpoint: discovery.Endpoint{Addr: "10.0.0.7:5432", Meta: map[string]string{"role": "replica"}},
	})
	fmt.Println(err)
	// Output: 10.0.0.7:5432 is no primary
}

// BenchmarkUpdate is what a change of one of many endpoints costs.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			eps := patients(n)
			r := New(Config{}, nil, nil, nil)
			r.Update(slices.Values(eps))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				eps[i%n].Weight++
				r.Update(slices.Values(eps))
			}
		})
	}
}

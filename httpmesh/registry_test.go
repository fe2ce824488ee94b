package httpmesh

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
)

// lateRegistry refuses or is silent until it appears.
type lateRegistry struct {
	discovery.Resolver
	silent bool
	up     chan struct{}
}

func (r lateRegistry) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	if r.silent {
		select {
		case <-r.up:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case <-r.up:
		return r.Resolver.Watch(ctx, service, update)
	default:
		return errors.New("dial registry: connection refused")
	}
}

// Calls fail at once while there has never been a registry, or wait if they are told to, and go on within two seconds.
func TestStartWithoutARegistry(t *testing.T) {
	for name, silent := range map[string]bool{"refuses": false, "is silent": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := lateRegistry{Resolver: fakes(1), silent: silent, up: make(chan struct{})}
				m := open(t, zerohop.Config{Resolver: r})
				tr := NewTransport(m, answer(200, "ok"))
				start := time.Now()
				_, err := get(t.Context(), t, tr, "http://orders/")
				if took := time.Since(start); err == nil || took > 5*time.Second || !silent && took > 10*time.Millisecond {
					t.Errorf("first call: %v after %v", err, took)
				}
				time.Sleep(time.Minute)
				for range 10 {
					start := time.Now()
					_, err := get(t.Context(), t, tr, "http://orders/")
					if e := failure(t, err); e.Reason != zerohop.NoEndpoints || e.Sent || time.Since(start) > 10*time.Millisecond {
						t.Errorf("call: %+v after %v, want no endpoints at once", e, time.Since(start))
					}
				}
				time.AfterFunc(time.Minute, func() { close(r.up) })
				start = time.Now()
				resp, err := get(zerohop.WithCall(t.Context(), zerohop.CallOptions{WaitReady: true}), t, tr, "http://orders/")
				if got := read(t, resp, err); got != "ok" {
					t.Errorf("answer %q", got)
				}
				if took := time.Since(start); took < time.Minute || took > time.Minute+2*time.Second {
					t.Errorf("a call waited %v for a registry that came after a minute", took)
				}
			})
		})
	}
}

// wires are a network of servers that count their requests and connections.
type wires map[string]*wired

type wired struct {
	conns    chan net.Conn
	done     chan struct{}
	requests atomic.Int64
	open     atomic.Int64
}

func (i *wired) Accept() (net.Conn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.done:
		return nil, net.ErrClosed
	}
}

func (i *wired) Close() error { return nil }

func (i *wired) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (m wires) serve(t *testing.T, addr string) discovery.Endpoint {
	i := &wired{conns: make(chan net.Conn), done: make(chan struct{})}
	m[addr] = i
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			i.requests.Add(1)
			_, _ = io.WriteString(w, addr)
		}),
		ConnState: func(_ net.Conn, st http.ConnState) {
			switch st {
			case http.StateNew:
				i.open.Add(1)
			case http.StateClosed:
				i.open.Add(-1)
			}
		},
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(i)
	}()
	t.Cleanup(func() {
		close(i.done)
		_ = s.Close()
		<-ended
	})
	return discovery.Endpoint{Addr: addr}
}

func (m wires) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case m[addr].conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A node that the registry has dropped gets no new request 100 ms later, even if the set has changed a moment before, and no
// connection to it stays open.
func TestNodeThatLeftGetsNoRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := wires{}
		a, b, leaver := world.serve(t, "10.0.0.1:80"), world.serve(t, "10.0.0.2:80"), world.serve(t, "10.0.0.3:80")
		var source discoverytest.Memory
		source.Set("orders", a, leaver)
		m := open(t, zerohop.Config{Resolver: &source})
		tr := NewTransport(m, &http.Transport{DialContext: world.dial})
		t.Cleanup(tr.CloseIdleConnections)
		call := func() {
			resp, err := get(t.Context(), t, tr, "http://orders/")
			read(t, resp, err)
		}
		left := world[leaver.Addr]
		for left.requests.Load() == 0 {
			call()
		}
		time.Sleep(time.Minute)
		if left.open.Load() == 0 {
			t.Fatal("there is no connection to lose")
		}
		source.Set("orders", a, b, leaver)
		time.Sleep(time.Millisecond)
		source.Set("orders", a, b)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := left.open.Load(); got != 0 {
			t.Errorf("%d connections to the node that left", got)
		}
		left.requests.Store(0)
		for range 1000 {
			call()
		}
		if got := left.requests.Load(); got != 0 {
			t.Errorf("%d requests to the node that left", got)
		}
		m.Close()
	})
}

// Connections to endpoints that stay outlive a hundred changes a second of another one.
func TestFlappingEndpointLeavesOtherConnectionsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := wires{}
		stays, flaps := world.serve(t, "10.0.0.1:80"), world.serve(t, "10.0.0.2:80")
		var source discoverytest.Memory
		source.Set("orders", stays, flaps)
		m := open(t, zerohop.Config{Resolver: &source})
		dials := map[string]int{}
		tr := NewTransport(m, &http.Transport{DialContext: dialling(dials, world)})
		t.Cleanup(tr.CloseIdleConnections)
		for i := range 1000 {
			resp, err := get(t.Context(), t, tr, "http://orders/")
			read(t, resp, err)
			source.Set("orders", []discovery.Endpoint{stays, flaps}[:1+i%2]...)
			time.Sleep(10 * time.Millisecond)
		}
		if got := dials[stays.Addr]; got > 2 {
			t.Errorf("%d connections were made to the endpoint that stays", got)
		}
		if got := dials[flaps.Addr]; got > 110 {
			t.Errorf("%d connections in 10 s were made to the endpoint that comes and goes", got)
		}
		m.Close()
	})
}

// dialling counts the connections that are made. One is made at a time.
func dialling(dials map[string]int, m wires) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials[addr]++
		return m.dial(ctx, network, addr)
	}
}

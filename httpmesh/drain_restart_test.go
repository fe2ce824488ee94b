package httpmesh

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
)

// instance is a server that can be stopped as Drain says.
type instance struct {
	server  *http.Server
	handler *Handler
	addr    string
	served  atomic.Int64
	done    chan struct{}
}

func newInstance(t *testing.T, p *http.Protocols) *instance {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{addr: l.Addr().String(), done: make(chan struct{})}
	i.handler = NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.served.Add(1)
		time.Sleep(50 * time.Millisecond) // so that there is always something in flight
		io.Copy(w, r.Body)
	}), HandlerOptions{Quiet: 100 * time.Millisecond})
	i.server = &http.Server{Handler: i.handler, Protocols: p}
	go func() {
		defer close(i.done)
		i.server.Serve(l)
	}()
	t.Cleanup(func() {
		i.server.Close()
		<-i.done
	})
	return i
}

func (i *instance) stop(t *testing.T, bound time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	i.handler.Drain(ctx)
	if err := i.server.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
}

// One of three servers is restarted under 500 requests a second, half of which must not be executed twice.
func TestRestartLosesNoRequest(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version int
		listed  bool // the callers do not hear that the server leaves; only repeatable requests are sound then
	}{
		{"HTTP/1", 1, false},
		{"HTTP/2", 2, false},
		{"HTTP/1 without a registry", 1, true},
		{"HTTP/2 without a registry", 2, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := new(http.Protocols)
			p.SetHTTP1(tt.version == 1)
			p.SetUnencryptedHTTP2(tt.version == 2)
			var source discoverytest.Memory
			list := func(instances ...*instance) {
				endpoints := make([]discovery.Endpoint, len(instances))
				for k, i := range instances {
					endpoints[k].Addr = i.addr
				}
				source.Set("orders", endpoints...)
			}
			a, b, c := newInstance(t, p), newInstance(t, p), newInstance(t, p)
			list(a, b, c)
			m := open(t, zerohop.Config{Resolver: &source})
			tr := NewTransport(m, &http.Transport{Protocols: p})
			t.Cleanup(tr.CloseIdleConnections)

			send := func(n int) {
				method := "PUT"
				if n%2 == 0 && !tt.listed {
					method = "POST"
				}
				resp, err := tr.RoundTrip(request(t.Context(), t, method, "http://orders/", strings.NewReader("body")))
				if err != nil {
					t.Errorf("%s: %v", method, err)
					return
				}
				defer resp.Body.Close()
				if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(body) != "body" || resp.ProtoMajor != tt.version {
					t.Errorf("%s: status %d, body %q, %v", method, resp.StatusCode, body, err)
				}
			}
			stop := make(chan struct{})
			sent := 0
			var clients, rounds sync.WaitGroup
			clients.Go(func() {
				tick := time.NewTicker(2 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-stop:
						return
					case <-tick.C:
						sent++
						n := sent
						rounds.Go(func() { send(n) })
					}
				}
			})
			awaitServed(t, a, 50)
			if !tt.listed {
				list(b, c)
			}
			a.stop(t, 500*time.Millisecond)
			d := newInstance(t, p)
			list(b, c, d)
			awaitServed(t, d, 50)
			close(stop)
			clients.Wait()
			rounds.Wait()
			t.Logf("%d requests, served %d, %d, %d and %d", sent, a.served.Load(), b.served.Load(), c.served.Load(), d.served.Load())
		})
	}
}

// awaitServed waits until i has served n requests more.
func awaitServed(t *testing.T, i *instance, n int64) {
	t.Helper()
	late := time.After(20 * time.Second)
	for n += i.served.Load(); i.served.Load() < n; {
		select {
		case <-late:
			t.Fatalf("%s gets no requests", i.addr)
		case <-time.After(time.Millisecond):
		}
	}
}

//go:build unix

package outage

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
)

// gate is a proxy before a registry that speaks HTTP.
type gate struct {
	*httptest.Server
	door     *door
	requests atomic.Int64
	// fault answers in place of the registry; nil while there is none.
	fault atomic.Pointer[fault]
	next  http.Handler
}

// fault answers a request. next is the registry.
type fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// newGate returns a gate that is not started. change, if not nil, changes each request to the registry.
func newGate(t *testing.T, target *url.URL, transport *http.Transport, change func(*http.Request)) *gate {
	t.Helper()
	t.Cleanup(transport.CloseIdleConnections)
	g := &gate{door: newDoor(t)}
	g.next = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			if change != nil {
				change(r.Out)
			}
		},
		Transport:     transport,
		FlushInterval: -1, // at once
		ErrorLog:      log.New(io.Discard, "", 0),
		// What the registry does to the connection we do, too.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	g.Server = httptest.NewUnstartedServer(g)
	g.Listener.Close()
	g.Listener = g.door
	g.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(g.Close)
	return g
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.requests.Add(1)
	if f := g.fault.Load(); f != nil {
		(*f)(w, r, g.next)
		return
	}
	g.next.ServeHTTP(w, r)
}

// begin returns a function that lets the fault answer, also what is being answered now.
func (g *gate) begin(f fault) func(testing.TB) {
	return func(t testing.TB) {
		g.fault.Store(&f)
		g.door.cut(t)
	}
}

func (g *gate) heal(t testing.TB) {
	g.fault.Store(nil)
	g.door.cut(t)
}

// throttle refuses everything.
func throttle(header http.Header) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for k, v := range header {
			w.Header()[k] = v
		}
		http.Error(w, "too many requests", http.StatusTooManyRequests)
	}
}

// garble gives answers that nobody can want, in turn.
func garble(answers ...string) fault {
	var turn atomic.Int64
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json")
		n := int(turn.Add(1))
		w.Header().Set("X-Consul-Index", fmt.Sprint(n))
		w.Header().Set("X-Consul-KnownLeader", fmt.Sprint(n/len(answers)%2 == 0))
		_, _ = io.WriteString(w, answers[n%len(answers)])
	}
}

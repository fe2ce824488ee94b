package httpmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
)

// handled makes a request to h that takes d, and counts it in g.
func handled(t *testing.T, g *sync.WaitGroup, h *Handler, d time.Duration) {
	req := httptest.NewRequestWithContext(context.WithValue(t.Context(), durationKey{}, d), "GET", "/", nil)
	g.Go(func() { h.ServeHTTP(httptest.NewRecorder(), req) })
}

type durationKey struct{}

func slow(o HandlerOptions) *Handler {
	return NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(r.Context().Value(durationKey{}).(time.Duration))
	}), o)
}

func TestDrainWaitsUntilItIsQuiet(t *testing.T) {
	const second = time.Second
	for _, tt := range []struct {
		name     string
		quiet    time.Duration
		requests [][2]time.Duration // when they begin and how long they take
		want     time.Duration
	}{
		{"nothing to wait for", -1, nil, 0},
		{"nobody comes", 0, nil, second},
		{"requests under way", -1, [][2]time.Duration{{0, 3 * second}, {0, second}}, 3 * second},
		{"quiet after requests under way", 0, [][2]time.Duration{{0, 3 * second}}, 4 * second},
		{"late request", 0, [][2]time.Duration{{900 * time.Millisecond, 0}}, 1900 * time.Millisecond},
		{"late and long request", 0, [][2]time.Duration{{900 * time.Millisecond, 5 * second}}, 6900 * time.Millisecond},
		{"request after a longer quiet", 5 * second, [][2]time.Duration{{4 * second, second}}, 10 * second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := slow(HandlerOptions{Quiet: tt.quiet})
				var g sync.WaitGroup
				defer g.Wait()
				for _, r := range tt.requests {
					if r[0] == 0 {
						handled(t, &g, h, r[1])
					} else {
						g.Go(func() {
							time.Sleep(r[0])
							handled(t, &g, h, r[1])
						})
					}
				}
				synctest.Wait()
				began := time.Now()
				if err := h.Drain(t.Context()); err != nil {
					t.Errorf("Drain() = %v", err)
				}
				if got := time.Since(began); got < tt.want || got > tt.want+2*drainTick {
					t.Errorf("Drain() took %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestDrainEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := slow(HandlerOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		var g sync.WaitGroup
		defer g.Wait()
		handled(t, &g, h, time.Minute)
		synctest.Wait()
		began := time.Now()
		for range 2 { // several callers may wait, and each in vain
			g.Go(func() {
				if err := h.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 3*time.Second {
					t.Errorf("Drain() = %v after %v, want %v after 3s", err, time.Since(began), context.DeadlineExceeded)
				}
			})
		}
		synctest.Wait()
		if got := h.InFlight(); got != 1 {
			t.Errorf("InFlight() = %d, want 1", got)
		}
		select {
		case <-h.Draining():
		default:
			t.Error("Draining() is not closed")
		}
	})
}

func TestReadyUntilDrained(t *testing.T) {
	h := NewHandler(http.NotFoundHandler(), HandlerOptions{Quiet: -1})
	for _, want := range []int{200, 503} {
		w := httptest.NewRecorder()
		h.Ready(w, httptest.NewRequest("GET", "/ready", nil))
		if w.Code != want || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("status %d, header %v, want %d", w.Code, w.Header(), want)
		}
		if err := h.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// pipes is a listener without a network, for bubbles of synctest.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// An attempt timeout is over with the head of the answer, at both ends.
func TestStreamsThroughHandlerOutliveTheAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := &http.Server{Handler: NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for range 30 {
				io.WriteString(w, "x")
				w.(http.Flusher).Flush()
				select {
				case <-time.After(time.Second):
				case <-r.Context().Done():
					return
				}
			}
		}), HandlerOptions{})}
		go s.Serve(l)
		defer s.Close()
		m := open(t, zerohop.Config{Resolver: fakes(1), Spec: zerohop.Spec{Defaults: zerohop.Policy{AttemptTimeout: time.Second}}})
		resp, err := get(t.Context(), t, NewTransport(m, &http.Transport{DialContext: l.dial}), "http://orders/")
		if got, want := read(t, resp, err), strings.Repeat("x", 30); got != want {
			t.Errorf("stream = %q, want %q", got, want)
		}
		m.Close()
	})
}

// During a drain every request is served, and makes its client leave the connection.
func TestDrainMovesConnections(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP/%d", version), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }), HandlerOptions{Quiet: -1})
				protocols := new(http.Protocols)
				protocols.SetHTTP1(version == 1)
				protocols.SetUnencryptedHTTP2(version == 2)
				l := newPipes()
				s := &http.Server{Handler: h, Protocols: protocols}
				go s.Serve(l)
				tr := &http.Transport{DialContext: l.dial, Protocols: protocols}
				var reused []bool
				ask := func() {
					ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
						GotConn: func(i httptrace.GotConnInfo) { reused = append(reused, i.Reused) },
					})
					resp, err := get(ctx, t, tr, "http://pipes/")
					if got := read(t, resp, err); got != "ok" || resp.ProtoMajor != version {
						t.Errorf("body %q over HTTP/%d", got, resp.ProtoMajor)
					}
					synctest.Wait() // GOAWAY follows the answer that causes it
				}
				ask()
				ask()
				if err := h.Drain(t.Context()); err != nil {
					t.Fatal(err)
				}
				ask()
				ask()
				ask()
				if want := []bool{false, true, true, false, false}; !slices.Equal(reused, want) {
					t.Errorf("on connections used before: %v, want %v", reused, want)
				}
				tr.CloseIdleConnections()
				if err := s.Shutdown(t.Context()); err != nil {
					t.Errorf("Shutdown() = %v", err)
				}
			})
		})
	}
}

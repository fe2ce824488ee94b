package httpmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
)

// mortal is a connection that says when it is closed.
type mortal struct {
	net.Conn
	close func()
}

func (c *mortal) Close() error {
	defer c.close()
	return c.Conn.Close()
}

// Many requests and few connections, some of the requests given up: all others succeed, no connection is made too
// many, and none stays in use.
func TestPoolObeysItsLimit(t *testing.T) {
	for limit := 1; limit <= 4; limit++ {
		synctest.Test(t, func(t *testing.T) {
			_, base := pipeServer(t, func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/hang" {
					<-r.Context().Done()
				}
			})
			var seen census // here, as a server learns late of the end of a connection
			dial := base.DialContext
			base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				seen.observe(nil, http.StateNew)
				conn, err := dial(ctx, network, addr)
				return &mortal{conn, sync.OnceFunc(func() { seen.observe(nil, http.StateClosed) })}, err
			}
			base.MaxConnsPerHost = limit
			p := poolTo(t, base, "endpoint", "http://orders/", zerohop.Connect{Timeout: time.Minute})
			var (
				tasks     sync.WaitGroup
				cancelled atomic.Int64
			)
			for range 200 {
				tasks.Go(func() {
					for range 8 {
						ctx, cancel := context.WithCancel(t.Context())
						given, target := rand.N(10) == 0, "http://orders/"
						if given {
							target = "http://orders/hang"
							time.AfterFunc(rand.N(200*time.Millisecond), cancel)
						}
						_, _, err := travel(p, request(ctx, t, "POST", target, http.NoBody))
						switch {
						case err != nil && !given:
							t.Error(err)
						case err != nil:
							cancelled.Add(1)
						}
						cancel()
					}
				})
			}
			tasks.Wait()
			synctest.Wait()
			made, most := seen.made.Load(), seen.most.Load()
			t.Logf("%d connections were made, %d at a time; %d requests were cancelled", made, most, cancelled.Load())
			if most > int64(limit) || made > int64(limit)+cancelled.Load() {
				t.Errorf("%d connections, %d at a time, want at most %d at a time and one more for each of %d requests given up",
					made, most, limit, cancelled.Load())
			}
			p.mu.Lock()
			live, waiters := p.live, len(p.waiters)
			p.mu.Unlock()
			if live > limit || waiters > 0 {
				t.Errorf("%d connections and %d waiters are left", live, waiters)
			}
			p.release()
		})
	}
}

func TestPoolMakesNoMoreConnectionsThanRequests(t *testing.T) {
	s, seen := watched(t, remote)
	p := poolTo(t, &http.Transport{}, addr(s), "http://orders/", zerohop.Connect{Timeout: 5 * time.Second})
	var tasks sync.WaitGroup
	for range 32 {
		tasks.Go(func() {
			for range 100 {
				fetch(t, p)
			}
		})
	}
	tasks.Wait()
	if got := seen.made.Load(); got > 35 {
		t.Errorf("%d connections for 32 requests at a time", got)
	}
}

func pipeServer(t *testing.T, h http.HandlerFunc) (*pipes, *http.Transport) {
	t.Helper()
	l := newPipes()
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l, &http.Transport{DialContext: l.dial}
}

func TestWaitersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		next := make(chan struct{})
		_, base := pipeServer(t, func(w http.ResponseWriter, r *http.Request) {
			order = append(order, r.URL.Path)
			<-next
		})
		base.MaxConnsPerHost = 1
		p := poolTo(t, base, "endpoint", "http://orders/", zerohop.Connect{Timeout: time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 5 {
			go func() {
				c := t.Context()
				if i == 2 {
					c = ctx
				}
				if _, _, err := travel(p, request(c, t, "GET", fmt.Sprintf("http://orders/%d", i), nil)); (err != nil) != (i == 2) {
					t.Errorf("request %d: %v", i, err)
				}
			}()
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		for range 4 {
			next <- struct{}{}
			synctest.Wait()
		}
		if got, want := fmt.Sprint(order), "[/0 /1 /3 /4]"; got != want {
			t.Errorf("order %s, want %s", got, want)
		}
		p.release()
	})
}

// The dial that a request began goes on without it, and its connection is kept.
func TestDialOutlivesItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, base := pipeServer(t, func(http.ResponseWriter, *http.Request) {})
		dial := base.DialContext
		dials := 0
		base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			select {
			case <-time.After(500 * time.Millisecond):
				return dial(ctx, network, addr)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		p := poolTo(t, base, "endpoint", "http://orders/", zerohop.Connect{Timeout: time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, way, err := travel(p, request(ctx, t, "GET", "http://orders/", nil))
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != 100*time.Millisecond || !way.unsent {
			t.Errorf("request ended with %v after %v, unsent %v", err, took, way.unsent)
		}
		if fetch(t, p); time.Since(start) != 500*time.Millisecond {
			t.Errorf("the second request took %v, want the rest of the first dial", time.Since(start))
		}
		fetch(t, p)
		if p.release(); dials != 1 {
			t.Errorf("%d dials, want 1", dials)
		}
		synctest.Wait()
		if p.held() != 0 {
			t.Errorf("%d dials and connections are left of a pool that was released", p.held())
		}
	})
}

// A dial that fails ends one request. A silent server cannot hold up the handshake, nor HTTP/2 its preface.
func TestDialsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := errors.New("failing")
		results := []error{failing, nil, failing}
		var mu sync.Mutex
		_, base := pipeServer(t, func(http.ResponseWriter, *http.Request) { time.Sleep(time.Second) })
		dial := base.DialContext
		base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			mu.Lock()
			err := results[0]
			results = results[1:]
			mu.Unlock()
			if err != nil {
				return nil, err
			}
			return dial(ctx, network, addr)
		}
		p := poolTo(t, base, "endpoint", "http://orders/", zerohop.Connect{Timeout: time.Second})
		var failed atomic.Int64
		var tasks sync.WaitGroup
		for range 3 {
			tasks.Go(func() {
				if _, way, err := travel(p, request(t.Context(), t, "GET", "http://orders/", nil)); err != nil {
					failed.Add(1)
					if !way.unsent || !errors.Is(err, failing) || !zerohop.DialFailed(err) {
						t.Errorf("trip = %+v, %v", way, err)
					}
				}
			})
		}
		tasks.Wait()
		if failed.Load() != 2 {
			t.Errorf("%d requests failed, want one for each dial that did", failed.Load())
		}
		p.release()
	})
	both := new(http.Protocols)
	both.SetUnencryptedHTTP2(true)
	for name, target := range map[string]string{"handshake": "https://orders/", "preface": "http://orders/"} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer theirs.Close()
			base := &http.Transport{Protocols: both, DialContext: func(context.Context, string, string) (net.Conn, error) { return ours, nil }}
			p := poolTo(t, base, "endpoint", target, zerohop.Connect{Timeout: time.Second})
			start := time.Now()
			_, way, err := travel(p, request(t.Context(), t, "GET", target, nil))
			if took := time.Since(start); !timedOut(err) || !zerohop.DialFailed(err) || errors.Is(err, context.DeadlineExceeded) || !way.unsent || took != time.Second || !strings.Contains(err.Error(), "no connection within 1s") {
				t.Errorf("%s: request ended after %v with %v", name, took, err)
			}
		})
	}
}

func TestRequestCancelIsObeyedWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		p := poolTo(t, base, "endpoint", "http://orders/", zerohop.Connect{})
		cancel := make(chan struct{})
		req := request(t.Context(), t, "GET", "http://orders/", nil)
		//lint:ignore SA1019 http.Client uses it
		req.Cancel = cancel
		time.AfterFunc(time.Minute, func() { close(cancel) })
		if _, way, err := travel(p, req); !errors.Is(err, errCanceled) || !way.unsent {
			t.Errorf("trip = %+v, %v, want %v", way, err, errCanceled)
		}
		// Nobody waits for the dial any more.
		p.CloseIdleConnections()
		synctest.Wait()
		if p.held() != 0 {
			t.Error("the dial goes on")
		}
	})
}

// A request that picked the endpoint before it left is not refused, but leaves nothing behind.
func TestReleasedPoolServesWhoComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, base := pipeServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
		p := poolTo(t, base, "endpoint", "http://orders/", zerohop.Connect{Timeout: time.Second, Warm: 2})
		resp, way, err := p.send(request(t.Context(), t, "GET", "http://orders/", nil))
		if err != nil {
			t.Fatal(err)
		}
		p.release()
		if got, _ := fetch(t, p); got != "ok" {
			t.Errorf("late request was answered %q", got)
		}
		if data, err := io.ReadAll(resp.Body); string(data) != "ok" || err != nil {
			t.Errorf("body of a request under way = %q, %v", data, err)
		}
		way.end()
		p.release()
		synctest.Wait()
		if p.held() != 0 {
			t.Errorf("%d connections are left", p.held())
		}
	})
}

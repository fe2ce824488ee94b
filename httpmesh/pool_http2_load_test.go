package httpmesh

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/zerohop/zerohop"
)

// Few streams, few connections, and requests that are given up while they wait or run: the others all succeed.
func TestFewStreamsForManyRequests(t *testing.T) {
	for _, c := range []struct {
		limit  int
		strict bool
	}{{1, false}, {2, false}, {0, true}} {
		t.Run(fmt.Sprintf("limit %d, strict %v", c.limit, c.strict), func(t *testing.T) {
			seen := &census{}
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/hang" {
					<-r.Context().Done()
				}
			}))
			s.Config.Protocols, s.Config.ConnState = plainHTTP2(), seen.observe
			s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 3}
			s.Start()
			t.Cleanup(s.Close)
			base := &http.Transport{
				Protocols: plainHTTP2(), MaxConnsPerHost: c.limit,
				HTTP2: &http.HTTP2Config{StrictMaxConcurrentRequests: c.strict},
			}
			p := poolTo(t, base, addr(s), "http://orders/", zerohop.Connect{Timeout: 5 * time.Second})
			fetch(t, p)
			var tasks sync.WaitGroup
			for range 50 {
				tasks.Go(func() {
					for range 20 {
						ctx, cancel := context.WithCancel(t.Context())
						given, target := rand.N(10) == 0, "http://orders/"
						if given {
							target = "http://orders/hang"
							time.AfterFunc(rand.N(20*time.Millisecond), cancel)
						}
						_, way, err := travel(p, request(ctx, t, "GET", target, nil))
						for err != nil && way.unsent && !given { // a new connection takes more than it should at first
							_, way, err = travel(p, request(ctx, t, "GET", target, nil))
						}
						if err != nil && !given {
							t.Error(err)
						}
						cancel()
					}
				})
			}
			tasks.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			if n := len(p.waiters); n > 0 || c.limit > 0 && p.live > c.limit || c.strict && p.live > 1 {
				t.Errorf("%d waiters and %d connections are left", n, p.live)
			}
			if got := seen.made.Load(); got > 20 {
				t.Errorf("%d connections were made", got)
			}
			t.Logf("%d connections were made", seen.made.Load())
		})
	}
}

// byHand serves HTTP/2 by hand on real sockets, and returns the address.
func byHand(t *testing.T, answer func(f *frames, id uint32)) string {
	return raw(t, func(c *net.TCPConn) { speak(c, answer) })
}

// The engine repeats what a server that goes away, or refuses streams, has not begun: at once, and whatever it is.
func TestUnprocessedStreamsAreRepeated(t *testing.T) {
	var refused, served atomic.Int64
	going := byHand(t, func(f *frames, id uint32) {
		if id >= 100 {
			return // it said so
		}
		if id == 99 {
			f.write(func() { f.WriteGoAway(id, http2.ErrCodeNo, nil) })
		}
		served.Add(1)
		f.ok(id)
	})
	refusing := byHand(t, func(f *frames, id uint32) {
		refused.Add(1)
		f.write(func() { f.WriteRSTStream(id, http2.ErrCodeRefusedStream) })
	})
	good := byHand(t, func(f *frames, id uint32) { served.Add(1); f.ok(id) })
	for name, addrs := range map[string][]string{"going away": {going}, "refusing": {refusing, good}} {
		served.Store(0)
		m := open(t, zerohop.Config{Resolver: source(addrs...)})
		tr := NewTransport(m, &http.Transport{Protocols: plainHTTP2()})
		var tasks sync.WaitGroup
		var slowest atomic.Int64
		for range 4 {
			tasks.Go(func() {
				for range 250 {
					start := time.Now()
					resp, err := tr.RoundTrip(request(t.Context(), t, "POST", "http://orders/", strings.NewReader("")))
					if err != nil {
						t.Errorf("%s: %v", name, err)
						continue
					}
					resp.Body.Close()
					for d := int64(time.Since(start)); ; {
						if old := slowest.Load(); d <= old || slowest.CompareAndSwap(old, d) {
							break
						}
					}
				}
			})
		}
		tasks.Wait()
		if got := served.Load(); got != 1000 {
			t.Errorf("%s: %d requests were served, want 1000", name, got)
		}
		if d := time.Duration(slowest.Load()); d > 900*time.Millisecond {
			t.Errorf("%s: a request took %v", name, d)
		}
	}
	if refused.Load() == 0 {
		t.Error("no stream was refused")
	}
}

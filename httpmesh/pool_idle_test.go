package httpmesh

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
)

// pooled runs a test in a bubble with a pool to a server whose connections are counted.
func pooled(t *testing.T, base *http.Transport, c zerohop.Connect, h http.HandlerFunc, test func(t *testing.T, p *pool, seen *census)) {
	synctest.Test(t, func(t *testing.T) {
		l, seen := newPipes(), &census{}
		s := &http.Server{Handler: h, ConnState: seen.observe, Protocols: base.Protocols}
		go s.Serve(l)
		base := base.Clone()
		base.DialContext = l.dial
		c.Timeout = time.Second
		p := poolTo(t, base, "endpoint", "http://orders/", c)
		test(t, p, seen)
		p.release()
		synctest.Wait()
		if p.held() != 0 || seen.open.Load() != 0 {
			t.Errorf("%d connections are left, %d of them open", p.held(), seen.open.Load())
		}
		s.Close()
	})
}

func plainHTTP2() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

func overBoth(t *testing.T, test func(t *testing.T, p *http.Protocols)) {
	t.Run("HTTP/1", func(t *testing.T) { test(t, nil) })
	t.Run("HTTP/2", func(t *testing.T) { test(t, plainHTTP2()) })
}

func ok(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }

func TestIdleConnectionsTimeOut(t *testing.T) {
	overBoth(t, func(t *testing.T, protocols *http.Protocols) {
		base := &http.Transport{IdleConnTimeout: 10 * time.Second, Protocols: protocols}
		pooled(t, base, zerohop.Connect{}, ok, func(t *testing.T, p *pool, seen *census) {
			fetch(t, p)
			time.Sleep(9 * time.Second)
			fetch(t, p)
			time.Sleep(9 * time.Second)
			synctest.Wait()
			if seen.open.Load() != 1 || seen.made.Load() != 1 {
				t.Errorf("%d connections were made, %d are open, want one that is used", seen.made.Load(), seen.open.Load())
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if seen.open.Load() != 0 || p.held() != 0 {
				t.Error("a connection is open that was idle for too long")
			}
			fetch(t, p)
		})
	})
}

func TestNoMoreIdleConnectionsThanWanted(t *testing.T) {
	for _, c := range []struct {
		base *http.Transport
		want int64
	}{{&http.Transport{MaxIdleConnsPerHost: 2}, 2}, {&http.Transport{MaxIdleConnsPerHost: -1}, 0}, {&http.Transport{DisableKeepAlives: true}, 0}} {
		overBoth(t, func(t *testing.T, protocols *http.Protocols) {
			base := c.base.Clone()
			base.Protocols = protocols
			pooled(t, base, zerohop.Connect{Warm: 1}, ok, func(t *testing.T, p *pool, seen *census) {
				var ways []trip
				for range 4 {
					resp, way, err := p.send(request(t.Context(), t, "GET", "http://orders/", nil))
					if err != nil {
						t.Fatal(err)
					}
					io.ReadAll(resp.Body)
					ways = append(ways, way)
				}
				for _, way := range ways {
					way.end()
				}
				synctest.Wait()
				want := c.want
				if protocols != nil {
					want = min(want, 1)
				}
				if got := seen.open.Load(); got != want {
					t.Errorf("%d connections are idle, want %d", got, want)
				}
			})
		})
	}
}

func TestOldConnectionsGetNoRequests(t *testing.T) {
	overBoth(t, func(t *testing.T, protocols *http.Protocols) {
		slow := func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				w.(http.Flusher).Flush()
				time.Sleep(time.Hour)
			}
			io.WriteString(w, "ok")
		}
		pooled(t, &http.Transport{Protocols: protocols}, zerohop.Connect{MaxAge: time.Minute}, slow, func(t *testing.T, p *pool, seen *census) {
			resp, way, err := p.send(request(t.Context(), t, "GET", "http://orders/slow", nil))
			if err != nil {
				t.Fatal(err)
			}
			defer way.end()
			for range 600 {
				fetch(t, p)
				time.Sleep(time.Second)
			}
			if data, err := io.ReadAll(resp.Body); string(data) != "ok" || err != nil {
				t.Errorf("a request longer than the age of its connection = %q, %v", data, err)
			}
			// Ten minutes are ten ages and at most a ninth more, and the slow one has its own on HTTP/1.
			if got := seen.made.Load(); got < 10 || got > 13 {
				t.Errorf("%d connections were made in 10 min, want one in a minute", got)
			}
			synctest.Wait()
			if got := seen.open.Load(); got > 2 {
				t.Errorf("%d connections are open", got)
			}
		})
	})
}

// Connections that were made at the same time do not all end at the same time.
func TestAgesDiffer(t *testing.T) {
	pooled(t, &http.Transport{}, zerohop.Connect{MaxAge: time.Hour, Warm: 50}, ok, func(t *testing.T, p *pool, seen *census) {
		synctest.Wait()
		p.mu.Lock()
		oldest, youngest := p.idle[0].expires, p.idle[0].expires
		for _, c := range p.idle {
			if c.expires.Before(oldest) {
				oldest = c.expires
			}
			if c.expires.After(youngest) {
				youngest = c.expires
			}
		}
		p.mu.Unlock()
		if n, d := p.held(), youngest.Sub(oldest); n != 50 || d < 3*time.Minute || d > 6*time.Minute {
			t.Errorf("%d ages differ by %v, want up to a tenth", n, d)
		}
		time.Sleep(time.Until(youngest) - time.Second)
		synctest.Wait()
		if seen.made.Load() < 60 {
			t.Errorf("%d connections were made, want those that are too old replaced", seen.made.Load())
		}
	})
}

func TestWarmConnections(t *testing.T) {
	overBoth(t, func(t *testing.T, protocols *http.Protocols) {
		want := int64(3)
		if protocols != nil {
			want = 1
		}
		pooled(t, &http.Transport{Protocols: protocols, IdleConnTimeout: time.Minute}, zerohop.Connect{Warm: 3}, ok, func(t *testing.T, p *pool, seen *census) {
			synctest.Wait()
			if got := seen.open.Load(); got != want {
				t.Errorf("%d connections are open before the first request, want %d", got, want)
			}
			if _, way := fetch(t, p); !way.reused {
				t.Error("the first request went out on a new connection")
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if made := seen.made.Load(); seen.open.Load() != want || made > want*12 {
				t.Errorf("%d connections are open, %d were made, want %d renewed each minute", seen.open.Load(), made, want)
			}
		})
	})
}

// A server that closes connections at once, or does not let them be made, is not flooded.
func TestWarmingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		defer l.Close()
		var made atomic.Int64
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				made.Add(1)
				c.Close()
			}
		}()
		p := poolTo(t, &http.Transport{DialContext: l.dial}, "endpoint", "http://orders/", zerohop.Connect{Timeout: time.Second, Warm: 5})
		time.Sleep(10*sweepTime + time.Second)
		if got, most := made.Load(), int64(10*sweepTime/warmPause)*5; got < 5*10 || got > most {
			t.Errorf("%d connections were made in %v, want 5 now and then, at most %d", got, 10*sweepTime, most)
		}
		p.release()
	})
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		l.Close()
		dials := 0
		base := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			return l.dial(ctx, network, addr)
		}}
		p := poolTo(t, base, "endpoint", "http://orders/", zerohop.Connect{Timeout: time.Second, Warm: 5})
		time.Sleep(10*time.Second + time.Millisecond)
		if synctest.Wait(); dials < 10 || dials > 12 {
			t.Errorf("%d dials failed in 10 s, want one a second", dials)
		}
		p.release()
	})
}

package httpmesh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/zerohop/zerohop"
)

// frames is the server's side of an HTTP/2 connection, spoken by hand. Its writes go out in the background, as there is
// no buffer in a pipe.
type frames struct {
	*http2.Framer
	conn net.Conn
	out  chan []byte

	mu  sync.Mutex // guards buf, which frames are written to
	buf bytes.Buffer
}

// speak serves HTTP/2 by hand: answer is called for each request.
func speak(c net.Conn, answer func(f *frames, id uint32), settings ...http2.Setting) {
	f := &frames{conn: c, out: make(chan []byte, 1000)}
	f.Framer = http2.NewFramer(&f.buf, c)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case b := <-f.out:
				c.Write(b)
			case <-done:
				return
			}
		}
	}()
	io.ReadFull(c, make([]byte, len(http2.ClientPreface)))
	f.write(func() { f.WriteSettings(settings...) })
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			answer(f, frame.StreamID)
		case *http2.PingFrame:
			if !frame.IsAck() {
				f.write(func() { f.WritePing(true, frame.Data) })
			}
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				f.write(func() { f.WriteSettingsAck() })
			}
		}
	}
}

func (f *frames) write(w func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.buf.Reset()
	w()
	f.out <- bytes.Clone(f.buf.Bytes())
}

func (f *frames) ok(id uint32) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	f.write(func() {
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: true})
	})
}

// handmade runs a test in a bubble with a pool to a server that speaks HTTP/2 by hand. conn counts connections from 1.
func handmade(t *testing.T, base *http.Transport, c zerohop.Connect, answer func(f *frames, conn int, id uint32),
	test func(t *testing.T, p *pool), settings ...http2.Setting) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		go func() {
			for n := 1; ; n++ {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					speak(conn, func(f *frames, id uint32) { answer(f, n, id) }, settings...)
				}()
			}
		}()
		base := base.Clone()
		base.Protocols, base.DialContext = plainHTTP2(), l.dial
		c.Timeout = time.Second
		p := poolTo(t, base, "endpoint", "http://orders/", c)
		test(t, p)
		p.release()
		l.Close()
		synctest.Wait()
		if p.held() != 0 {
			t.Errorf("%d connections are left", p.held())
		}
		time.Sleep(10 * time.Second) // net/http keeps timers of connections for a while
	})
}

func TestUnprocessedStreamsAreUnsent(t *testing.T) {
	for name, answer := range map[string]func(f *frames, conn int, id uint32){
		"refused stream": func(f *frames, _ int, id uint32) {
			f.write(func() { f.WriteRSTStream(id, http2.ErrCodeRefusedStream) })
		},
		"going away": func(f *frames, _ int, id uint32) {
			f.write(func() { f.WriteGoAway(id-min(id, 2), http2.ErrCodeNo, nil) })
		},
		"going away at once, with an error": func(f *frames, _ int, id uint32) {
			f.write(func() { f.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, nil) })
		},
	} {
		handmade(t, &http.Transport{}, zerohop.Connect{}, answer, func(t *testing.T, p *pool) {
			start := time.Now()
			_, way, err := travel(p, request(t.Context(), t, "POST", "http://orders/", strings.NewReader("body")))
			if took := time.Since(start); err == nil || !way.unsent || way.stale || took != 0 {
				t.Errorf("%s: trip = %+v, %v after %v, want that nothing was sent, at once", name, way, err, took)
			}
		})
	}
	for name, answer := range map[string]func(f *frames, conn int, id uint32){
		"cancelled": func(f *frames, _ int, id uint32) { f.write(func() { f.WriteRSTStream(id, http2.ErrCodeCancel) }) },
		"closed":    func(f *frames, _ int, id uint32) { f.conn.Close() },
		"closed after": func(f *frames, _ int, id uint32) {
			f.write(func() { f.WriteGoAway(id, http2.ErrCodeNo, nil) })
			time.AfterFunc(time.Second, func() { f.conn.Close() })
		},
	} {
		handmade(t, &http.Transport{}, zerohop.Connect{}, func(f *frames, n int, id uint32) {
			if id == 1 {
				f.ok(id)
			} else {
				answer(f, n, id)
			}
		}, func(t *testing.T, p *pool) {
			fetch(t, p)
			_, way, err := travel(p, request(t.Context(), t, "GET", "http://orders/", nil))
			if stale := name != "cancelled"; err == nil || way.unsent || !way.reused || way.stale != stale {
				t.Errorf("%s: trip = %+v, %v, want stale %v", name, way, err, stale)
			}
		})
	}
}

// What net/http says of a connection that takes no request, be it that the last one was allowed for.
func TestUnusableConnectionsAreReplaced(t *testing.T) {
	for _, text := range []string{errUnusable, errNotEstablished, errGoAway, errGoAwayFirst + "x"} {
		if !notBegun(errors.New(text)) {
			t.Errorf("%q is not known", text)
		}
	}
	handmade(t, &http.Transport{}, zerohop.Connect{}, func(f *frames, _ int, id uint32) { f.ok(id) }, func(t *testing.T, p *pool) {
		fetch(t, p)
		p.mu.Lock()
		c := p.shared[0]
		p.mu.Unlock()
		c.cc.Close()
		_, err := c.cc.RoundTrip(request(t.Context(), t, "GET", "http://orders/", nil))
		if err == nil || !unusable(err) {
			t.Errorf("request on a closed connection: %v, want %q", err, errUnusable)
		}
		fresh, err := p.connect(t.Context(), &dialing{addr: "endpoint"})
		if err != nil {
			t.Fatal(err)
		}
		fresh.cc.Close()
		if _, err = fresh.cc.RoundTrip(request(t.Context(), t, "GET", "http://orders/", nil)); err == nil || !unusable(err) {
			t.Errorf("request on a new connection that was closed: %v, want %q", err, errNotEstablished)
		}
		fetch(t, p)
	})
}

// A server that says good-bye after every 50 requests loses none of them.
func TestGoAwayLosesNothing(t *testing.T) {
	var conns atomic.Int64
	handmade(t, &http.Transport{}, zerohop.Connect{}, func(f *frames, n int, id uint32) {
		conns.Store(int64(n))
		if id > 2*50 {
			return // it said so
		}
		if id == 2*50-1 {
			f.write(func() { f.WriteGoAway(id, http2.ErrCodeNo, nil) })
		}
		f.ok(id)
	}, func(t *testing.T, p *pool) {
		var tasks sync.WaitGroup
		var again atomic.Int64
		for range 4 {
			tasks.Go(func() {
				for range 250 {
					_, way, err := travel(p, request(t.Context(), t, "GET", "http://orders/", nil))
					for ; err != nil && way.unsent; again.Add(1) {
						_, way, err = travel(p, request(t.Context(), t, "GET", "http://orders/", nil))
					}
					if err != nil {
						t.Errorf("trip = %+v, %v", way, err)
					}
				}
			})
		}
		tasks.Wait()
		// While the protocol is not known, each of the first requests has its own dial.
		if got := conns.Load(); got < 20 || got > 24 {
			t.Errorf("%d connections for 1000 requests, want one for 50; %d were repeated", got, again.Load())
		}
	})
}

func TestFullConnectionIsJoinedByAnother(t *testing.T) {
	for _, strict := range []bool{false, true} {
		var mu sync.Mutex
		served := map[int]int{}
		hold := make(chan struct{})
		base := &http.Transport{HTTP2: &http.HTTP2Config{StrictMaxConcurrentRequests: strict}}
		handmade(t, base, zerohop.Connect{}, func(f *frames, n int, id uint32) {
			mu.Lock()
			served[n]++
			mu.Unlock()
			go func() {
				mu.Lock()
				c := hold
				mu.Unlock()
				<-c
				f.ok(id)
			}()
		}, func(t *testing.T, p *pool) {
			close(hold)
			fetch(t, p) // the settings are known now
			c := make(chan struct{})
			mu.Lock()
			hold = c
			mu.Unlock()
			var tasks sync.WaitGroup
			for range 5 {
				tasks.Go(func() { fetch(t, p) })
			}
			synctest.Wait()
			// What a new connection takes before its settings have come is a guess.
			if got := p.held(); (got == 1) != strict || got > 3 {
				t.Errorf("strict %v: 5 requests on %d connections of 2", strict, got)
			}
			close(c)
			tasks.Wait()
			mu.Lock()
			defer mu.Unlock()
			for n, got := range served {
				if strict && n > 1 {
					t.Errorf("connection %d served %d", n, got)
				}
			}
		}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
	}
}

// Servers that take no requests are not asked for ever more connections.
func TestConnectionsThatTakeNothing(t *testing.T) {
	var conns atomic.Int64
	handmade(t, &http.Transport{}, zerohop.Connect{}, func(f *frames, n int, id uint32) { f.ok(id) }, func(t *testing.T, p *pool) {
		dial := p.client.DialContext
		p.client.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conns.Add(1)
			return dial(ctx, network, addr)
		}
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			travel(p, request(ctx, t, "GET", "http://orders/", nil)) // the first settings may come after it
			cancel()
		}
		if got := conns.Load(); got > 10*maxUnusable {
			t.Errorf("10 requests made %d connections", got)
		}
	}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
}

// A server that does not say anything any more is found by two requests that time out, or by pings.
func TestSilentConnectionIsLeft(t *testing.T) {
	silent := func(f *frames, n int, id uint32) {
		switch {
		case n > 1 || id == 1:
			f.ok(id)
		case id == 3:
			io.Copy(io.Discard, f.conn)
		}
	}
	handmade(t, &http.Transport{}, zerohop.Connect{}, silent, func(t *testing.T, p *pool) {
		fetch(t, p)
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, way, err := travel(p, request(ctx, t, "GET", "http://orders/", nil)); !errors.Is(err, context.DeadlineExceeded) || way.unsent || way.stale {
				t.Errorf("trip = %+v, %v", way, err)
			}
			cancel()
		}
		if _, way := fetch(t, p); way.reused {
			t.Error("a request went out on a connection that gave up two")
		}
	})
	handmade(t, &http.Transport{}, zerohop.Connect{}, silent, func(t *testing.T, p *pool) {
		fetch(t, p)
		start := time.Now()
		_, way, err := travel(p, request(t.Context(), t, "GET", "http://orders/", nil))
		if took := time.Since(start); err == nil || way.unsent || !way.stale || took > pingTime+pingWait {
			t.Errorf("trip = %+v, %v after %v", way, err, took)
		}
		fetch(t, p)
	})
}

// A server that answers, if not these requests, keeps its connection.
func TestTimeoutsAloneLeaveTheConnection(t *testing.T) {
	handmade(t, &http.Transport{}, zerohop.Connect{}, func(f *frames, n int, id uint32) {
		if id%4 == 1 {
			f.ok(id)
		}
	}, func(t *testing.T, p *pool) {
		for range 5 {
			fetch(t, p)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			travel(p, request(ctx, t, "GET", "http://orders/", nil))
			cancel()
		}
		if _, way := fetch(t, p); !way.reused || p.held() != 1 {
			t.Errorf("%d connections, want the first one", p.held())
		}
	})
}

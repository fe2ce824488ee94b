package httpmesh

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// poolTo returns the connections to an address on which requests for the URL go out.
func poolTo(t testing.TB, base *http.Transport, addr, target string, c zerohop.Connect) *pool {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	tr := &Transport{pool: base}
	tr.connector.init(base)
	e := &endpoint{addr: addr}
	t.Cleanup(e.release)
	return tr.poolAt(e, "orders", &c, u, anyKind)
}

// held returns how many connections and dials the pool has.
func (p *pool) held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live
}

// travel sends a request and returns the answer as text, its body read and closed.
func travel(p *pool, req *http.Request) (string, trip, error) {
	resp, way, err := p.send(req)
	if err != nil {
		return "", way, err
	}
	data, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	way.end()
	return string(data), way, err
}

// fetch is a GET that must succeed.
func fetch(t testing.TB, p *pool) (string, trip) {
	t.Helper()
	got, way, err := travel(p, request(t.Context(), t, "GET", p.scheme+"://orders/", nil))
	if err != nil {
		t.Fatal(err)
	}
	return got, way
}

// census counts the connections of a server.
type census struct{ made, open, most atomic.Int64 }

func (c *census) observe(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		c.made.Add(1)
		n := c.open.Add(1)
		for old := c.most.Load(); n > old && !c.most.CompareAndSwap(old, n); old = c.most.Load() {
		}
	case http.StateClosed, http.StateHijacked:
		c.open.Add(-1)
	}
}

// remote answers with the address of its client, by which connections can be told apart.
func remote(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) }

// watched starts a server whose connections are counted.
func watched(t testing.TB, h http.HandlerFunc) (*httptest.Server, *census) {
	t.Helper()
	return watchedOver(t, nil, h)
}

func watchedOver(t testing.TB, protocols *http.Protocols, h http.HandlerFunc) (*httptest.Server, *census) {
	t.Helper()
	s, c := httptest.NewUnstartedServer(h), &census{}
	s.Config.ConnState, s.Config.Protocols = c.observe, protocols
	s.Start()
	t.Cleanup(s.Close)
	return s, c
}

func TestPoolTakesTheConnectionUsedLast(t *testing.T) {
	s, seen := watched(t, remote)
	p := poolTo(t, &http.Transport{}, addr(s), "http://orders/", zerohop.Connect{Timeout: time.Second})
	if _, way := fetch(t, p); way.reused {
		t.Error("the first connection is reused")
	}
	// Three connections, given back in order.
	var ways []trip
	var last string
	for range 3 {
		resp, way, err := p.send(request(t.Context(), t, "GET", "http://orders/", nil))
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(resp.Body)
		last = string(data)
		ways = append(ways, way)
	}
	for _, way := range ways {
		way.end()
	}
	for range 5 {
		if got, way := fetch(t, p); got != last || !way.reused {
			t.Errorf("request came from %s, reused %v, want %s", got, way.reused, last)
		}
	}
	if got := seen.made.Load(); got != 3 {
		t.Errorf("%d connections were made, want 3", got)
	}
}

func TestConnectionWithUnreadAnswerIsNotUsedAgain(t *testing.T) {
	s, seen := watched(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(bytes.Repeat([]byte("x"), 1<<20))
	})
	p := poolTo(t, &http.Transport{}, addr(s), "http://orders/", zerohop.Connect{Timeout: time.Second})
	for range 3 {
		resp, way, err := p.send(request(t.Context(), t, "GET", "http://orders/", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		way.end()
	}
	if got := seen.made.Load(); got != 3 {
		t.Errorf("%d connections were made, want one for each request", got)
	}
}

// A server that closes or resets a warm connection on its second request must have seen that once.
func TestPoolSendsOnce(t *testing.T) {
	for _, end := range []string{"closed", "reset"} {
		var executed atomic.Int64
		l := raw(t, func(c *net.TCPConn) {
			r := bufio.NewReader(c)
			for n := 0; ; n++ {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				io.Copy(io.Discard, req.Body)
				executed.Add(1)
				if n > 0 {
					if end == "reset" {
						c.SetLinger(0)
					}
					return
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		m := open(t, zerohop.Config{Resolver: source(l), Spec: zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Mode: zerohop.Off}}}})
		tr := client(t, m)
		for _, method := range []string{"GET", "PUT"} {
			executed.Store(0)
			send := func() (*http.Response, error) {
				req := request(t.Context(), t, method, "http://orders/", strings.NewReader("body"))
				req.Header.Set("Idempotency-Key", "1")
				return tr.RoundTrip(req)
			}
			resp, err := send()
			read(t, resp, err)
			resp, err = send()
			if err == nil {
				resp.Body.Close()
			}
			if e := failure(t, err); !e.Sent {
				t.Errorf("%s, %s: error says that nothing was sent: %v", end, method, e)
			}
			if got := executed.Load(); got != 2 {
				t.Errorf("%s: two %s were executed %d times", end, method, got)
			}
		}

		p := poolTo(t, &http.Transport{}, l, "http://orders/", zerohop.Connect{Timeout: time.Second})
		fetch(t, p)
		if _, way, err := travel(p, request(t.Context(), t, "GET", "http://orders/", nil)); err == nil || !way.stale || !way.reused || way.unsent {
			t.Errorf("%s: trip = %+v, %v, want a stale one", end, way, err)
		}
	}
}

// raw serves connections and returns its address.
func raw(t testing.TB, handle func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		tasks sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			tasks.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		tasks.Wait()
	})
	return l.Addr().String()
}

func TestTripsThatFail(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	breaks := func(c *net.TCPConn) { http.ReadRequest(bufio.NewReader(c)) }
	begins := func(c *net.TCPConn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 20")
	}
	cancels := func(c *net.TCPConn) {
		http.ReadRequest(bufio.NewReader(c))
		cancel()
		io.Copy(io.Discard, c)
	}
	bad := request(t.Context(), t, "GET", "http://orders/", nil)
	bad.Header["Bad\n"] = []string{"x"}
	for name, c := range map[string]struct {
		serve  func(*net.TCPConn)
		req    *http.Request
		unsent bool
	}{
		"breaks":    {breaks, request(t.Context(), t, "GET", "http://orders/", nil), false},
		"begins":    {begins, request(t.Context(), t, "GET", "http://orders/", nil), false},
		"cancelled": {cancels, request(ctx, t, "GET", "http://orders/", nil), false},
		"malformed": {breaks, bad, true},
	} {
		p := poolTo(t, &http.Transport{}, raw(t, c.serve), "http://orders/", zerohop.Connect{Timeout: time.Second})
		if _, way, err := travel(p, c.req); err == nil || way.unsent != c.unsent || way.reused || way.stale {
			t.Errorf("%s: trip = %+v, %v, want unsent %v", name, way, err, c.unsent)
		}
	}
	// The connection that a malformed request did not harm is there for the next one.
	s, seen := watched(t, remote)
	p := poolTo(t, &http.Transport{}, addr(s), "http://orders/", zerohop.Connect{Timeout: time.Second})
	fetch(t, p)
	if _, way, err := travel(p, bad); err == nil || !way.unsent {
		t.Errorf("malformed request: %+v, %v", way, err)
	}
	if _, way := fetch(t, p); !way.reused || seen.made.Load() != 1 {
		t.Errorf("%d connections were made, want 1", seen.made.Load())
	}
	// An answer that had begun on a reused connection is no stale one.
	var n atomic.Int64
	p = poolTo(t, &http.Transport{}, raw(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for range 2 {
			http.ReadRequest(r)
			if n.Add(1) == 1 {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}
		io.WriteString(c, "HTTP/1.1 20")
	}), "http://orders/", zerohop.Connect{Timeout: time.Second})
	fetch(t, p)
	if _, way, err := travel(p, request(t.Context(), t, "GET", "http://orders/", nil)); err == nil || !way.reused || way.stale || way.unsent {
		t.Errorf("trip of an answer that broke off = %+v, %v", way, err)
	}
}

// closings is a body that counts how often it is closed.
type closings struct {
	io.Reader
	n atomic.Int64
}

func (c *closings) Close() error { c.n.Add(1); return nil }

func TestBodyIsClosedWhateverFails(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx    context.Context
		addr   string
		header string
	}{
		"dial": {t.Context(), closedAddr(t), "A"}, "context": {gone, closedAddr(t), "A"},
		"header": {t.Context(), raw(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) }), "\n"},
		"broken": {t.Context(), raw(t, func(c *net.TCPConn) { c.SetLinger(0) }), "A"},
	} {
		p := poolTo(t, &http.Transport{}, c.addr, "http://orders/", zerohop.Connect{Timeout: time.Second})
		body := &closings{Reader: strings.NewReader("body")}
		req := request(c.ctx, t, "POST", "http://orders/", body)
		req.Header[c.header] = []string{"x"}
		if _, _, err := travel(p, req); err == nil || body.n.Load() == 0 {
			t.Errorf("%s: error %v, body closed %d times", name, err, body.n.Load())
		}
	}
}

func TestPoolTellsTraces(t *testing.T) {
	s := serve(t, remote)
	p := poolTo(t, &http.Transport{}, addr(s), "http://orders/", zerohop.Connect{Timeout: time.Second})
	var events []string
	note := func(format string, args ...any) { events = append(events, fmt.Sprintf(format, args...)) }
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GetConn:      func(addr string) { note("get %v", addr == p.addr) },
		ConnectStart: func(_, addr string) { note("connect %v", addr == p.addr) },
		GotConn:      func(i httptrace.GotConnInfo) { note("got %v %v %v", i.Conn.RemoteAddr(), i.Reused, i.WasIdle) },
	})
	for range 2 {
		if _, _, err := travel(p, request(ctx, t, "GET", "http://orders/", nil)); err != nil {
			t.Fatal(err)
		}
	}
	want := fmt.Sprintf("[get true connect true got %[1]s false false get true got %[1]s true true]", p.addr)
	if got := fmt.Sprint(events); got != want {
		t.Errorf("traced %s, want %s", got, want)
	}
}

func TestBodyReaderFailsOrHeaderTimesOut(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	p := poolTo(t, &http.Transport{ResponseHeaderTimeout: 10 * time.Millisecond}, addr(s), "http://orders/", zerohop.Connect{Timeout: time.Second})
	if _, way, err := travel(p, request(t.Context(), t, "GET", "http://orders/", nil)); !timedOut(err) || way.unsent || way.stale {
		t.Errorf("trip = %+v, %v, want a timeout", way, err)
	}
	broken := errors.New("broken")
	if _, way, err := travel(p, request(t.Context(), t, "POST", "http://orders/", io.MultiReader(strings.NewReader("x"), fails{broken}))); !errors.Is(err, broken) || way.stale {
		t.Errorf("trip = %+v, %v, want that the body broke", way, err)
	}
}

type fails struct{ error }

func (f fails) Read([]byte) (int, error) { return 0, f.error }

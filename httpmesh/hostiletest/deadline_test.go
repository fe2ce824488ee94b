package hostiletest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
)

// waiting is a call that nobody answers in time.
type waiting struct {
	name string
	// start returns a client and a request, whose context is to be ctx.
	start func(ctx context.Context, t *testing.T, release <-chan struct{}) (*client, *http.Request)
	// answered says that the call may end earlier, for a reason of its own; busy that another call is under way.
	answered, busy bool
}

type resolverFunc func(ctx context.Context) error

func (f resolverFunc) Watch(ctx context.Context, _ string, _ func([]discovery.Endpoint)) error {
	return f(ctx)
}

// silent reads all and says nothing.
func silent(c *net.TCPConn) { io.Copy(io.Discard, c) }

// dribbling answers with start and then with repetitions of more, slowly, for ever.
func dribbling(start, more string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for next := start; ; next = more {
			if _, err := io.WriteString(c, next); err != nil {
				return
			}
			<-tick.C
		}
	}
}

// answering gives the same answer to each request.
func answering(text string) func(*net.TCPConn) {
	answer := []byte(text)
	return func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			if _, err := readRequest(r); err != nil {
				return
			}
			c.Write(answer)
		}
	}
}

// endless is a body of a request that has always more to say.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// settled speaks HTTP/2 as far as the settings, and then lets the script go on.
func settled(script func(*http2.Framer, *net.TCPConn), settings ...http2.Setting) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		if _, err := io.CopyN(io.Discard, c, int64(len(http2.ClientPreface))); err != nil {
			return
		}
		fr := http2.NewFramer(c, c)
		if fr.WriteSettings(settings...) == nil && fr.WriteSettingsAck() == nil {
			script(fr, c)
		}
	}
}

func waits() []waiting {
	// against makes a call to a server.
	against := func(h2 bool, policy zerohop.Policy, handle func(*net.TCPConn), more ...func(*http.Request)) func(context.Context, *testing.T, <-chan struct{}) (*client, *http.Request) {
		return func(ctx context.Context, t *testing.T, _ <-chan struct{}) (*client, *http.Request) {
			c := connect(t, base(h2), policy, listen(t, handle).addr, listen(t, handle).addr)
			req := request(ctx, t, http.MethodGet, "http://orders/", nil)
			for _, f := range more {
				f(req)
			}
			return c, req
		}
	}
	dialing := func(change func(tr *http.Transport, release <-chan struct{})) func(context.Context, *testing.T, <-chan struct{}) (*client, *http.Request) {
		return func(ctx context.Context, t *testing.T, release <-chan struct{}) (*client, *http.Request) {
			tr := base(false)
			change(tr, release)
			policy := zerohop.Policy{Connect: zerohop.Connect{Timeout: time.Hour}}
			return connect(t, tr, policy, "127.0.0.1:1", "127.0.0.1:2"), request(ctx, t, http.MethodGet, "http://orders/", nil)
		}
	}
	resolving := func(watch func(ctx context.Context, release <-chan struct{}) error) func(context.Context, *testing.T, <-chan struct{}) (*client, *http.Request) {
		return func(ctx context.Context, t *testing.T, release <-chan struct{}) (*client, *http.Request) {
			resolver := resolverFunc(func(ctx context.Context) error { return watch(ctx, release) })
			return connectWith(t, base(false), zerohop.Config{Resolver: resolver}), request(ctx, t, http.MethodGet, "http://orders/", nil)
		}
	}
	upload := func(body io.Reader) func(*http.Request) {
		return func(req *http.Request) {
			req.Method, req.Body, req.ContentLength = http.MethodPut, io.NopCloser(body), -1
		}
	}
	pauses := zerohop.Policy{Retry: zerohop.Retry{Base: time.Hour, Max: time.Hour}}
	tooMany := "HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d\r\nContent-Length: 2\r\n\r\nno"
	var none zerohop.Policy
	return []waiting{
		{name: "resolver hangs", start: resolving(func(ctx context.Context, _ <-chan struct{}) error { <-ctx.Done(); return ctx.Err() })},
		{name: "resolver ignores its context", start: resolving(func(_ context.Context, release <-chan struct{}) error {
			<-release
			return errors.New("too late")
		})},
		{name: "resolver fails", answered: true, start: resolving(func(context.Context, <-chan struct{}) error { return errors.New("no answer") })},
		{name: "dial hangs", start: dialing(func(tr *http.Transport, _ <-chan struct{}) {
			tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		})},
		{name: "dial ignores its context", start: dialing(func(tr *http.Transport, release <-chan struct{}) {
			tr.DialContext = func(context.Context, string, string) (net.Conn, error) { <-release; return nil, errors.New("too late") }
		})},
		{name: "dial without a context", start: dialing(func(tr *http.Transport, release <-chan struct{}) {
			//lint:ignore SA1019 users of the base may have it
			tr.Dial = func(string, string) (net.Conn, error) { <-release; return nil, errors.New("too late") }
		})},
		{name: "TLS handshake", start: against(false, none, silent, func(req *http.Request) { req.URL.Scheme = "https" })},
		{name: "no answer", start: against(false, none, silent)},
		{name: "no answer, HTTP/2", start: against(true, none, settled(func(_ *http2.Framer, c *net.TCPConn) { silent(c) }))},
		{name: "no settings, HTTP/2", start: against(true, none, silent)},
		{name: "no streams, HTTP/2", start: against(true, none,
			settled(func(_ *http2.Framer, c *net.TCPConn) { silent(c) }, http2.Setting{ID: http2.SettingMaxConcurrentStreams}))},
		{name: "status line dribbles", start: against(false, none, dribbling("HTTP/1.1 200 ", "O"))},
		{name: "header dribbles", start: against(false, none, dribbling("HTTP/1.1 200 OK\r\n", "X-More: 1\r\n"))},
		{name: "early hints dribble", start: against(false, none, dribbling("", "HTTP/1.1 103 Early Hints\r\n\r\n"))},
		{name: "body dribbles", start: against(false, none, dribbling("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "x"))},
		{name: "chunks dribble", start: against(false, none, dribbling("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"))},
		{name: "body stops", start: against(false, none, answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"))},
		{name: "upload is not read", start: func(ctx context.Context, t *testing.T, release <-chan struct{}) (*client, *http.Request) {
			return against(false, none, func(*net.TCPConn) { <-release }, upload(endless{}))(ctx, t, release)
		}},
		{name: "upload has no window, HTTP/2", start: against(true, none,
			settled(func(_ *http2.Framer, c *net.TCPConn) { silent(c) }, http2.Setting{ID: http2.SettingInitialWindowSize}), upload(endless{}))},
		{name: "limit of connections", busy: true, start: func(ctx context.Context, t *testing.T, release <-chan struct{}) (*client, *http.Request) {
			tr := base(false)
			tr.MaxConnsPerHost = 1
			s := listen(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"))
			c := connect(t, tr, none, s.addr)
			resp, err := c.RoundTrip(request(t.Context(), t, http.MethodGet, "http://orders/", nil))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { resp.Body.Close() })
			return c, request(ctx, t, http.MethodGet, "http://orders/", nil)
		}},
		{name: "pause before a retry", answered: true, start: against(false, pauses, answering(fmt.Sprintf(tooMany, 0)))},
		{name: "pause the server asks for", answered: true, start: against(false, none, answering(fmt.Sprintf(tooMany, 1)))},
		{name: "long pause the server asks for", answered: true, start: against(false, none, answering(fmt.Sprintf(tooMany, 60)))},
		{name: "attempts of their own timeout", answered: true, start: against(false, zerohop.Policy{AttemptTimeout: 30 * time.Millisecond}, silent)},
	}
}

// A call returns when its context ends, whatever it waits for. What the machine is late in waking up others is not held
// against it, nor one moment when it was busy: what keeps a call that should end keeps it each time.
func TestCallsEndWithTheirContext(t *testing.T) {
	const (
		limit = 100 * time.Millisecond
		slack = 50 * time.Millisecond
	)
	leakCheck(t)
	ends := []struct {
		name string
		ctx  func(context.Context) (context.Context, context.CancelFunc)
		want error
	}{
		{"deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, limit)
		}, context.DeadlineExceeded},
		{"cancel", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(limit, cancel)
			return ctx, cancel
		}, context.Canceled},
	}
	for _, w := range waits() {
		t.Run(w.name, func(t *testing.T) {
			release := make(chan struct{})
			c, req := w.start(t.Context(), t, release)
			t.Cleanup(func() { close(release) }) // before the mesh is closed, which waits for the resolver
			const calls = 6
			var took [calls]time.Duration
			parallel(calls, calls, func(i int) {
				end := ends[i%len(ends)]
				ctx, cancel := end.ctx(t.Context())
				defer cancel()
				late, start := lateness(limit), time.Now()
				resp, err := c.RoundTrip(req.Clone(ctx))
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				took[i] = time.Since(start) - <-late
				if !errors.Is(err, end.want) && !w.answered {
					t.Errorf("call = %v, want %v", err, end.want)
				}
			})
			for i, end := range ends {
				list := []time.Duration{took[i], took[i+2], took[i+4]}
				t.Logf("calls with a %s after %v took %v", end.name, limit, list)
				if slices.Min(list) > limit+slack || slices.Max(list) > limit+10*slack {
					t.Errorf("calls with a %s after %v took %v, want at most %v", end.name, limit, list, limit+slack)
				}
			}
			if !w.busy {
				c.checkIdle(t)
			}
		})
	}
}

// lateness tells by how much a timer is late at the end of the given time.
func lateness(d time.Duration) <-chan time.Duration {
	late := make(chan time.Duration, 1)
	start := time.Now()
	time.AfterFunc(d, func() { late <- time.Since(start) - d })
	return late
}

// http.Client has a deadline of its own, which it does not tell the context of the request alone.
func TestClientTimeoutEndsCalls(t *testing.T) {
	leakCheck(t)
	s := listen(t, silent)
	c := connect(t, base(false), zerohop.Policy{}, s.addr)
	hc := &http.Client{Transport: c.Transport, Timeout: 100 * time.Millisecond}
	late, start := lateness(hc.Timeout), time.Now()
	resp, err := hc.Get("http://orders/")
	took := time.Since(start)
	if err == nil {
		resp.Body.Close()
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("Get() = %v, want a timeout", err)
	}
	if most := hc.Timeout + 50*time.Millisecond + <-late; took > most {
		t.Errorf("call returned after %v, want at most %v", took, most)
	}
	c.checkIdle(t)
	c.checkClosed(t, s)
}

package httpmesh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
)

// inProcess returns a Transport to a handler in this process as the only endpoint of "orders".
func inProcess(t testing.TB, h http.HandlerFunc, spec zerohop.Spec) *Transport {
	t.Helper()
	tr := client(t, open(t, zerohop.Config{Resolver: source("orders.invalid:1"), Spec: spec}))
	tr.Handlers = map[string]http.Handler{"orders.invalid:1": h}
	return tr
}

func TestHandlerInTheProcessSeesNothingOfItsCaller(t *testing.T) {
	type key struct{}
	tr := inProcess(t, func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if v := ctx.Value(key{}); v != nil {
			t.Errorf("the context has the caller's %v", v)
		}
		if a := zerohop.AttemptOf(ctx); a != nil {
			t.Error("the context has the attempt of the caller")
		}
		if _, ok := ctx.Deadline(); ok {
			t.Error("the context has the deadline of the caller")
		}
		if ctx.Value(http.ServerContextKey) == nil {
			t.Error("the context has no server: httputil.ReverseProxy would not break answers off")
		}
		if a, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr); !ok || a.Network() != "in-process" {
			t.Errorf("the context has the local address %v", a)
		}
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Errorf("EnableFullDuplex() = %v", err)
		}
		if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Hijack() = %v, want %v", err, http.ErrNotSupported)
		}
		if r.ProtoMajor != 2 || r.RemoteAddr != "@" || r.TLS != nil {
			t.Errorf("request by %s from %q, TLS %v", r.Proto, r.RemoteAddr, r.TLS)
		}
	}, zerohop.Spec{})
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "value"), time.Hour)
	defer cancel()
	resp, err := tr.RoundTrip(request(ctx, t, http.MethodGet, "http://orders/", nil))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestHandlerInTheProcessTakesNoUpgrades(t *testing.T) {
	tr := inProcess(t, func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") }, zerohop.Spec{})
	req := request(t.Context(), t, http.MethodGet, "http://orders/", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	if _, err := tr.RoundTrip(req); !errors.Is(err, errNoUpgrade) {
		t.Errorf("RoundTrip() = %v, want %v", err, errNoUpgrade)
	}
	req = request(t.Context(), t, http.MethodConnect, "http://orders/", nil)
	if _, err := tr.RoundTrip(req); !errors.Is(err, errNoUpgrade) {
		t.Errorf("RoundTrip() = %v, want %v", err, errNoUpgrade)
	}
}

// That an endpoint takes no upgrades says nothing against it.
func TestUpgradesDoNoHarmToHandlersInTheProcess(t *testing.T) {
	s := serve(t, hello)
	var over networks
	m := open(t, zerohop.Config{Resolver: source("orders.invalid:1", addr(s)), Hooks: over.hooks(), Spec: zerohop.Spec{
		Defaults: zerohop.Policy{Balance: "weighted-round-robin", Budget: zerohop.Budget{Mode: zerohop.Off}},
	}})
	tr := client(t, m)
	tr.Handlers = map[string]http.Handler{"orders.invalid:1": http.HandlerFunc(hello)}
	for range 10 {
		req := request(t.Context(), t, http.MethodGet, "http://orders/", nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "websocket")
		if resp, err := tr.RoundTrip(req); err == nil {
			resp.Body.Close()
		} else if !errors.Is(err, errNoUpgrade) {
			t.Errorf("RoundTrip() = %v, want %v", err, errNoUpgrade)
		}
	}
	if over[zerohop.NetworkInProcess].Load() == 0 {
		t.Error("no attempt went to the handler in the process")
	}
	for _, e := range m.State().Services[0].Endpoints {
		if e.Penalized || !e.EjectedUntil.IsZero() {
			t.Errorf("%s is avoided for what it was asked", e.Addr)
		}
	}
}

// networks counts attempts by what they went over.
type networks [3]atomic.Int64

func (n *networks) hooks() zerohop.Hooks {
	return zerohop.Hooks{AttemptDone: func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
		n[r.Network].Add(1)
	}}
}

func (n *networks) want(t *testing.T, what string, tcp, unix int64) {
	t.Helper()
	if got, other := n[zerohop.NetworkTCP].Load(), n[zerohop.NetworkUnix].Load(); got != tcp || other != unix {
		t.Errorf("%s: %d attempts over TCP and %d over Unix sockets, want %d and %d", what, got, other, tcp, unix)
	}
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

// ask makes a GET request and returns its body.
func ask(t testing.TB, rt http.RoundTripper, target string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Errorf("RoundTrip() = %v", err)
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("body: %v", err)
	}
	return string(body)
}

// mute keeps what handlers do wrong on purpose out of the log of the tests.
func mute(t *testing.T) {
	log.SetOutput(io.Discard)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// A handler that panics is an endpoint that fails: the call goes to another one.
func TestCallsLeaveHandlersThatBreakOff(t *testing.T) {
	mute(t)
	s := serve(t, hello)
	var broken atomic.Int64
	var over networks
	m := open(t, zerohop.Config{Resolver: source("orders.invalid:1", addr(s)), Hooks: over.hooks(), Spec: zerohop.Spec{
		Defaults: zerohop.Policy{
			Balance: "weighted-round-robin", Budget: zerohop.Budget{Mode: zerohop.Off}, Outlier: zerohop.Outlier{Mode: zerohop.Off},
		},
	}})
	tr := client(t, m)
	tr.Handlers = map[string]http.Handler{"orders.invalid:1": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		broken.Add(1)
		panic("on purpose")
	})}
	for range 10 {
		if got := ask(t, tr, "http://orders/"); got != "hello" {
			t.Errorf("answer %q", got)
		}
	}
	if got := over[zerohop.NetworkInProcess].Load(); got == 0 || got != broken.Load() {
		t.Errorf("%d attempts in the process, %d calls of the handler", got, broken.Load())
	}
	over.want(t, "others", 10, 0)
	checkIdle(t, m)
}

func TestWriterWaitsForAReaderThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written atomic.Int64
		m, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": {{Addr: "orders.invalid:1"}}}})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		tr := NewTransport(m, nil)
		ended := make(chan struct{})
		tr.Handlers = map[string]http.Handler{"orders.invalid:1": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			defer close(ended)
			for {
				n, err := w.Write(make([]byte, 1000))
				if err != nil {
					return
				}
				written.Add(int64(n))
			}
		})}
		resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodGet, "http://orders/", nil))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := written.Load(); got > streamLimit+headLimit {
			t.Errorf("%d bytes written to nobody, want %d at most", got, streamLimit+headLimit)
		}
		if n, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
			t.Errorf("read %d bytes: %v", n, err)
		}
		resp.Body.Close()
		<-ended
	})
}

// A caller whose body never comes is no reason for the handler, or the caller, to wait for ever.
func TestBodyThatHangsEndsWithTheCall(t *testing.T) {
	seen := make(chan error, 1)
	tr := inProcess(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		seen <- err
	}, zerohop.Spec{})
	hang := make(chan struct{})
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	req := request(ctx, t, http.MethodPost, "http://orders/", readFunc(func([]byte) (int, error) {
		<-hang
		return 0, io.EOF
	}))
	if _, err := tr.RoundTrip(req); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("RoundTrip() = %v, want %v", err, context.DeadlineExceeded)
	}
	if err := <-seen; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the handler saw %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

func TestBodyLongerThanSaidFailsTheCall(t *testing.T) {
	type part struct {
		data []byte
		err  error
	}
	seen := make(chan part, 1)
	tr := inProcess(t, func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		seen <- part{data, err}
		<-r.Context().Done()
	}, zerohop.Spec{})
	long := io.MultiReader(strings.NewReader("hel"), strings.NewReader("lo"))
	req := request(t.Context(), t, http.MethodPost, "http://orders/", long)
	req.ContentLength = 3
	if _, err := tr.RoundTrip(req); err == nil || !strings.Contains(err.Error(), "longer Body") {
		t.Errorf("RoundTrip() = %v, want that the body is too long", err)
	}
	if got := <-seen; !strings.HasPrefix("hel", string(got.data)) || len(got.data) < 3 && !errors.Is(got.err, io.ErrUnexpectedEOF) {
		t.Errorf("body %q, %v, want what was said, or that it breaks off", got.data, got.err)
	}
}
func TestLengthWithoutABodyIsRefusedInTheProcess(t *testing.T) {
	tr := inProcess(t, func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") }, zerohop.Spec{})
	req := request(t.Context(), t, http.MethodPost, "http://orders/", nil)
	req.ContentLength = 5
	if _, err := tr.RoundTrip(req); err == nil || !strings.Contains(err.Error(), "without a body") {
		t.Errorf("RoundTrip() = %v, want that the body is missing", err)
	}
}

// Handlers that go on after their answer, or write when they have returned, harm nobody.
func TestWritesAfterTheEndFail(t *testing.T) {
	writer := make(chan http.ResponseWriter, 1)
	body := make(chan io.Reader, 1)
	tr := inProcess(t, func(w http.ResponseWriter, r *http.Request) {
		writer <- w
		body <- r.Body
		io.WriteString(w, "hello")
	}, zerohop.Spec{})
	resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodPost, "http://orders/", strings.NewReader("x")))
	if got := read(t, resp, err); got != "hello" {
		t.Errorf("answer %q", got)
	}
	w, b := <-writer, <-body
	for { // the answer may be here before the handler is done
		if _, err := b.Read(make([]byte, 1)); errors.Is(err, http.ErrBodyReadAfterClose) {
			break
		}
		runtime.Gosched()
	}
	if n, err := w.Write([]byte("late")); err == nil {
		t.Errorf("Write() = %d, want an error", n)
	}
	if err := http.NewResponseController(w).Flush(); err == nil {
		t.Error("Flush() = nil, want an error")
	}
}

func TestRouteRewritesAreSeenInTheProcess(t *testing.T) {
	tr := inProcess(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get(AttemptHeader)+r.Header.Get(TimeoutHeader))
	}, zerohop.Spec{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	resp, err := tr.RoundTrip(request(ctx, t, http.MethodGet, "http://orders/", nil))
	if got := read(t, resp, err); got == "" {
		t.Error("the handler is not told how much time is left")
	}
}

func TestStreamKeepsOrderThroughWrapping(t *testing.T) {
	var s stream
	s.init()
	want := bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz"), 20_000)
	go func() {
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+len(rest)%7919)
			s.Write(rest[:n])
			rest = rest[n:]
		}
		s.end(io.EOF)
	}()
	var got []byte
	for buf := make([]byte, 5003); ; {
		n, err := s.Read(buf[:1+len(got)%5003])
		got = append(got, buf[:n]...)
		if err == io.EOF {
			break
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d came through, or in another order", len(got), len(want))
	}
}

// What a handler could not write is not a complete answer: the caller must not take the part for the whole.
func TestAnswerThatMissedItsDeadlineBreaksOff(t *testing.T) {
	for name, prepare := range map[string]func(w http.ResponseWriter){
		"length unknown": func(http.ResponseWriter) {},
		"length said":    func(w http.ResponseWriter) { w.Header().Set("Content-Length", "200000") },
	} {
		t.Run(name, func(t *testing.T) {
			written := make(chan error, 1)
			tr := inProcess(t, func(w http.ResponseWriter, _ *http.Request) {
				prepare(w)
				http.NewResponseController(w).SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
				_, err := w.Write(make([]byte, 200_000))
				written <- err
			}, zerohop.Spec{})
			resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodGet, "http://orders/", nil))
			if err != nil {
				return // it had no time for the head, either
			}
			defer resp.Body.Close()
			if err := <-written; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Write() = %v, want %v", err, os.ErrDeadlineExceeded)
			}
			if n, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("body: %d bytes, %v, want that it breaks off", n, err)
			}
		})
	}
	t.Run("short", func(t *testing.T) {
		tr := inProcess(t, func(w http.ResponseWriter, _ *http.Request) {
			http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
			io.WriteString(w, "hello")
		}, zerohop.Spec{})
		if resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodGet, "http://orders/", nil)); err == nil {
			t.Errorf("an answer with status %d, want none", resp.StatusCode)
			resp.Body.Close()
		}
	})
}

// Trailers are there when the handler has come to the end of the body, and do not come while it looks at others.
func TestTrailersOfARequestComeWithItsEnd(t *testing.T) {
	sent := make(chan struct{})
	tr := inProcess(t, func(w http.ResponseWriter, r *http.Request) {
		io.ReadFull(r.Body, make([]byte, 1))
		<-sent
		for range 1000 {
			if got := r.Trailer.Get("X-Sum"); got != "" {
				t.Errorf("trailer %q before the end of the body", got)
				break
			}
			runtime.Gosched()
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, r.Trailer.Get("X-Sum"))
	}, zerohop.Spec{})
	req := request(t.Context(), t, http.MethodPost, "http://orders/", nil)
	req.Trailer = http.Header{"X-Sum": nil}
	req.Body = io.NopCloser(io.MultiReader(strings.NewReader("hello"), readFunc(func([]byte) (int, error) {
		req.Trailer.Set("X-Sum", "5")
		close(sent)
		return 0, io.EOF
	})))
	resp, err := tr.RoundTrip(req)
	if got := read(t, resp, err); got != "5" {
		t.Errorf("trailer at the end %q, want 5", got)
	}
}

// Middleware sets fields of the request to what it makes of the body, or of the method.
func TestHandlerMayChangeItsRequest(t *testing.T) {
	tr := inProcess(t, func(w http.ResponseWriter, r *http.Request) {
		body := r.Body
		method := r.Method
		r.ContentLength, r.Trailer, r.Method, r.Body = 2, http.Header{"X": nil}, http.MethodGet, http.NoBody
		*r = *r.WithContext(context.Background())
		data, err := io.ReadAll(body)
		if err != nil {
			t.Errorf("%s: Read() = %v", method, err)
		}
		w.Write(data)
	}, zerohop.Spec{})
	resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodPost, "http://orders/", strings.NewReader("hello")))
	if got := read(t, resp, err); got != "hello" {
		t.Errorf("answer %q", got)
	}
	resp, err = tr.RoundTrip(request(t.Context(), t, http.MethodHead, "http://orders/", strings.NewReader("hello")))
	if got := read(t, resp, err); got != "" {
		t.Errorf("answer to HEAD %q", got)
	}
}

// A body whose Close waits for a Read that hangs keeps the handler from nothing.
func TestHandlerLearnsOfTheEndBeforeTheBodyIsClosed(t *testing.T) {
	gone := make(chan struct{})
	tr := inProcess(t, func(_ http.ResponseWriter, r *http.Request) {
		io.ReadAll(r.Body)
		<-r.Context().Done()
		close(gone)
	}, zerohop.Spec{})
	ctx, cancel := context.WithCancel(t.Context())
	req := request(ctx, t, http.MethodPost, "http://orders/", nil)
	req.ContentLength = -1
	req.Body = &stubborn{begun: cancel, gone: gone}
	if resp, err := tr.RoundTrip(req); err == nil {
		resp.Body.Close()
		t.Error("RoundTrip() succeeded, want that it was cancelled")
	}
}

// stubborn is a body that neither ends nor closes until gone is closed.
type stubborn struct {
	begun func()
	gone  chan struct{}
}

func (s *stubborn) Read([]byte) (int, error) {
	s.begun()
	<-s.gone
	return 0, io.EOF
}

func (s *stubborn) Close() error {
	<-s.gone
	return nil
}

// Deadlines that a handler has set keep nothing of the call when it is over.
func TestDeadlinesEndWithTheHandler(t *testing.T) {
	var v errand
	v.down.init()
	v.up = &parcel{errand: &v}
	v.up.init()
	v.out = &http.Request{Body: http.NoBody}
	v.in, v.cancel = (&http.Request{}).WithContext(here), func() {}
	v.answered = make(chan struct{})
	v.leave = func() bool { return true }
	v.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c := http.NewResponseController(w)
		c.SetReadDeadline(time.Now().Add(time.Hour))
		c.SetWriteDeadline(time.Now().Add(time.Hour))
	}))
	if v.up.reads.timer != nil || v.down.writes.timer != nil {
		t.Error("a timer still runs")
	}
}

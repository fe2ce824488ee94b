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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// closedAddr is an address that refuses connections.
func closedAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestEveryRequestReachesTheNodeThatWasPicked(t *testing.T) {
	var servers []string
	for range 3 {
		var s *httptest.Server
		s = serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, addr(s), " ", r.Host) })
		servers = append(servers, addr(s))
	}
	picked := make(chan string, 1)
	m := open(t, zerohop.Config{
		Resolver: source(servers...),
		Spec:     zerohop.Spec{Defaults: zerohop.Policy{Backup: zerohop.Backup{Mode: zerohop.Off}}}, // which picks, too, if the machine stalls
		Hooks: zerohop.Hooks{
			AttemptStart: func(ctx context.Context, _ zerohop.CallInfo, a zerohop.AttemptInfo) context.Context {
				picked <- a.Node.Addr()
				return ctx
			},
		},
	})
	c := &http.Client{Transport: client(t, m)}
	for range 200 {
		resp, err := c.Get("http://orders/")
		if got, want := read(t, resp, err), <-picked+" orders"; got != want {
			t.Fatalf("request reached %q, want %q", got, want)
		}
	}
}

func TestNodesThatRefuseConnectionsCostNothing(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	m := open(t, zerohop.Config{Resolver: source(addr(s), closedAddr(t), closedAddr(t))})
	c := &http.Client{Transport: client(t, m)}
	for i := range 100 {
		resp, err := c.Post("http://orders/", "text/plain", strings.NewReader(fmt.Sprint(i)))
		if got, want := read(t, resp, err), fmt.Sprint(i); got != want {
			t.Errorf("answer = %q, want %q", got, want)
		}
	}
}

// What comes back is a way to a server that ran all the time: a port that is free now may be another program's later.
func TestAllEndpointsDownAndBackAgain(t *testing.T) {
	s, closed := serve(t, http.NotFound), closedAddr(t)
	var healed atomic.Bool
	m := open(t, zerohop.Config{Resolver: source(addr(s))})
	tr := NewTransport(m, &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !healed.Load() {
			addr = closed
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	t.Cleanup(tr.CloseIdleConnections)
	start := time.Now()
	_, err := tr.RoundTrip(request(t.Context(), t, "POST", "http://orders/", strings.NewReader("x")))
	e := failure(t, err)
	if e.Sent || e.Reason != zerohop.Failed || len(e.Attempts) == 0 || e.Attempts[0].Addr != addr(s) || e.Attempts[0].Outcome != resilience.Failure {
		t.Errorf("error = %+v, want attempts that were not sent", e)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("RoundTrip took %v", took)
	}
	healed.Store(true)
	resp, err := get(t.Context(), t, tr, "http://orders/")
	if read(t, resp, err); resp.StatusCode != 404 {
		t.Errorf("status = %d, want 404", resp.StatusCode)
	}
}

func TestDiscardedAnswersFreeTheirConnection(t *testing.T) {
	var conns, requests atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1)%2 == 1 {
			w.WriteHeader(503)
		}
		_, _ = w.Write(bytes.Repeat([]byte("x"), 10<<10))
	}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Base: 1, Max: 1}, Budget: zerohop.Budget{Mode: zerohop.Off}}}})
	tr := NewTransport(m, &http.Transport{MaxConnsPerHost: 1})
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range 50 {
		resp, err := get(ctx, t, tr, "http://orders/")
		if read(t, resp, err); resp.StatusCode != 200 {
			t.Errorf("status = %d, want 200", resp.StatusCode)
		}
	}
	if got := conns.Load(); got > 2 {
		t.Errorf("%d connections for one request at a time", got)
	}
	checkIdle(t, m)
}

func TestTruncatedBodyIsAFailureOfTheEndpoint(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write(make([]byte, 50))
	})
	m := open(t, zerohop.Config{Resolver: source(addr(s))})
	resp, err := get(t.Context(), t, client(t, m), "http://orders/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if data, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || len(data) != 50 {
		t.Errorf("body = %d bytes, %v, want %v", len(data), err, io.ErrUnexpectedEOF)
	}
	if n := nodes(t, m)[0]; !n.Penalized(time.Now()) || n.InFlight() != 0 {
		t.Errorf("node is avoided: %v, in flight: %d, want true, 0", n.Penalized(time.Now()), n.InFlight())
	}
}

func TestBodyThatHangsIsAFailureOfTheEndpoint(t *testing.T) {
	for _, c := range []struct {
		name             string
		wait, whole      time.Duration // before reading, and http.Client.Timeout
		deadline, cancel bool
		want             bool
	}{
		{"deadline", 0, time.Hour, true, false, true},
		{"http.Client.Timeout", 0, time.Second, false, false, true},
		{"cancel", 0, time.Hour, false, true, false},
		{"slow caller", 2 * time.Second, time.Hour, true, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := open(t, zerohop.Config{Resolver: fakes(1)})
			base := roundTrip(func(req *http.Request) (*http.Response, error) {
				resp, err := answer(200, "x")(req)
				resp.Body.(*fakeBody).Reader = readerFunc(func([]byte) (int, error) {
					<-req.Context().Done()
					return 0, req.Context().Err()
				})
				return resp, err
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.deadline {
				ctx, cancel = context.WithTimeout(ctx, time.Second)
				defer cancel()
			}
			if c.cancel {
				time.AfterFunc(time.Second, cancel)
			}
			resp, err := (&http.Client{Transport: NewTransport(m, base), Timeout: c.whole}).Do(request(ctx, t, "GET", "http://orders/", nil))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(c.wait)
			if _, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%s: the body has an end", c.name)
			}
			resp.Body.Close()
			if got := nodes(t, m)[0].Penalized(time.Now()); got != c.want {
				t.Errorf("%s: node is avoided: %v, want %v", c.name, got, c.want)
			}
			checkIdle(t, m)
		})
	}
}

func TestUpgradedConnectionsCanBeWrittenTo(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		fmt.Fprint(rw, "echo ", line)
		_ = rw.Flush()
	})
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: zerohop.Policy{AttemptTimeout: time.Minute}}})
	req := request(t.Context(), t, "GET", "http://orders/", nil)
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}}
	resp, err := client(t, m).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	rw, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != 101 {
		t.Fatalf("status %d, body %T, want 101 and one that can be written to", resp.StatusCode, resp.Body)
	}
	fmt.Fprintln(rw, "hello")
	if got, err := bufio.NewReader(rw).ReadString('\n'); got != "echo hello\n" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if got := nodes(t, m)[0].InFlight(); got != 1 {
		t.Errorf("in flight = %d, want 1", got)
	}
	rw.Close()
	checkIdle(t, m)
}

func TestAnswersWithoutABodyEndTheAttempt(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/204" {
			w.WriteHeader(204)
		}
	})
	m := open(t, zerohop.Config{Resolver: source(addr(s))})
	tr := client(t, m)
	for _, c := range []struct{ method, path string }{{"HEAD", "/"}, {"GET", "/204"}, {"GET", "/"}} {
		resp, err := tr.RoundTrip(request(t.Context(), t, c.method, "http://orders"+c.path, nil))
		if err != nil {
			t.Fatal(err)
		}
		checkIdle(t, m)
		resp.Body.Close()
	}
}

func TestRoutesChooseServiceAndPolicy(t *testing.T) {
	named := func(name string) string {
		return addr(serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
	}
	m := open(t, zerohop.Config{
		Resolver: discovery.Static{
			"orders": {{Addr: named("orders")}}, "canary": {{Addr: named("canary")}}, "reports": {{Addr: closedAddr(t)}},
		},
		Spec: zerohop.Spec{
			Policies: map[string]zerohop.Policy{"once": {Retry: zerohop.Retry{Mode: zerohop.Off}}},
			Routes: []routing.Rule{
				{Match: routing.Match{Service: "orders", Headers: []routing.Field{{Name: "X-Canary", Present: true}}}, Backends: []routing.Backend{{Service: "canary"}}},
				{Match: routing.Match{Service: "orders", Path: routing.Path{Prefix: "/reports"}}, Backends: []routing.Backend{{Service: "reports"}}, Policy: "once"},
			},
		},
	})
	tr := client(t, m)
	for _, c := range []struct{ path, header, want string }{{"/", "", "orders"}, {"/", "1", "canary"}} {
		req := request(t.Context(), t, "GET", "http://orders"+c.path, nil)
		req.Header.Set("X-Canary", c.header)
		resp, err := tr.RoundTrip(req)
		if got := read(t, resp, err); got != c.want {
			t.Errorf("%s with %q went to %s, want %s", c.path, c.header, got, c.want)
		}
	}
	_, err := get(t.Context(), t, tr, "http://orders/reports/1")
	if e := failure(t, err); e.Service != "reports" || len(e.Attempts) != 1 {
		t.Errorf("error = %+v, want one attempt on reports", e)
	}
}

// Whatever goes wrong, calls end in time and leave nothing behind.
func TestManyCallsWithRandomFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 calls take seconds")
	}
	var servers []string
	for range 3 {
		servers = append(servers, addr(serve(t, func(w http.ResponseWriter, r *http.Request) {
			switch fault := r.Header.Get("Fault"); {
			case fault == "503":
				http.Error(w, "busy", http.StatusServiceUnavailable)
			case fault == "hang":
				<-r.Context().Done()
			case fault == "reset":
				w.Header().Set("Content-Length", "1000")
				_, _ = w.Write(make([]byte, 10))
				panic(http.ErrAbortHandler)
			default:
				_, _ = w.Write(make([]byte, 2000))
			}
		})))
	}
	m := open(t, zerohop.Config{Resolver: source(append(servers, closedAddr(t))...)})
	tr := client(t, m)
	faults := []string{"", "", "", "", "", "", "503", "reset", "hang", "cancel"}
	var calls sync.WaitGroup
	const callers, each, limit = 40, 250, 50 * time.Millisecond
	for k := range callers {
		calls.Go(func() {
			for i := range each {
				fault := faults[(k*7+i*3+i/10)%len(faults)]
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				if fault == "cancel" {
					time.AfterFunc(time.Duration(i%5)*time.Millisecond, cancel)
				}
				req := request(ctx, t, []string{"GET", "POST"}[i%2], "http://orders/", nil)
				req.Header.Set("Fault", fault)
				start := time.Now()
				resp, err := tr.RoundTrip(req)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				} else {
					failure(t, err)
				}
				// The margin is for a machine that does other things as well.
				if took := time.Since(start); took > limit+5*time.Second {
					t.Errorf("call with fault %q took %v, want at most %v", fault, took, limit)
				}
				cancel()
			}
		})
	}
	calls.Wait()
	list := nodes(t, m)
	m.Close() // waits for backups that are still on their way back
	for _, n := range list {
		if got := n.InFlight(); got != 0 {
			t.Errorf("in flight on %s = %d, want 0", n.Addr(), got)
		}
	}
}

// Not at the first request, where nobody would know why.
func TestTransportWithoutAMeshIsNotMade(t *testing.T) {
	defer func() {
		if got, _ := recover().(string); !strings.Contains(got, "without a mesh") {
			t.Errorf("NewTransport(nil, nil) panicked with %q", got)
		}
	}()
	NewTransport(nil, nil)
}

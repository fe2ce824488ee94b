package httpmesh

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

func admission(t testing.TB, p zerohop.AdmissionPolicy) *zerohop.Admission {
	t.Helper()
	a, err := zerohop.NewAdmission(zerohop.AdmissionConfig{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// one lets one request in at a time, and none wait.
var one = zerohop.AdmissionPolicy{Mode: zerohop.On, Algorithm: "fixed", Max: 1, Queue: -1}

// take fills the only place, and returns what gives it back.
func take(t testing.TB, a *zerohop.Admission) func() {
	t.Helper()
	v := new(zerohop.Visit)
	if err := a.Admit(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	return func() { v.Leave(resilience.Neutral) }
}

func TestHandlerRefusesWhatIsTooMuch(t *testing.T) {
	for _, tt := range []struct {
		name    string
		header  http.Header
		policy  zerohop.AdmissionPolicy
		path    string
		code    int
		noRetry string
	}{
		{"first attempt", http.Header{}, one, "/", 503, ""},
		{"repetition", http.Header{AttemptHeader: {"1"}}, one, "/", 503, "1"},
		{"sheddable", http.Header{CriticalityHeader: {"sheddable-plus"}}, one, "/", 503, "1"},
		{"nonsense", http.Header{CriticalityHeader: {"low"}, AttemptHeader: {"-1"}, AttemptTimeoutHeader: {"x"}}, one, "/", 503, ""},
		{"observed", http.Header{}, zerohop.AdmissionPolicy{Algorithm: "fixed", Max: 1, Queue: -1}, "/", 200, ""},
		{"off", http.Header{}, zerohop.AdmissionPolicy{Mode: zerohop.Off, Algorithm: "fixed", Max: 1, Queue: -1}, "/", 200, ""},
		{"exempt", http.Header{}, one, "/healthz", 200, ""},
		{"load", http.Header{WantLoadHeader: {"1"}}, one, LoadPath, 204, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := admission(t, tt.policy)
			leave := take(t, a)
			ran := false
			h := NewHandler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran = true }), HandlerOptions{
				Admission: a, Exempt: func(r *http.Request) bool { return r.URL.Path == "/healthz" },
			})
			req := httptest.NewRequestWithContext(t.Context(), "GET", tt.path, nil)
			req.Header = tt.header
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			mark := w.Header().Get(RefusedHeader) != ""
			if w.Code != tt.code || ran != (tt.code == 200) || mark != (tt.code == 503) || w.Header().Get(NoRetryHeader) != tt.noRetry || w.Header().Get("Retry-After") != "" {
				t.Errorf("status %d, ran %v, %v, want status %d, no retry %q", w.Code, ran, w.Header(), tt.code, tt.noRetry)
			}
			leave()
			w = httptest.NewRecorder()
			if h.ServeHTTP(w, req); w.Code >= 500 {
				t.Errorf("with a place free: status %d", w.Code)
			}
			if s := a.State(); s.InFlight != 0 {
				t.Errorf("%d in flight at rest", s.InFlight)
			}
		})
	}
}

// A hint of how long the attempt may take does not end the body of its answer.
func TestAttemptTimeoutIsForAdmissionOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := admission(t, zerohop.AdmissionPolicy{Mode: zerohop.On})
		h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, ok := r.Context().Deadline(); ok {
				t.Error("the attempt timeout has become the deadline of the handler")
			}
			time.Sleep(100 * time.Millisecond)
			w.WriteHeader(200)
			time.Sleep(200 * time.Millisecond)
		}), HandlerOptions{Admission: a})
		ask := func(left string) int {
			req := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
			req.Header.Set(AttemptTimeoutHeader, left)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			return w.Code
		}
		for range 25 {
			if got := ask("150"); got != 200 { // until the header, that is enough
				t.Fatalf("status %d, want 200", got)
			}
		}
		ask("150") // so that the next is no trial
		if got := ask("50"); got != 200 {
			t.Errorf("a trial after a pause: status %d, want 200", got)
		}
		running := make(chan int)
		go func() { running <- ask("150") }()
		synctest.Wait()
		if got := ask("50"); got != 503 {
			t.Errorf("with less time than the service takes: status %d, want 503", got)
		}
		<-running
	})
}

func TestAttemptsTellTheirTimeout(t *testing.T) {
	for _, c := range []struct {
		name    string
		policy  zerohop.Policy
		caller  time.Duration
		attempt time.Duration
		said    []string
		want    string
	}{
		{"none", zerohop.Policy{}, 0, 0, nil, ""},
		{"policy", zerohop.Policy{AttemptTimeout: 250 * time.Millisecond}, 0, 0, nil, "250"},
		{"shorter than the deadline", zerohop.Policy{AttemptTimeout: 250 * time.Millisecond}, time.Second, 0, nil, "250"},
		{"longer than the deadline", zerohop.Policy{AttemptTimeout: 2 * time.Second}, time.Second, 0, nil, ""},
		{"of the call", zerohop.Policy{}, 0, 50 * time.Millisecond, []string{"9"}, "50"},
		{"of another request", zerohop.Policy{}, 0, 0, []string{"9"}, ""},
		{"off", zerohop.Policy{AttemptTimeout: time.Second, Propagate: zerohop.Off}, 0, 0, nil, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := zerohop.WithCall(t.Context(), zerohop.CallOptions{AttemptTimeout: c.attempt})
			if c.caller > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.caller)
				defer cancel()
			}
			header := http.Header{}
			if c.said != nil {
				header[AttemptTimeoutHeader] = c.said
			}
			seen := announced(ctx, t, c.policy, "http://orders/", header, answer(200, "ok"))
			if got := strings.Join(seen[0][AttemptTimeoutHeader], ","); got != c.want {
				t.Errorf("%s: the server was told %q, want %q", c.name, got, c.want)
			}
		})
	}
}

// What a server refuses goes elsewhere whatever it is, and says so; if all refuse, the call is not sent round and round.
func TestRefusedRequestsGoElsewhere(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		var served atomic.Int64
		server := func(a *zerohop.Admission) string {
			h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				served.Add(1)
				io.Copy(w, r.Body)
			}), HandlerOptions{Admission: a})
			s := httptest.NewUnstartedServer(h)
			s.Config.Protocols = new(http.Protocols)
			s.Config.Protocols.SetHTTP1(!http2)
			s.Config.Protocols.SetUnencryptedHTTP2(http2)
			s.Start()
			t.Cleanup(s.Close)
			return s.Listener.Addr().String()
		}
		full, free := admission(t, one), admission(t, one)
		leave := take(t, full)
		m := open(t, zerohop.Config{Resolver: source(server(full), server(free)), Spec: zerohop.Spec{Defaults: zerohop.Policy{Balance: "random", Budget: zerohop.Budget{Mode: zerohop.Off}, Outlier: zerohop.Outlier{Mode: zerohop.Off}}}})
		base := &http.Transport{Protocols: new(http.Protocols)}
		base.Protocols.SetHTTP1(!http2)
		base.Protocols.SetUnencryptedHTTP2(http2)
		t.Cleanup(base.CloseIdleConnections)
		tr := NewTransport(m, base)
		post := func(ctx context.Context) (int, *zerohop.Report, string) {
			ctx, report := zerohop.WithReport(ctx)
			resp, err := tr.RoundTrip(request(ctx, t, http.MethodPost, "http://orders/", strings.NewReader("hello")))
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, report, read(t, resp, nil)
		}
		again := 0
		for range 20 {
			code, report, body := post(t.Context())
			if code != 200 || body != "hello" {
				t.Fatalf("HTTP/2 %v: status %d, %q, want that the free server answers", http2, code, body)
			}
			for _, a := range report.Calls()[0].Attempts {
				if a.Outcome == resilience.Overload {
					again++
				}
			}
		}
		if again == 0 || served.Load() != 20 {
			t.Errorf("HTTP/2 %v: %d refused, %d served, want some and 20", http2, again, served.Load())
		}
		leaveToo := take(t, free)
		code, report, _ := post(t.Context())
		attempts := report.Calls()[0].Attempts
		if code != 503 || len(attempts) != 2 || attempts[1].Outcome != resilience.Overload {
			t.Errorf("HTTP/2 %v: all are full: status %d after %+v, want 503 after one attempt on each", http2, code, attempts)
		}
		leave()
		leaveToo()
	}
}

// Event streams and tunnels do not shut others out once they stand.
func TestOpenStreamsKeepNoPlace(t *testing.T) {
	a := admission(t, one)
	ended := make(chan struct{})
	started := make(chan struct{})
	s := serve(t, NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			w.WriteHeader(200)
			http.NewResponseController(w).Flush()
			<-ended
		case "/tunnel":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			<-ended
		case "/download":
			w.WriteHeader(200)
			http.NewResponseController(w).Flush()
			close(started)
			<-ended
		}
	}), HandlerOptions{Admission: a}).ServeHTTP)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	for _, path := range []string{"/events", "/tunnel", "/events"} {
		req := request(t.Context(), t, "GET", s.URL+path, nil)
		if path == "/tunnel" {
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "x")
		}
		resp, err := tr.RoundTrip(req)
		if err != nil || resp.StatusCode == 503 {
			t.Fatalf("%s: %v, %v", path, resp, err)
		}
		defer resp.Body.Close()
	}
	if got := a.State().InFlight; got != 0 {
		t.Errorf("%d in flight while streams stand, want none", got)
	}
	req := request(t.Context(), t, "GET", s.URL+"/download", nil)
	req.Header.Set("Connection", "Upgrade, HTTP2-Settings")
	req.Header.Set("Upgrade", "h2c") // which the server does not take up: to ask for a tunnel is not enough
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-started
	if got := a.State().InFlight; got != 1 {
		t.Errorf("%d in flight during a download, want 1", got)
	}
	close(ended)
}

func TestPanicsGiveTheirPlaceBack(t *testing.T) {
	a := admission(t, one)
	h := NewHandler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), HandlerOptions{Admission: a})
	for range 2 {
		func() {
			defer func() {
				if got := recover(); got != any(http.ErrAbortHandler) {
					t.Errorf("recover() = %v, want that of the handler", got)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
		}()
	}
	if got := a.State().InFlight; got != 0 {
		t.Errorf("%d in flight at rest", got)
	}
}

// A request waits for its turn, no longer than its caller.
func TestRequestsWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := one
		p.Queue = 10
		a := admission(t, p)
		h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}), HandlerOptions{Admission: a})
		ask := func(ctx context.Context, timeout string) int {
			req := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
			if timeout != "" {
				req.Header.Set(TimeoutHeader, timeout)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			return w.Code
		}
		leave := take(t, a)
		if got := ask(t.Context(), "20"); got != http.StatusGatewayTimeout {
			t.Errorf("status %d, want 504 for one whose time is up", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if got := ask(ctx, ""); got != http.StatusGatewayTimeout {
			t.Errorf("status %d, want 504 for one whose time is up by the server", got)
		}
		time.AfterFunc(20*time.Millisecond, leave)
		if got := ask(t.Context(), "50"); got != 200 {
			t.Errorf("status %d, want 200 for one that waits", got)
		}
	})
}

func TestHandlerNamesOperations(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", func(http.ResponseWriter, *http.Request) {})
	for _, tt := range []struct {
		h            *Handler
		method, path string
		want         string
	}{
		{NewHandler(mux, HandlerOptions{}), "GET", "/orders/42", "GET /orders/{id}"},
		{NewHandler(mux, HandlerOptions{}), "GET", "/other", "GET"},
		{NewHandler(http.NotFoundHandler(), HandlerOptions{}), "PUT", "/orders/42", "PUT"},
		{NewHandler(http.NotFoundHandler(), HandlerOptions{}), "BREW", "/orders/42", ""},
		{NewHandler(mux, HandlerOptions{Operation: func(r *http.Request) string { return r.URL.Path }}), "GET", "/a", "/a"},
	} {
		if got := tt.h.operation(httptest.NewRequest(tt.method, tt.path, nil)); got != tt.want {
			t.Errorf("operation of %s %s = %q, want %q", tt.method, tt.path, got, tt.want)
		}
	}
}

// Whatever headers say, a request is served or refused as documented, and leaves nothing behind.
func FuzzAdmission(f *testing.F) {
	f.Add("250", "100", "sheddable", "1")
	f.Add("99999999999999999999", "0", "critical-plus", "x")
	f.Add("", "-1", "\x00", "")
	a := admission(f, zerohop.AdmissionPolicy{Mode: zerohop.On, Queue: -1})
	h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}), HandlerOptions{Admission: a})
	f.Fuzz(func(t *testing.T, timeout, attempt, level, sent string) {
		req := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		req.Header[TimeoutHeader], req.Header[AttemptTimeoutHeader] = []string{timeout}, []string{attempt}
		req.Header[CriticalityHeader], req.Header[AttemptHeader] = []string{level}, []string{sent}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != 200 && w.Code != 503 && w.Code != 504 {
			t.Errorf("status %d", w.Code)
		}
		if s := a.State(); s.InFlight != 0 || s.Queued != 0 {
			t.Errorf("at rest: %+v", s)
		}
	})
}

// A service that hands on the refusal of another one, with its headers, has begun with the request: what must not be
// executed twice is not sent again.
func TestRefusalsThatAreHandedOnAreNotOnesOwn(t *testing.T) {
	var executed atomic.Int32
	h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		executed.Add(1)
		w.Header().Set(RefusedHeader, "limit")
		w.WriteHeader(http.StatusServiceUnavailable)
	}), HandlerOptions{})
	list := []string{addr(serve(t, h.ServeHTTP)), addr(serve(t, h.ServeHTTP))}
	m := open(t, zerohop.Config{
		Resolver: discovery.Static{"orders": {{Addr: list[0]}, {Addr: list[1]}}, "spare": {{Addr: list[0]}}},
		Spec:     zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Base: 1, Max: 1}, Fallback: zerohop.Substitute{Service: "spare"}}},
	})
	resp, err := client(t, m).RoundTrip(request(t.Context(), t, "POST", "http://orders/", strings.NewReader("x")))
	read(t, resp, err)
	if n := executed.Load(); n != 1 || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("executed %d times, and the answer is %d, want once and 503", n, resp.StatusCode)
	}
}

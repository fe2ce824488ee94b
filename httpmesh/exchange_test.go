package httpmesh

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

var (
	errReset   = errors.New("connection reset")
	errRefused = &net.OpError{Op: "dial", Err: errors.New("refused")}
)

func TestRetries(t *testing.T) {
	ok := answer(200, "ok")
	for _, c := range []struct {
		name     string
		method   string
		headers  []string
		deadline time.Duration
		attempts []roundTrip
		status   int // 0: error
		body     string
		is       error
		took     time.Duration // at least
	}{
		{"GET 503", "GET", nil, 0, []roundTrip{answer(503, ""), ok}, 200, "ok", nil, 0},
		{"GET 502, reset", "GET", nil, 0, []roundTrip{answer(502, ""), fail(errReset), ok}, 200, "ok", nil, 0},
		{"GET 500", "GET", nil, 0, []roundTrip{answer(500, "oops")}, 500, "oops", nil, 0},
		{"GET 404", "GET", nil, 0, []roundTrip{answer(404, "none")}, 404, "none", nil, 0},
		{"GET 302", "GET", nil, 0, []roundTrip{answer(302, "", "Location", "http://orders/x")}, 302, "", nil, 0},
		{"GET 421", "GET", nil, 0, []roundTrip{answer(421, ""), ok}, 200, "ok", nil, 0},
		{"POST 503", "POST", nil, 0, []roundTrip{answer(503, "full")}, 503, "full", nil, 0},
		{"POST reset", "POST", nil, 0, []roundTrip{fail(errReset)}, 0, "", errReset, 0},
		{"POST refused", "POST", nil, 0, []roundTrip{fail(errRefused), fail(errRefused), ok}, 200, "ok", nil, 0},
		{"POST with a key", "POST", []string{"Idempotency-Key", "1"}, 0, []roundTrip{answer(503, ""), ok}, 200, "ok", nil, 0},
		{"GET upgrade", "GET", []string{"Upgrade", "websocket"}, 0, []roundTrip{answer(503, "no")}, 503, "no", nil, 0},
		{"three answers", "GET", nil, 0, []roundTrip{answer(503, "a"), answer(502, "b"), answer(504, "c")}, 504, "c", nil, 0},
		{"answers, then an error", "GET", nil, 0, []roundTrip{answer(503, "a"), answer(502, "b"), fail(errReset)}, 502, "b", nil, 0},
		{
			"an answer, one too large to keep, then an error", "GET", nil, 0,
			[]roundTrip{answer(503, "a"), answer(502, strings.Repeat("x", drainLimit+1)), fail(errReset)}, 503, "a", nil, 0,
		},
		{
			"an answer too large to keep, then errors", "GET", nil, 0,
			[]roundTrip{answer(502, strings.Repeat("x", drainLimit+1)), fail(errRefused), fail(errReset)}, 0, "", errReset, 0,
		},
		{"Retry-After of one endpoint", "GET", nil, time.Second, []roundTrip{answer(429, "", "Retry-After", "3"), ok}, 200, "ok", nil, 0},
		{
			"Retry-After of all endpoints", "GET", nil, 0,
			[]roundTrip{answer(503, "", "Retry-After", "3"), answer(503, "", "Retry-After", "3"), answer(503, "later", "Retry-After", "3")},
			503, "later", nil, 0,
		},
		{"empty bodies", "GET", nil, 0, []roundTrip{answer(503, ""), answer(503, ""), answer(503, "")}, 503, "", nil, 0},
		{"large body discarded", "GET", nil, 0, []roundTrip{answer(503, strings.Repeat("x", drainLimit+1)), ok}, 200, "ok", nil, 0},
		{"neither", "POST", nil, 0, []roundTrip{func(*http.Request) (*http.Response, error) { return nil, nil }}, 0, "", errNoResponse, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := open(t, zerohop.Config{Resolver: fakes(3)})
				base := inTurn(c.attempts...)
				ctx := t.Context()
				if c.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				body := &countedBody{Reader: strings.NewReader("payload")}
				req := request(ctx, t, c.method, "http://orders/path?q=1", nil)
				if c.method == "POST" {
					req.Body, req.ContentLength = body, 7
					req.GetBody = func() (io.ReadCloser, error) { return &countedBody{Reader: strings.NewReader("payload")}, nil }
				}
				for i := 0; i < len(c.headers); i += 2 {
					req.Header.Set(c.headers[i], c.headers[i+1])
				}
				before := req.Clone(ctx)
				start := time.Now()
				resp, err := NewTransport(m, base).RoundTrip(req)
				took := time.Since(start)
				if took < c.took || took > c.took+time.Second {
					t.Errorf("RoundTrip took %v, want %v and a pause", took, c.took)
				}
				if c.status == 0 {
					if e := failure(t, err); !errors.Is(err, c.is) || len(e.Attempts) != len(c.attempts) {
						t.Errorf("error = %+v, want %v", e, c.is)
					}
				} else {
					if got := read(t, resp, err); got != c.body || resp.StatusCode != c.status || resp.Request != req {
						t.Errorf("response = %d %q, want %d %q and the caller's request", resp.StatusCode, got, c.status, c.body)
					}
				}
				if len(base.addrs) != len(c.attempts) {
					t.Errorf("%d attempts, want %d", len(base.addrs), len(c.attempts))
				}
				slices.Sort(base.addrs)
				if len(slices.Compact(base.addrs)) != len(c.attempts) {
					t.Errorf("attempts went to %v, want different nodes", base.addrs)
				}
				if diff := cmp.Diff(before, req, cmpopts.IgnoreUnexported(http.Request{}), cmpopts.IgnoreFields(http.Request{}, "Body", "GetBody")); diff != "" {
					t.Errorf("the request was changed:\n%s", diff)
				}
				if c.method == "POST" && (req.Body != io.ReadCloser(body) || body.closed == 0) {
					t.Error("the body of the request was replaced or not closed")
				}
				checkIdle(t, m)
			})
		})
	}
}

type countedBody struct {
	io.Reader
	closed int
}

func (b *countedBody) Close() error { b.closed++; return nil }

func TestBodiesAreSentWholeOrOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, zerohop.Config{Resolver: fakes(3)})
		content := strings.Repeat("0123456789", 10000)
		var got []string
		partly := func(n int64, then roundTrip) roundTrip {
			return func(req *http.Request) (*http.Response, error) {
				data, _ := io.ReadAll(io.LimitReader(req.Body, n))
				got = append(got, string(data))
				return then(req)
			}
		}
		base := inTurn(partly(777, answer(503, "")), partly(0, fail(errReset)), partly(1<<20, answer(200, "ok")))
		req := request(t.Context(), t, "PUT", "http://orders/", strings.NewReader(content))
		resp, err := NewTransport(m, base).RoundTrip(req)
		if read(t, resp, err); len(got) != 3 || got[2] != content {
			t.Errorf("attempts read %d bodies, the last one of %d bytes, want 3 and %d", len(got), len(got[len(got)-1]), len(content))
		}

		broken := errors.New("no copy")
		for _, c := range []struct {
			name  string
			first roundTrip
			is    error // nil: the answer
		}{{"answer", answer(503, "busy"), nil}, {"error", fail(errRefused), errRefused}} {
			req = request(t.Context(), t, "PUT", "http://orders/", strings.NewReader(content))
			req.GetBody = func() (io.ReadCloser, error) { return nil, broken }
			resp, err := NewTransport(m, inTurn(c.first)).RoundTrip(req)
			if c.is != nil {
				if !errors.Is(err, c.is) || !errors.Is(err, broken) {
					t.Errorf("%s: error = %v, want %v and that of GetBody", c.name, err, c.is)
				}
			} else if got := read(t, resp, err); got != "busy" || resp.StatusCode != 503 {
				t.Errorf("%s: answer = %d %q, want the one there is", c.name, resp.StatusCode, got)
			}
		}
		checkIdle(t, m)
	})
}

func TestBodyOfTheRequestIsClosedEvenIfItIsNotSent(t *testing.T) {
	m := open(t, zerohop.Config{Resolver: source()})
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx context.Context
		url string
	}{
		"no endpoints": {t.Context(), "http://orders/"}, "unknown": {t.Context(), "http://ledger/"}, "canceled": {canceled, "http://orders/"},
	} {
		body := &countedBody{Reader: strings.NewReader("x")}
		req := request(c.ctx, t, "POST", c.url, nil)
		req.Body = body
		_, err := NewTransport(m, inTurn()).RoundTrip(req)
		if failure(t, err); body.closed != 1 {
			t.Errorf("%s: body closed %d times, want once", name, body.closed)
		}
	}
	m.Close()
	body := &countedBody{Reader: strings.NewReader("x")}
	req := request(t.Context(), t, "POST", "http://orders/", nil)
	req.Body = body
	if _, err := NewTransport(m, inTurn()).RoundTrip(req); !errors.Is(err, zerohop.ErrClosed) || body.closed != 1 {
		t.Errorf("after Close: %v, body closed %d times", err, body.closed)
	}
}

func TestMalformedRequestsAreNotHeldAgainstEndpoints(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {})
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: zerohop.Policy{Breaker: zerohop.Breaker{Mode: zerohop.On, Consecutive: 1}}}})
	tr := client(t, m)
	for name, spoil := range map[string]func(*http.Request){
		"value": func(r *http.Request) { r.Header["X"] = []string{"a\nb"} }, "name": func(r *http.Request) { r.Header["a b"] = []string{"x"} },
		"method": func(r *http.Request) { r.Method = "GE T" }, "scheme": func(r *http.Request) { r.URL.Scheme = "ftp" },
		"no header": func(r *http.Request) { r.Header = nil }, "empty name": func(r *http.Request) { r.Header[""] = []string{"x"} },
	} {
		req := request(t.Context(), t, "GET", "http://orders/", nil)
		spoil(req)
		_, err := tr.RoundTrip(req)
		e := failure(t, err)
		if len(e.Attempts) != 1 || e.Sent || e.Detail != resilience.Answered {
			t.Errorf("%s: error = %+v, want one attempt that was not sent", name, e)
		}
		if n := nodes(t, m)[0]; n.Penalized(time.Now()) || n.BreakerState(time.Now()) != "closed" {
			t.Errorf("%s: the endpoint is to blame", name)
		}
	}
	resp, err := get(t.Context(), t, tr, "http://orders/")
	read(t, resp, err)
}

func TestPropagateSetsHeadersOfEachAttempt(t *testing.T) {
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		m := open(t, zerohop.Config{Resolver: fakes(2), Hooks: zerohop.Hooks{
			AttemptStart: func(ctx context.Context, _ zerohop.CallInfo, a zerohop.AttemptInfo) context.Context {
				return context.WithValue(ctx, key{}, []string{"zero", "one"}[a.Number])
			},
			Propagate: func(ctx context.Context, set func(key, value string)) { set("traceparent", ctx.Value(key{}).(string)) },
		}})
		var seen []string
		note := func(then roundTrip) roundTrip {
			return func(req *http.Request) (*http.Response, error) {
				seen = append(seen, req.Header["Traceparent"]...)
				return then(req)
			}
		}
		for _, header := range []http.Header{{"Traceparent": {"callers"}}, nil} {
			seen = nil
			req := request(t.Context(), t, "GET", "http://orders/", nil)
			req.Header = header
			before := header.Clone()
			resp, err := NewTransport(m, inTurn(note(answer(503, "")), note(answer(200, "")))).RoundTrip(req)
			read(t, resp, err)
			if diff := cmp.Diff([]string{"zero", "one"}, seen); diff != "" {
				t.Errorf("traceparent of attempts (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, req.Header); diff != "" {
				t.Errorf("headers of the caller changed:\n%s", diff)
			}
		}
	})
}

func TestOtherBasesGetTheAddressInTheURL(t *testing.T) {
	m := open(t, zerohop.Config{Resolver: fakes(1)})
	for _, c := range []struct{ host, want string }{{"", "orders"}, {"shop.example.com", "shop.example.com"}} {
		req := request(t.Context(), t, "GET", "http://orders/path", nil)
		req.Host = c.host
		resp, err := NewTransport(m, roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host != "10.0.0.1:80" || req.Host != c.want {
				t.Errorf("request to %q with Host %q, want the address and %q", req.URL.Host, req.Host, c.want)
			}
			return answer(200, "")(req)
		})).RoundTrip(req)
		read(t, resp, err)
	}
}

func TestRequestsToHostsPassUntouched(t *testing.T) {
	m := open(t, zerohop.Config{Resolver: fakes(1)})
	base := roundTrip(func(req *http.Request) (*http.Response, error) { return &http.Response{Request: req}, nil })
	for _, url := range []string{"http://api.example.com/", "http://127.0.0.1:80/", "http://localhost/"} {
		req := request(t.Context(), t, "GET", url, nil)
		if resp, err := NewTransport(m, base).RoundTrip(req); err != nil || resp.Request != req {
			t.Errorf("request to %s was touched", url)
		}
	}
	if resp, err := NewTransport(m, base).RoundTrip(&http.Request{}); err != nil || resp == nil {
		t.Errorf("request without a URL did not reach the base: %v", err)
	}
	if NewTransport(m, nil).base != http.DefaultTransport {
		t.Error("nil is not the default transport")
	}
}

func TestIdempotent(t *testing.T) {
	for _, c := range []struct {
		method, header   string
		idempotent, once bool
	}{
		{"", "", true, false}, {"GET", "", true, false}, {"HEAD", "", true, false}, {"OPTIONS", "", true, false},
		{"TRACE", "", true, false}, {"PUT", "", true, false}, {"DELETE", "", true, false}, {"POST", "", false, false},
		{"PATCH", "", false, false}, {"CONNECT", "", false, true}, {"POST", "Idempotency-Key", true, false},
		{"PATCH", "X-Idempotency-Key", true, false}, {"GET", "Upgrade", true, true},
	} {
		req := &http.Request{Method: c.method, Header: http.Header{}}
		if c.header != "" {
			req.Header.Set(c.header, "1")
		}
		if c.header != "" && c.header != "Upgrade" {
			if req.Header[c.header] = nil; !idempotent(req) {
				t.Errorf("idempotent(%s %s without a value) = false, want true", c.method, c.header)
			}
		}
		if got := idempotent(req); got != c.idempotent {
			t.Errorf("idempotent(%s %s) = %v, want %v", c.method, c.header, got, c.idempotent)
		}
		if got := once(req); got != c.once {
			t.Errorf("once(%s %s) = %v, want %v", c.method, c.header, got, c.once)
		}
	}
}

func TestOutcomesDecideWhoIsAvoided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name      string
			f         roundTrip
			cancel    time.Duration
			penalized bool
		}{
			{"500", answer(500, ""), 0, true}, {"503", answer(503, ""), 0, true}, {"429", answer(429, ""), 0, true},
			{"reset", fail(errReset), 0, true}, {"404", answer(404, ""), 0, false}, {"501", answer(501, ""), 0, false},
			{"cancel", hang, time.Millisecond, false},
		} {
			m := open(t, zerohop.Config{Resolver: fakes(1), Spec: zerohop.Spec{Defaults: zerohop.Policy{
				Breaker: zerohop.Breaker{Mode: zerohop.On}, Retry: zerohop.Retry{Mode: zerohop.Off},
			}}})
			tr := NewTransport(m, c.f)
			for range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				if c.cancel > 0 {
					time.AfterFunc(c.cancel, cancel)
				}
				if resp, err := get(ctx, t, tr, "http://orders/"); err == nil {
					resp.Body.Close()
				}
				cancel()
			}
			n := nodes(t, m)[0]
			if got := n.Penalized(time.Now()); got != c.penalized {
				t.Errorf("%s: node is avoided: %v, want %v", c.name, got, c.penalized)
			}
			if got, want := n.BreakerState(time.Now()) == "open", c.penalized && c.name != "429"; got != want {
				t.Errorf("%s: breaker is open: %v, want %v", c.name, got, want)
			}
			m.Close()
		}
	})
}

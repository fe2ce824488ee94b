package httpmesh

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/routing"
)

// pair is a service and the one that answers for it.
type pair struct {
	transport *Transport
	mesh      *zerohop.Mesh
	told      atomic.Pointer[string] // what hooks heard of a fallback
	calls     atomic.Int32           // of the other service
	panics    atomic.Bool            // the hook does
}

func newPair(t *testing.T, policy zerohop.Policy, orders, replica http.HandlerFunc) *pair {
	t.Helper()
	p := &pair{}
	a := serve(t, orders)
	b := serve(t, func(w http.ResponseWriter, r *http.Request) {
		p.calls.Add(1)
		replica(w, r)
	})
	policy.Fallback.Service = "orders-replica"
	policy.Retry = zerohop.Retry{Attempts: 2, Base: 1}
	p.mesh = open(t, zerohop.Config{
		Resolver: discovery.Static{"orders": {{Addr: addr(a)}}, "orders-replica": {{Addr: addr(b)}}},
		Spec:     zerohop.Spec{Services: map[string]zerohop.Policy{"orders": policy}},
		Hooks: zerohop.Hooks{FellBack: func(_ context.Context, call zerohop.CallInfo, by string, _ error) {
			if p.panics.Load() {
				panic("FellBack")
			}
			text := call.Service + " to [" + by + "]"
			p.told.Store(&text)
		}},
	})
	p.transport = client(t, p.mesh)
	return p
}

func (p *pair) heard() string {
	if s := p.told.Load(); s != nil {
		return *s
	}
	return ""
}

func unavailable(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, "orders is out of order")
}

// echo answers with what it got.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = io.WriteString(w, strings.Join([]string{r.Host, r.Header.Get("Authorization"), r.Header.Get("Cookie"), r.Header.Get("X-Tenant"), string(body)}, "|"))
}

// unseekable hides what net/http could send a body again with.
type unseekable struct{ io.Reader }

func TestFallbackServiceAnswers(t *testing.T) {
	const whole = "a body"
	for name, test := range map[string]struct {
		method, key string
		policy      zerohop.Policy
		body        io.Reader
		orders      http.HandlerFunc
		replica     http.HandlerFunc
		status      int
		want        string
		heard       string
	}{
		"answer":         {"GET", "", zerohop.Policy{}, nil, echo, echo, 200, "orders|secret|session=1|blue|", ""},
		"failure":        {"GET", "", zerohop.Policy{}, nil, unavailable, echo, 200, "orders-replica|||blue|", "orders to [orders-replica]"},
		"body":           {"PUT", "", zerohop.Policy{}, strings.NewReader(whole), unavailable, echo, 200, "orders-replica|||blue|" + whole, "orders to [orders-replica]"},
		"body read once": {"PUT", "", zerohop.Policy{}, unseekable{strings.NewReader(whole)}, unavailable, echo, 200, "orders-replica|||blue|" + whole, "orders to [orders-replica]"},
		"key":            {"POST", "1", zerohop.Policy{}, unseekable{strings.NewReader(whole)}, unavailable, echo, 200, "orders-replica|||blue|" + whole, "orders to [orders-replica]"},
		"not safe":       {"POST", "", zerohop.Policy{}, strings.NewReader(whole), unavailable, echo, 503, "orders is out of order", ""},
		"too large":      {"PUT", "", zerohop.Policy{}, unseekable{strings.NewReader(strings.Repeat("x", 100<<10))}, unavailable, echo, 503, "orders is out of order", ""},
		"both fail": {"GET", "", zerohop.Policy{}, nil, unavailable, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
			503, "orders is out of order", ""},
		"credentials": {"GET", "", zerohop.Policy{Fallback: zerohop.Substitute{Credentials: zerohop.On}}, nil, unavailable, echo, 200, "orders-replica|secret|session=1|blue|", "orders to [orders-replica]"},
		"off":         {"GET", "", zerohop.Policy{Fallback: zerohop.Substitute{Mode: zerohop.Off}}, nil, unavailable, echo, 503, "orders is out of order", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, test.policy, test.orders, test.replica)
			req := request(t.Context(), t, test.method, "http://orders/42", test.body)
			req.Header = http.Header{"Authorization": {"secret"}, "Cookie": {"session=1"}, "X-Tenant": {"blue"}}
			if test.key != "" {
				req.Header.Set("Idempotency-Key", test.key)
			}
			resp, err := p.transport.RoundTrip(req)
			got := read(t, resp, err)
			if resp.StatusCode != test.status || got != test.want || p.heard() != test.heard {
				t.Errorf("RoundTrip() = %d %q and hooks heard %q, want %d %q and %q", resp.StatusCode, got, p.heard(), test.status, test.want, test.heard)
			}
			if resp.Request != req || req.Header.Get("Authorization") != "secret" || req.URL.Host != "orders" {
				t.Error("the response is not that of the request, or that was changed")
			}
			checkIdle(t, p.mesh)
		})
	}
}

func TestFallbackAnswersForWhatCannotBeReached(t *testing.T) {
	for _, body := range []io.Reader{nil, strings.NewReader("a body"), unseekable{strings.NewReader("a body")}} {
		b := serve(t, echo)
		m := open(t, zerohop.Config{
			Resolver: discovery.Static{"orders": {{Addr: "127.0.0.1:1"}}, "spare": {{Addr: addr(b)}}},
			Spec:     zerohop.Spec{Defaults: zerohop.Policy{Fallback: zerohop.Substitute{Service: "spare"}, Retry: zerohop.Retry{Base: 1}}},
		})
		resp, err := client(t, m).RoundTrip(request(t.Context(), t, "POST", "http://orders/", body))
		want := "spare||||"
		if body != nil {
			want += "a body"
		}
		if got := read(t, resp, err); got != want {
			t.Errorf("RoundTrip() = %q, want %q of the other service", got, want)
		}
		checkIdle(t, m)
	}
}

func TestTransportFallbackMakesAnswers(t *testing.T) {
	stale := func(*http.Request) *http.Response {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("stale"))}
	}
	t.Run("for a failure", func(t *testing.T) {
		p := newPair(t, zerohop.Policy{}, unavailable, unavailable)
		p.transport.Fallback = func(req *http.Request, resp *http.Response, err error) *http.Response {
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 503 || err != nil || string(body) != "orders is out of order" {
				t.Errorf("fallback got %v, %v, want the failure of orders", resp, err)
			}
			return stale(req)
		}
		resp, err := get(t.Context(), t, p.transport, "http://orders/")
		if got := read(t, resp, err); got != "stale" || p.heard() != "orders to []" || p.calls.Load() == 0 {
			t.Errorf("RoundTrip() = %q and hooks heard %q, want what the function made", got, p.heard())
		}
		checkIdle(t, p.mesh)
	})
	t.Run("for an error", func(t *testing.T) {
		m := open(t, zerohop.Config{Resolver: discovery.Static{}})
		tr := client(t, m)
		tr.Fallback = func(req *http.Request, resp *http.Response, err error) *http.Response {
			if resp != nil || failure(t, err).Reason != zerohop.NoEndpoints {
				t.Errorf("fallback got %v, %v, want the error of the call", resp, err)
			}
			return &http.Response{StatusCode: 204}
		}
		resp, err := get(t.Context(), t, tr, "http://nobody/")
		if got := read(t, resp, err); got != "" || resp.StatusCode != 204 {
			t.Errorf("RoundTrip() = %d %q, want 204", resp.StatusCode, got)
		}
	})
	t.Run("of the body of the failure", func(t *testing.T) {
		p := newPair(t, zerohop.Policy{}, unavailable, unavailable)
		p.transport.Fallback = func(_ *http.Request, resp *http.Response, _ error) *http.Response {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: resp.Body}
		}
		resp, err := get(t.Context(), t, p.transport, "http://orders/")
		if got := read(t, resp, err); got != "orders is out of order" || resp.StatusCode != 200 {
			t.Errorf("RoundTrip() = %d %q, want 200 and the body of the failure", resp.StatusCode, got)
		}
		checkIdle(t, p.mesh)
	})
	t.Run("without an answer", func(t *testing.T) {
		p := newPair(t, zerohop.Policy{}, unavailable, unavailable)
		p.transport.Fallback = func(_ *http.Request, resp *http.Response, _ error) *http.Response { return nil }
		resp, err := get(t.Context(), t, p.transport, "http://orders/")
		if got := read(t, resp, err); got != "orders is out of order" || p.heard() != "" {
			t.Errorf("RoundTrip() = %q and hooks heard %q, want the failure", got, p.heard())
		}
		checkIdle(t, p.mesh)
	})
	t.Run("not for those who have gone", func(t *testing.T) {
		p := newPair(t, zerohop.Policy{}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, echo)
		p.transport.Fallback = func(req *http.Request, _ *http.Response, _ error) *http.Response {
			t.Error("fallback was called")
			return stale(req)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if resp, err := get(ctx, t, p.transport, "http://orders/"); !errors.Is(err, context.DeadlineExceeded) {
			read(t, resp, err)
			t.Errorf("RoundTrip() = %v, want the deadline", err)
		}
		if p.calls.Load() != 0 {
			t.Error("the other service was called")
		}
	})
}

// Panics of a fallback, and of what it asks the caller for, reach the caller, and leave nothing in flight.
func TestFallbackThatPanicsLeavesNothingBehind(t *testing.T) {
	for _, panics := range []string{"Fallback", "GetBody", "FellBack"} {
		t.Run(panics, func(t *testing.T) {
			replica := unavailable
			if panics == "FellBack" {
				replica = echo
			}
			p := newPair(t, zerohop.Policy{Limit: zerohop.Limit{Mode: zerohop.On, Max: 1}}, unavailable, replica)
			copies := 0
			req := request(t.Context(), t, "PUT", "http://orders/", strings.NewReader("x"))
			req.GetBody = func() (io.ReadCloser, error) {
				if copies++; copies == 2 && panics == "GetBody" { // the first is for a retry
					panic(panics)
				}
				return io.NopCloser(strings.NewReader("x")), nil
			}
			p.transport.Fallback = func(*http.Request, *http.Response, error) *http.Response { panic(panics) }
			p.panics.Store(panics == "FellBack")
			func() {
				defer func() {
					if got := recover(); got != panics {
						t.Errorf("recovered %v, want the panic of %s", got, panics)
					}
				}()
				resp, err := p.transport.RoundTrip(req)
				read(t, resp, err)
			}()
			checkIdle(t, p.mesh)
			p.panics.Store(false)
			p.transport.Fallback = nil
			resp, err := get(t.Context(), t, p.transport, "http://orders/")
			read(t, resp, err) // the place of the call is free
		})
	}
}

// What a route kept from a service, a fallback of that does not get either.
func TestFallbackGetsNoMoreThanTheServiceThatItIsFor(t *testing.T) {
	for _, c := range []struct {
		name     string
		backend  routing.Backend
		fallback zerohop.Substitute
		want     string
	}{
		{"a service that got none", routing.Backend{Service: "orders-next"}, zerohop.Substitute{Service: "replica", Credentials: zerohop.On}, "replica||||"},
		{"one that got them", routing.Backend{Service: "orders-next", Credentials: true}, zerohop.Substitute{Service: "replica", Credentials: zerohop.On}, "replica|secret|session=1||"},
		{"which keeps them", routing.Backend{Service: "orders-next", Credentials: true}, zerohop.Substitute{Service: "replica"}, "replica||||"},
	} {
		other := addr(serve(t, echo))
		set := discovery.Static{"orders": {{Addr: other}}, "replica": {{Addr: other}}, "orders-next": {{Addr: addr(serve(t, unavailable))}}}
		spec := zerohop.Spec{
			Services: map[string]zerohop.Policy{"orders-next": {Fallback: c.fallback, Retry: zerohop.Retry{Mode: zerohop.Off}}},
			Routes:   []routing.Rule{{Match: routing.Match{Service: "orders"}, Backends: []routing.Backend{c.backend}}},
		}
		tr := client(t, open(t, zerohop.Config{Resolver: set, Spec: spec}))
		req := request(t.Context(), t, http.MethodGet, "http://orders/", nil)
		req.Header = http.Header{"authorization": {"secret"}, "cookie": {"session=1"}, "proxy-authorization": {"p"}}
		resp, err := tr.RoundTrip(req)
		if got := read(t, resp, err); got != c.want {
			t.Errorf("%s: the other service got %q, want %q", c.name, got, c.want)
		}
	}
}

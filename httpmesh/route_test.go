package httpmesh

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/routing"
)

// routeOf returns a spec whose calls to orders come under a rule.
func routeOf(r routing.Rule) zerohop.Spec {
	r.Name = "r"
	if r.Match.Service == "" {
		r.Match.Service = "orders"
	}
	return zerohop.Spec{Routes: []routing.Rule{r}}
}

// seen is what a server got.
type seen struct {
	uri, host, body string
	header          http.Header
}

// recorder starts a server that notes what it gets, and answers with the given status.
func recorder(t testing.TB, status int, got *[]seen, mu *sync.Mutex) *httptest.Server {
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		*got = append(*got, seen{r.RequestURI, r.Host, string(body), r.Header})
		mu.Unlock()
		w.Header()["X-Version"] = []string{"1", "2"}
		w.Header().Set("Server", "orders/7")
		w.WriteHeader(status)
	})
}

func TestRoutesRewrite(t *testing.T) {
	slash, api := "/", "/api/"
	match := func(prefix string) routing.Match { return routing.Match{Path: routing.Path{Prefix: prefix}} }
	for _, c := range []struct {
		name  string
		rule  routing.Rule
		url   string
		uri   string
		host  string
		extra []string // headers that the server must see: name, values joined by a comma; the empty one means absent
	}{
		{"nothing", routing.Rule{}, "http://orders/a%2Fb?x=%zz;y", "/a%2Fb?x=%zz;y", "orders", nil},
		{"full path", routing.Rule{Rewrite: routing.Rewrite{Path: routing.PathRewrite{Full: "/new"}}}, "http://orders/old?q=1", "/new?q=1", "orders", nil},
		{"prefix away", routing.Rule{Match: match("/v1"), Rewrite: routing.Rewrite{Path: routing.PathRewrite{Prefix: &slash}}}, "http://orders/v1/x%20y/", "/x%20y/", "orders", nil},
		{"whole prefix away", routing.Rule{Match: match("/v1"), Rewrite: routing.Rewrite{Path: routing.PathRewrite{Prefix: &slash}}}, "http://orders/v1", "/", "orders", nil},
		{"other prefix", routing.Rule{Match: match("/v1"), Rewrite: routing.Rewrite{Path: routing.PathRewrite{Prefix: &api}}}, "http://orders/v1/caf%C3%A9", "/api/caf%C3%A9", "orders", nil},
		{
			"regular expression", routing.Rule{Rewrite: routing.Rewrite{Path: routing.PathRewrite{Regex: "^/users/([^/]+)/orders", Replacement: "/orders/by/$1"}}},
			"http://orders/users/ann%20b/orders/7", "/orders/by/ann%20b/7", "orders", nil,
		},
		{"host", routing.Rule{Rewrite: routing.Rewrite{Host: "api.example.com"}}, "http://orders/", "/", "api.example.com", nil},
		{
			"query", routing.Rule{Rewrite: routing.Rewrite{Query: routing.Headers{
				Remove: []string{"debug"}, Set: map[string]string{"page": "1&2"}, Add: map[string]string{"tag": "b"},
			}}},
			"http://orders/?debug=1&a=%7e&page=7&de%62ug=2&tag=a&page=8", "/?a=%7e&tag=a&page=1%262&tag=b", "orders", nil,
		},
		{
			"headers", routing.Rule{Rewrite: routing.Rewrite{Request: routing.Headers{
				Remove: []string{"x-internal"}, Set: map[string]string{"x-user": "svc"}, Add: map[string]string{"x-tag": "b"},
			}}},
			"http://orders/", "/", "orders", []string{"X-Internal", "", "X-User", "svc", "X-Tag", "a,b"},
		},
		{
			"headers of the backend come after those of the rule", routing.Rule{
				Rewrite:  routing.Rewrite{Request: routing.Headers{Set: map[string]string{"X-User": "rule", "X-Rule": "1"}}},
				Backends: []routing.Backend{{Service: "orders", Headers: routing.Headers{Set: map[string]string{"X-User": "backend"}, Remove: []string{"User-Agent"}}}},
			},
			"http://orders/", "/", "orders", []string{"X-User", "backend", "X-Rule", "1", "User-Agent", ""},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var (
				mu  sync.Mutex
				got []seen
			)
			s := recorder(t, http.StatusServiceUnavailable, &got, &mu) // so that all attempts are seen
			spec := routeOf(c.rule)
			spec.Defaults.Retry.Base = 1
			tr := client(t, open(t, zerohop.Config{Resolver: source(addr(s)), Spec: spec}))
			req := request(t.Context(), t, http.MethodGet, c.url, nil)
			req.Header = http.Header{"x-internal": {"1"}, "X-User": {"ann"}, "X-Tag": {"a"}}
			before := fmt.Sprint(req.URL, req.Host, req.Header)
			resp, err := tr.RoundTrip(req)
			read(t, resp, err)
			if after := fmt.Sprint(req.URL, req.Host, req.Header); after != before {
				t.Errorf("the caller's request is %s, was %s", after, before)
			}
			if len(got) != 3 {
				t.Fatalf("%d attempts, want 3", len(got))
			}
			for i, g := range got {
				if g.uri != c.uri || g.host != c.host {
					t.Errorf("attempt %d: %s of %s, want %s of %s", i, g.uri, g.host, c.uri, c.host)
				}
				for k := 0; k < len(c.extra); k += 2 {
					if v := strings.Join(g.header[c.extra[k]], ","); v != c.extra[k+1] {
						t.Errorf("attempt %d: %s = %q, want %q", i, c.extra[k], v, c.extra[k+1])
					}
				}
			}
		})
	}
}

func TestAnswersAreRewritten(t *testing.T) {
	var (
		mu  sync.Mutex
		got []seen
	)
	s := recorder(t, http.StatusOK, &got, &mu)
	tr := client(t, open(t, zerohop.Config{Resolver: source(addr(s)), Spec: routeOf(routing.Rule{Rewrite: routing.Rewrite{Response: routing.Headers{
		Remove: []string{"server"}, Set: map[string]string{"x-by": "mesh"}, Add: map[string]string{"X-Version": "3"},
	}}})}))
	resp, err := get(t.Context(), t, tr, "http://orders/")
	read(t, resp, err)
	h := resp.Header
	if !slices.Equal(h["X-Version"], []string{"1", "2", "3"}) || h.Get("X-By") != "mesh" || h["Server"] != nil {
		t.Errorf("headers of the answer are %v", h)
	}
}

func TestPathsThatMeanTwoThingsAreNotRewritten(t *testing.T) {
	prefix := "/"
	rewrites := map[string]routing.Rule{
		"prefix": {Match: routing.Match{}, Rewrite: routing.Rewrite{Path: routing.PathRewrite{Full: "/x"}}},
		"regex":  {Rewrite: routing.Rewrite{Path: routing.PathRewrite{Regex: "/in/(.*)", Replacement: "/$1"}}},
		"cut":    {Match: routing.Match{Path: routing.Path{Prefix: "/in"}}, Rewrite: routing.Rewrite{Path: routing.PathRewrite{Prefix: &prefix}}},
	}
	for _, c := range []struct{ rule, path string }{
		{"prefix", "/a%2fb"}, {"prefix", "/a/../b"}, {"prefix", "/a/%2e%2e/b"}, {"prefix", "/a;x=1/b"}, {"prefix", "//a"}, {"prefix", `/a%5cb`},
		{"prefix", "/a%0d%0aX:1"}, {"prefix", "/a%00"}, {"regex", "/in//x"}, {"regex", "/x/in/.in/x"}, {"regex", "/in/%2e%2e"},
	} {
		sent := false
		s := serve(t, func(http.ResponseWriter, *http.Request) { sent = true })
		tr := client(t, open(t, zerohop.Config{Resolver: source(addr(s)), Spec: routeOf(rewrites[c.rule])}))
		closed := &closing{Reader: strings.NewReader("body")}
		req := request(t.Context(), t, http.MethodPost, "http://orders"+c.path, closed)
		resp, err := tr.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
			if c.path == "/x/in/.in/x" { // the expression makes nothing odd of it
				continue
			}
		}
		if e := failure(t, err); e.Reason != zerohop.Unrewritable || !errors.Is(err, routing.ErrAmbiguousPath) || sent || len(e.Attempts) > 0 {
			t.Errorf("%s of %s: error = %v, sent %v, want that it cannot be rewritten", c.rule, c.path, err, sent)
		}
		if !closed.closed {
			t.Errorf("%s of %s: the body is not closed", c.rule, c.path)
		}
	}
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

func TestOpaqueURLsAreNotRewritten(t *testing.T) {
	var mu sync.Mutex
	var got []seen
	s := recorder(t, http.StatusOK, &got, &mu)
	for _, query := range []routing.Headers{{}, {Remove: []string{"x"}}} {
		tr := client(t, open(t, zerohop.Config{Resolver: source(addr(s)), Spec: routeOf(routing.Rule{
			Match: routing.Match{}, Rewrite: routing.Rewrite{Query: query, Request: routing.Headers{Set: map[string]string{"X-Route": "1"}}},
		})}))
		req := request(t.Context(), t, http.MethodGet, "http://orders/", nil)
		req.URL = &url.URL{Scheme: "http", Host: "orders", Opaque: "/a%2fb"}
		resp, err := tr.RoundTrip(req)
		if len(query.Remove) > 0 {
			if e := failure(t, err); e.Reason != zerohop.Unrewritable {
				t.Errorf("error = %v, want that it cannot be rewritten", err)
			}
			continue
		}
		read(t, resp, err)
		if g := got[len(got)-1]; g.uri != "/a%2fb" || g.header.Get("X-Route") != "1" {
			t.Errorf("server got %+v", g)
		}
	}
}

func TestChangedQuery(t *testing.T) {
	remove := routing.Headers{Remove: []string{"a"}}
	for _, c := range []struct {
		raw    string
		change routing.Headers
		want   string
	}{
		{"a=1", remove, ""}, {"a", remove, ""}, {"a=1&b=2", remove, "b=2"}, {"b=2&a=1", remove, "b=2"}, {"b=2&a=1&", remove, "b=2&"},
		{"b=1;a=2", remove, "b=1;"}, {"%61=1&b", remove, "b"}, {"A=1&aa=2", remove, "A=1&aa=2"}, {"%zz=1&&b=+%20", remove, "%zz=1&&b=+%20"},
		{"", routing.Headers{Set: map[string]string{"a": ""}}, "a="},
		{"a=1&b=2&a=3", routing.Headers{Set: map[string]string{"a": "ä b"}}, "b=2&a=%C3%A4+b"},
		{"a=1", routing.Headers{Add: map[string]string{"c": "2", "b": "1"}}, "a=1&b=1&c=2"},
		{"a=1", routing.Headers{Remove: []string{"a"}, Add: map[string]string{"a": "2"}}, "a=2"},
		{"x;a=1", routing.Headers{Set: map[string]string{"a": "2"}}, "x;&a=2"},
	} {
		if got := changedQuery(c.raw, &c.change); got != c.want {
			t.Errorf("changedQuery(%q, %+v) = %q, want %q", c.raw, c.change, got, c.want)
		}
	}
}

// What a caller proves himself with is for the service that he named.
func TestCredentialsStayWithTheServiceThatWasNamed(t *testing.T) {
	for _, c := range []struct {
		name    string
		backend routing.Backend
		kept    bool
		auth    string
	}{
		{"the same service", routing.Backend{Service: "Orders"}, true, "Bearer caller"},
		{"another one", routing.Backend{Service: "orders-next"}, false, ""},
		{"another one that is trusted", routing.Backend{Service: "orders-next", Credentials: true}, true, "Bearer caller"},
		{
			"another one with its own", routing.Backend{Service: "orders-next", Headers: routing.Headers{Set: map[string]string{"Authorization": "Bearer mesh"}}},
			false, "Bearer mesh",
		},
	} {
		var (
			mu  sync.Mutex
			got []seen
		)
		s := recorder(t, http.StatusOK, &got, &mu)
		set := source(addr(s))
		set["orders-next"] = set["orders"]
		tr := client(t, open(t, zerohop.Config{Resolver: set, Spec: routeOf(routing.Rule{Backends: []routing.Backend{c.backend}})}))
		req := request(t.Context(), t, http.MethodGet, "http://orders/", nil)
		secrets := http.Header{"Authorization": {"Bearer caller"}, "cookie": {"session=1"}, "Proxy-Authorization": {"Basic x"}, "Proxy-Token": {"y"}}
		req.Header = secrets.Clone()
		req.Header.Set("X-Request-Id", "7")
		resp, err := tr.RoundTrip(req)
		read(t, resp, err)
		h := got[0].header
		if (h.Get("Cookie") != "") != c.kept || (h.Get("Proxy-Token") != "") != c.kept || h.Get("Authorization") != c.auth || h.Get("X-Request-Id") != "7" {
			t.Errorf("%s: server got %v, want the credentials: %v", c.name, h, c.kept)
		}
		if req.Header.Get("Authorization") != "Bearer caller" || len(req.Header) != len(secrets)+1 {
			t.Errorf("%s: the caller's headers are %v", c.name, req.Header)
		}
	}
}

func TestFaultsLookLikeAnswers(t *testing.T) {
	for _, c := range []struct {
		fault  routing.Fault
		header http.Header
		status int
		reply  string
	}{
		{routing.Fault{Abort: 503}, nil, 503, ""},
		{routing.Fault{Abort: 418}, nil, 418, ""},
		{routing.Fault{Abort: 503, AbortCode: 8}, http.Header{"Content-Type": {"application/grpc+proto"}}, 200, "8"},
		{routing.Fault{ByHeader: true}, http.Header{"Zerohop-Fault-Abort": {"500"}}, 500, ""},
	} {
		tr := client(t, open(t, zerohop.Config{Resolver: discovery.Static{}, Spec: routeOf(routing.Rule{Fault: c.fault})}))
		body := &closing{Reader: strings.NewReader("body")}
		req := request(t.Context(), t, http.MethodPost, "http://orders/", body)
		if c.header != nil {
			req.Header = c.header
		}
		resp, err := tr.RoundTrip(req)
		text := read(t, resp, err)
		if resp.StatusCode != c.status || resp.Header.Get("Zerohop-Fault") != "abort" || resp.Header.Get("Grpc-Status") != c.reply || resp.Request != req || !body.closed {
			t.Errorf("%+v: answer %+v, body closed: %v", c.fault, resp, body.closed)
		}
		if c.reply == "" && !strings.Contains(text, "fault injected") {
			t.Errorf("%+v: the body is %q", c.fault, text)
		}
	}
}

func TestDelayEndsWithTheCaller(t *testing.T) {
	tr := client(t, open(t, zerohop.Config{Resolver: fakes(1), Spec: routeOf(routing.Rule{Fault: routing.Fault{Delay: time.Minute}})}))
	c := &http.Client{Transport: tr, Timeout: 20 * time.Millisecond}
	_, err := c.Get("http://orders/")
	var timeout interface{ Timeout() bool }
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("error = %v, want a timeout", err)
	}
}

func TestFallbacksAnswerForInjectedFaults(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "replica") })
	spec := routeOf(routing.Rule{Fault: routing.Fault{Abort: 503}, Rewrite: routing.Rewrite{Response: routing.Headers{Set: map[string]string{"X-Route": "r"}}}})
	spec.Services = map[string]zerohop.Policy{"orders": {Fallback: zerohop.Substitute{Service: "replica"}}}
	set := discovery.Static{"replica": {{Addr: addr(s)}}}
	tr := client(t, open(t, zerohop.Config{Resolver: set, Spec: spec}))
	resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodPost, "http://orders/", strings.NewReader("x")))
	if got := read(t, resp, err); got != "replica" || resp.Header.Get("X-Route") != "r" {
		t.Errorf("answer = %q with %v, want that of the other service, rewritten", got, resp.Header)
	}

	spec.Services = nil
	tr = client(t, open(t, zerohop.Config{Resolver: set, Spec: spec}))
	tr.Fallback = func(req *http.Request, resp *http.Response, err error) *http.Response {
		if resp == nil || resp.StatusCode != 503 || err != nil {
			t.Errorf("Fallback got %v, %v, want the injected answer", resp, err)
		}
		return &http.Response{StatusCode: 203, Body: http.NoBody}
	}
	resp, err = get(t.Context(), t, tr, "http://orders/")
	if read(t, resp, err); resp.StatusCode != 203 {
		t.Errorf("status = %d, want that of the function", resp.StatusCode)
	}
}

func TestFixedResponsesAskNobody(t *testing.T) {
	for _, c := range []struct {
		method   string
		response routing.Response
		length   int64
		body     string
	}{
		{http.MethodGet, routing.Response{Body: "closed for today", Headers: map[string]string{"Retry-After": "60", "content-type": "text/html"}}, 16, "closed for today"},
		{http.MethodHead, routing.Response{Status: 503, Body: "closed"}, 6, ""},
		{http.MethodPost, routing.Response{Status: 204, Body: "ignored"}, 0, ""},
		{http.MethodGet, routing.Response{Status: 404}, 0, ""},
	} {
		m := open(t, zerohop.Config{Resolver: discovery.Static{}, Spec: routeOf(routing.Rule{Response: &c.response})})
		tr := client(t, m)
		tr.Fallback = func(*http.Request, *http.Response, error) *http.Response {
			t.Error("the fallback is called")
			return nil
		}
		body := &closing{Reader: strings.NewReader("body")}
		req := request(t.Context(), t, c.method, "http://orders/x", body)
		resp, err := tr.RoundTrip(req)
		text := read(t, resp, err)
		want := c.response.Status
		if want == 0 {
			want = 200
		}
		if resp.StatusCode != want || text != c.body || resp.ContentLength != c.length || resp.Request != req || !body.closed || resp.Proto != "HTTP/1.1" {
			t.Errorf("%s of %+v: %+v with body %q, closed: %v", c.method, c.response, resp, text, body.closed)
		}
		for k, v := range c.response.Headers {
			if resp.Header.Get(k) != v {
				t.Errorf("%s = %q, want %q", k, resp.Header.Get(k), v)
			}
		}
		if _, ok := m.Discovery("orders"); ok {
			t.Error("the endpoints of orders are looked up")
		}
	}
}

// What rules look at besides path, method and headers gets to them.
func TestRoutesSeeTheWholeCall(t *testing.T) {
	now := time.Now()
	answer := func(status int, m routing.Match) routing.Rule {
		m.Service = "orders"
		return routing.Rule{Match: m, Response: &routing.Response{Status: status}}
	}
	for _, c := range []struct {
		name string
		rule routing.Rule
		url  string
		want int
	}{
		{"query", answer(410, routing.Match{Query: []routing.Field{{Name: "v", Value: "2"}}}), "http://orders/?v=2", 410},
		{"another query", answer(410, routing.Match{Query: []routing.Field{{Name: "v", Value: "2"}}}), "http://orders/?v=1", 200},
		{"in time", answer(410, routing.Match{After: now.Add(-time.Hour), Before: now.Add(time.Hour)}), "http://orders/", 410},
		{"too late", answer(410, routing.Match{Before: now.Add(-time.Hour)}), "http://orders/", 200},
	} {
		tr := NewTransport(open(t, zerohop.Config{Resolver: fakes(1), Spec: zerohop.Spec{Routes: []routing.Rule{c.rule}}}), answered{})
		resp, err := get(t.Context(), t, tr, c.url)
		if read(t, resp, err); resp.StatusCode != c.want {
			t.Errorf("%s: status = %d, want %d", c.name, resp.StatusCode, c.want)
		}
	}

	// A key that the call brings along stays on one side of a split.
	set := fakes(1)
	set["orders-next"] = []discovery.Endpoint{{Addr: "10.1.0.1:80"}}
	sides := map[string]int{}
	tr := NewTransport(open(t, zerohop.Config{Resolver: set, Spec: routeOf(routing.Rule{
		Split:    routing.Split{Key: []routing.Key{{Header: "X-User"}}},
		Backends: []routing.Backend{{Service: "orders", Weight: 1}, {Service: "orders-next", Weight: 1}},
	})}), roundTrip(func(req *http.Request) (*http.Response, error) {
		sides[req.URL.Host]++
		return answered{}.RoundTrip(req)
	}))
	for range 64 {
		resp, err := get(zerohop.WithCall(t.Context(), zerohop.CallOptions{HashKey: "ann"}), t, tr, "http://orders/")
		read(t, resp, err)
	}
	if len(sides) != 1 {
		t.Errorf("calls of one key went to %v", sides)
	}
}

type answered struct{}

func (answered) RoundTrip(req *http.Request) (*http.Response, error) { return answer(200, "")(req) }

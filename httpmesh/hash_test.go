package httpmesh

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/zerohop/zerohop"
)

func TestKeysAreFoundInRequests(t *testing.T) {
	req := request(t.Context(), t, http.MethodGet, "http://orders/v1/a%2Fb?x=%zz&id=4%202&id=43&flag&e=", nil)
	req.Header.Set("X-User", "ann")
	req.Header["X-Two"] = []string{"a", "b"}
	req.Header["X-Empty"] = []string{""}
	req.Header.Set("Cookie", `other=1; session="s 1"; session=s2; empty=`)
	req.RemoteAddr = "[2001:db8::1]:4711"
	for _, c := range []struct {
		source zerohop.HashSource
		want   string
	}{
		{zerohop.HashSource{Header: "x-user"}, "ann"},
		{zerohop.HashSource{Header: "x-two"}, "a,b"},
		{zerohop.HashSource{Header: "x-empty"}, ""},
		{zerohop.HashSource{Header: "x-none"}, ""},
		{zerohop.HashSource{Cookie: "session"}, "s 1"},
		{zerohop.HashSource{Cookie: "empty"}, ""},
		{zerohop.HashSource{Cookie: "none"}, ""},
		{zerohop.HashSource{Query: "id"}, "4 2"},
		{zerohop.HashSource{Query: "flag"}, ""},
		{zerohop.HashSource{Query: "x"}, ""},
		{zerohop.HashSource{Query: "none"}, ""},
		{zerohop.HashSource{Path: true}, "/v1/a%2Fb"},
		{zerohop.HashSource{Client: true}, "2001:db8::1"},
		{zerohop.HashSource{}, ""},
	} {
		if got := (&exchange{req: req}).Key(&c.source); got != c.want {
			t.Errorf("key of %+v = %q, want %q", c.source, got, c.want)
		}
	}
	for addr, want := range map[string]string{"10.0.0.1:80": "10.0.0.1", "@": "@", "": ""} {
		req.RemoteAddr = addr
		if got := (&exchange{req: req}).Key(&zerohop.HashSource{Client: true}); got != want {
			t.Errorf("key of the client %q = %q, want %q", addr, got, want)
		}
	}
	x := &exchange{req: req}
	for _, s := range []zerohop.HashSource{{Header: "X-User"}, {Query: "flag"}} {
		if got := testing.AllocsPerRun(100, func() { x.Key(&s) }); got != 0 {
			t.Errorf("to find the key of %+v takes %v allocations, want 0", s, got)
		}
	}
}

// Behind a reverse proxy calls of one client go to one endpoint, over whatever connection they come.
func TestProxiesKeepClientsOnTheirEndpoint(t *testing.T) {
	var addrs []string
	for range 5 {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })
		addrs = append(addrs, addr(s))
	}
	seen := make(chan string, 100)
	m := open(t, zerohop.Config{Resolver: source(addrs...), Spec: zerohop.Spec{
		Services: map[string]zerohop.Policy{"orders": {Balance: "rendezvous", Hash: []zerohop.HashSource{{Client: true}}}},
	}, Hooks: zerohop.Hooks{AttemptDone: func(_ context.Context, _ zerohop.CallInfo, a zerohop.AttemptInfo, _ zerohop.AttemptResult) {
		seen <- a.Node.Addr()
	}}})
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "orders"}) },
		Transport: client(t, m),
	})
	defer proxy.Close()
	for range 20 {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := c.Get(proxy.URL)
		read(t, resp, err)
	}
	first := <-seen
	for range 19 {
		if got := <-seen; got != first {
			t.Fatalf("a client was sent to %s and to %s", first, got)
		}
	}
}

package console

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// raw sends bytes to a server and returns its answer.
func raw(t *testing.T, addr, request string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	body, _ := io.ReadAll(resp.Body)
	return resp, string(body)
}

func TestHostIsThatOfTheRequestHoweverItIsWritten(t *testing.T) {
	c := open(t, Config{Hosts: []string{"console.internal"}})
	s := httptest.NewServer(c)
	defer s.Close()
	addr := s.Listener.Addr().String()
	for request, want := range map[string]int{
		"GET /api/summary HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n":                                                                200,
		"GET /api/summary HTTP/1.0\r\n\r\n":                                                                                                        403,
		"GET http://evil.example/api/summary HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n":                                             403, // the target counts
		"GET http://localhost/api/summary HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n":                                             200,
		"GET /api/summary HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\nForwarded: host=localhost\r\nConnection: close\r\n\r\n": 403,
		"GET /api/summary HTTP/1.1\r\nHost: evil.example:80:localhost\r\nConnection: close\r\n\r\n":                                                403,
		"GET /api/summary HTTP/1.1\r\nHost: localhost.:80\r\nConnection: close\r\n\r\n":                                                            200,
		"GET /api/summary HTTP/1.1\r\nHost: localhost..\r\nConnection: close\r\n\r\n":                                                              403,
		"GET /api/summary HTTP/1.1\r\nHost: .localhost\r\nConnection: close\r\n\r\n":                                                               403,
		"GET /api/summary HTTP/1.1\r\nHost: [localhost]\r\nConnection: close\r\n\r\n":                                                              403,
		"GET /api/summary HTTP/1.1\r\nHost: localhost:evil\r\nConnection: close\r\n\r\n":                                                           403,
		"GET /api/summary HTTP/1.1\r\nHost: [::ffff:10.0.0.1]\r\nConnection: close\r\n\r\n":                                                        403,
		"GET /api/summary HTTP/1.1\r\nHost: 127.0.0.1.\r\nConnection: close\r\n\r\n":                                                               200,
		"GET /api/summary HTTP/1.1\r\nHost: 0x7f.1\r\nConnection: close\r\n\r\n":                                                                   403,
		"GET /api/summary HTTP/1.1\r\nHost: CONSOLE.Internal.\r\nConnection: close\r\n\r\n":                                                        200,
		"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n":                                                            405,
		"PRI /api/summary HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n":                                                                405,
		"get /api/summary HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n":                                                                405,
	} {
		resp, body := raw(t, addr, request)
		if resp.StatusCode != want {
			t.Errorf("%q: %d, want %d", request, resp.StatusCode, want)
		}
		checkHeaders(t, resp.Header)
		if strings.Contains(body, "evil") {
			t.Errorf("%q: the request is in the answer: %s", request, body)
		}
	}
}

func TestAllIsTheSameOverHTTP2(t *testing.T) {
	c := open(t, Config{MaxStreams: 3})
	s := httptest.NewUnstartedServer(c)
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	client := s.Client()
	get := func(path, host string) *http.Response {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		req.Host = host
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for host, want := range map[string]int{"localhost": 200, "evil.example": 403, "127.0.0.1:1": 200} {
		resp := get("/api/summary", host)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != want {
			t.Errorf("%s: HTTP/%d %d, want 2 and %d", host, resp.ProtoMajor, resp.StatusCode, want)
		}
		checkHeaders(t, resp.Header)
	}
	var streams []*http.Response
	for range 3 {
		resp := get("/api/stream", "localhost")
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
		streams = append(streams, resp)
	}
	// The connection is one, and goes on for others while streams are open and after they have ended.
	for range 2 {
		resp := get("/api/stream", "localhost")
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a stream too many: %s", resp.Status)
		}
		checkHeaders(t, resp.Header)
		_ = resp.Body.Close()
		resp = get("/api/summary", "localhost")
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Error(resp.Status, err)
		}
		_ = resp.Body.Close()
	}
	for _, resp := range streams {
		if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != "event: summary\n" {
			t.Errorf("the stream begins with %q %v", line, err)
		}
	}
	_ = c.Close()
	for _, resp := range streams {
		_, _ = io.Copy(io.Discard, resp.Body) // which ends
		_ = resp.Body.Close()
	}
}

// Thousands ask for streams, most of them read nothing.
func TestStreamsOfThousandsCostLittle(t *testing.T) {
	c := open(t, Config{MaxStreams: 4})
	m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{})
	_ = call(t.Context(), m, "orders", 0, nil)
	var mu sync.Mutex // guards got
	got := map[int]int{}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	ready := make(chan struct{}, 3000)
	for range 3000 {
		all.Go(func() {
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/stream?service=orders", nil)
			r.Host = "localhost"
			w := &stuck{status: func(code int) {
				mu.Lock()
				got[code]++
				mu.Unlock()
				ready <- struct{}{}
			}, ctx: ctx}
			c.ServeHTTP(w, r)
		})
	}
	for range 3000 {
		<-ready
	}
	if len(c.streams) > 4 || got[http.StatusOK] != 4 || got[http.StatusServiceUnavailable] != 2996 {
		t.Errorf("answers %v with %d streams, want 4", got, len(c.streams))
	}
	if w := ask(c, "/api/summary"); w.Code != http.StatusOK {
		t.Errorf("summary meanwhile: %d", w.Code)
	}
	_ = m.Close() // does not wait for them
	cancel()
	all.Wait()
	if n := len(c.streams); n != 0 {
		t.Errorf("%d streams afterwards, want 0", n)
	}
}

// stuck is a writer that takes a header and then nothing until its context ends.
type stuck struct {
	header http.Header
	status func(int)
	ctx    context.Context
}

func (s *stuck) Header() http.Header {
	if s.header == nil {
		s.header = http.Header{}
	}
	return s.header
}
func (s *stuck) WriteHeader(code int) { s.status(code) }
func (s *stuck) Write(p []byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func TestTwoConsolesOnOneMesh(t *testing.T) {
	a, b := open(t, Config{Name: "a"}), open(t, Config{Name: "b"})
	m := mesh(t, zerohop.JoinHooks(a.Hooks(), b.Hooks()), twoServices, zerohop.Spec{})
	for range 10 {
		if err := call(t.Context(), m, "orders", 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	_ = a.Close()
	for range 10 {
		if err := call(t.Context(), m, "orders", 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	s := view[Summary](t, b, "/api/summary")
	v := view[ServiceView](t, b, "/api/service?service=orders")
	var picks uint64
	for _, e := range v.Endpoints {
		picks += e.Picks
	}
	if len(s.Services) != 1 || s.Services[0].Calls != 20 || picks != 20 {
		t.Errorf("%+v with %d picks, want 20 calls", s.Services, picks)
	}
	_ = m.Close()
	atRest(t, a)
	atRest(t, b)
}

// Whoever closes the mesh while views of it are read gets an answer, and so do the readers.
func TestMeshClosesWhileItIsRead(t *testing.T) {
	c := open(t, Config{MaxStreams: 50})
	for range 5 {
		m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{})
		_ = call(t.Context(), m, "orders", 0, errDown)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		var all sync.WaitGroup
		for _, target := range []string{"stream?service=orders", "stream", "service?service=orders", "summary", "topology", "routes", "policy?service=orders"} {
			all.Go(func() {
				for ctx.Err() == nil {
					r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/"+target, nil)
					r.Host = "localhost"
					w := httptest.NewRecorder()
					c.ServeHTTP(w, r)
					if w.Code != http.StatusOK && w.Code != http.StatusNotFound {
						t.Errorf("%s: %d %s", target, w.Code, w.Body)
					}
				}
			})
		}
		_ = m.Close()
		all.Wait()
		cancel()
	}
	if n := len(view[Summary](t, c, "/api/summary").Meshes); n != 0 {
		t.Errorf("%d meshes, want 0", n)
	}
}

// A policy that has every secret that it can hold shows none.
func TestPolicyAndRoutesShowNoSecrets(t *testing.T) {
	const secret = "hunter2hunter2"
	var spec zerohop.Spec
	if err := json.Unmarshal(fmt.Appendf(nil, `{
		"defaults": {"hash": [{"header": "Authorization"}], "healthCheck": {"mode": "on", "path": "/healthz?token=%[1]s"}},
		"services": {"orders": {"select": {"match": {"api-key": "%[1]s", "password": "%[1]s"}}}},
		"routes": [{
			"match": {"service": "orders", "headers": [{"name": "Authorization", "value": "Bearer %[1]s"}, {"name": "X", "value": "%[1]s"}],
				"query": [{"name": "token", "value": "%[1]s"}], "cookies": [{"name": "session", "value": "%[1]s"}], "path": {"exact": "/x"}},
			"rewrite": {"request": {"set": {"Authorization": "Basic %[1]s"}}, "query": {"set": {"token": "%[1]s"}}},
			"backends": [{"service": "stock", "select": {"token": "%[1]s"}}]
		}]
	}`, secret), &spec); err != nil {
		t.Fatal(err)
	}
	c := open(t, Config{})
	m := mesh(t, c.Hooks(), twoServices, spec)
	_ = call(t.Context(), m, "orders", 0, fmt.Errorf(`Get "https://user:%s@orders/": EOF`, secret))
	_ = call(t.Context(), m, "stock", 0, nil)
	for _, target := range []string{"summary", "policy?service=orders", "policy?service=stock", "routes", "failures", "events", "topology", "service?service=stock", "service?service=orders"} {
		if w := ask(c, "/api/"+target); w.Code != http.StatusOK || strings.Contains(w.Body.String(), secret) {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}

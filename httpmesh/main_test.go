package httpmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns a mesh that is closed with the test.
func open(t testing.TB, cfg zerohop.Config) *zerohop.Mesh {
	t.Helper()
	m, err := zerohop.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// source lists addresses as the endpoints of "orders".
func source(addrs ...string) discovery.Static {
	list := make([]discovery.Endpoint, len(addrs))
	for i, a := range addrs {
		list[i].Addr = a
	}
	return discovery.Static{"orders": list}
}

// fakes are n addresses for tests with a fake base.
func fakes(n int) discovery.Static {
	addrs := make([]string, n)
	for i := range addrs {
		addrs[i] = fmt.Sprintf("10.0.0.%d:80", i+1)
	}
	return source(addrs...)
}

// serve starts a real server.
func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func addr(s *httptest.Server) string { return s.Listener.Addr().String() }

// client returns a Transport over a base of its own.
func client(t testing.TB, m *zerohop.Mesh) *Transport {
	t.Helper()
	tr := NewTransport(m, &http.Transport{DisableCompression: true})
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// roundTrip is a base transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// turns gives every attempt its own function, in the order in which they begin.
type turns struct {
	mu    sync.Mutex
	fs    []roundTrip
	addrs []string
}

func inTurn(fs ...roundTrip) *turns { return &turns{fs: fs} }

func (s *turns) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	i := len(s.addrs)
	s.addrs = append(s.addrs, req.URL.Host)
	s.mu.Unlock()
	if req.Body != nil {
		defer req.Body.Close()
	}
	if i >= len(s.fs) {
		return nil, fmt.Errorf("attempt %d is one too many", i+1)
	}
	return s.fs[i](req)
}

func hang(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func fail(err error) roundTrip {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

// answer returns a response whose body ends with the context of the request.
func answer(code int, body string, headers ...string) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return &http.Response{
			StatusCode: code, Status: http.StatusText(code), Header: h, ContentLength: int64(len(body)), Request: req,
			Body: &fakeBody{Reader: strings.NewReader(body), ctx: req.Context()},
		}, nil
	}
}

func after(d time.Duration, f roundTrip) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		select {
		case <-time.After(d):
			return f(req)
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
}

type fakeBody struct {
	io.Reader
	ctx    context.Context
	mu     sync.Mutex
	closed bool
}

func (b *fakeBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return 0, errors.New("read after close")
	}
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.Reader.Read(p[:min(len(p), 512)])
}

func (b *fakeBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// get makes a request whose context is that of the test unless options change it.
func get(ctx context.Context, t testing.TB, rt http.RoundTripper, url string) (*http.Response, error) {
	t.Helper()
	return rt.RoundTrip(request(ctx, t, http.MethodGet, url, nil))
}

func request(ctx context.Context, t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// read returns the body of a response and closes it.
func read(t testing.TB, resp *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("reading the body: %v", err)
	}
	return string(data)
}

// nodes returns the nodes of "orders".
func nodes(t testing.TB, m *zerohop.Mesh) (list []*loadbalance.Node) {
	t.Helper()
	stop, err := m.Subscribe("orders", func(e zerohop.Endpoints) { list = e.Balancer.Set().Nodes() })
	if err != nil {
		t.Fatal(err)
	}
	stop()
	return list
}

func checkIdle(t testing.TB, m *zerohop.Mesh) {
	t.Helper()
	for _, n := range nodes(t, m) {
		if got := n.InFlight(); got != 0 {
			t.Errorf("in flight on %s = %d, want 0", n.Addr(), got)
		}
	}
}

// failure returns the *zerohop.Error that err is.
func failure(t testing.TB, err error) *zerohop.Error {
	t.Helper()
	var e *zerohop.Error
	if !errors.As(err, &e) {
		t.Fatalf("error = %v (%T), want a *zerohop.Error", err, err)
	}
	return e
}

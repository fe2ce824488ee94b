package hostiletest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/loadbalance"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http reports each connection that a server spoils
	goleak.VerifyTestMain(m)
}

// scale makes a number of repetitions smaller where time is short.
func scale(n int) int {
	if testing.Short() {
		return max(n/20, 1)
	}
	return n
}

// client is a Transport to the service "orders".
type client struct {
	*httpmesh.Transport
	mesh *zerohop.Mesh
}

// connect returns a client of the service at the given addresses. The first of them is tried first, and the others
// only by repetitions and backups.
func connect(t testing.TB, base *http.Transport, policy zerohop.Policy, addrs ...string) *client {
	t.Helper()
	return connectWith(t, base, zerohop.Config{Spec: zerohop.Spec{Defaults: policy}}, addrs...)
}

func connectWith(t testing.TB, base *http.Transport, cfg zerohop.Config, addrs ...string) *client {
	t.Helper()
	if cfg.Resolver == nil {
		list := make([]discovery.Endpoint, len(addrs))
		for i, a := range addrs {
			list[i].Addr = a
		}
		cfg.Resolver = discovery.Static{"orders": list}
	}
	if len(addrs) > 0 {
		cfg.Balancers = map[string]loadbalance.Builder{"first": func(nodes []*loadbalance.Node) loadbalance.Picker {
			return first{addrs[0], nodes}
		}}
		cfg.Spec.Defaults.Balance = "first"
	}
	mesh, err := zerohop.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{httpmesh.NewTransport(mesh, base), mesh}
	t.Cleanup(func() {
		c.CloseIdleConnections()
		mesh.Close()
	})
	return c
}

// first picks one node as long as the call has not tried it.
type first struct {
	addr  string
	nodes []*loadbalance.Node
}

func (p first) Pick(in loadbalance.Info) (pick *loadbalance.Node) {
	pick = p.nodes[0]
	for _, n := range p.nodes {
		if in.Usable(n) && (!in.Usable(pick) || n.Addr() == p.addr) {
			pick = n
		}
	}
	return pick
}

// base returns a Transport for HTTP/1, or for HTTP/2 without TLS.
func base(h2 bool) *http.Transport {
	tr := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetUnencryptedHTTP2(h2)
	return tr
}

// protocols runs a test over HTTP/1 and HTTP/2.
func protocols(t *testing.T, test func(t *testing.T, h2 bool)) {
	t.Run("HTTP/1", func(t *testing.T) { test(t, false) })
	t.Run("HTTP/2", func(t *testing.T) { test(t, true) })
}

func request(ctx context.Context, t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// do sends a request and reads the whole answer.
func do(rt http.RoundTripper, req *http.Request) (status int, body string, err error) {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// server accepts connections for code that need not obey any protocol.
type server struct {
	addr   string
	opened atomic.Int64 // connections ever
	open   atomic.Int64 // connections now
}

// listen starts a server. handle owns its connection, which is closed after it and at the end of the test.
func listen(t testing.TB, handle func(*net.TCPConn)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String()}
	var (
		tasks sync.WaitGroup
		conns sync.Map
	)
	tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.opened.Add(1)
			s.open.Add(1)
			conns.Store(c, nil)
			tasks.Go(func() {
				defer func() {
					c.Close()
					conns.Delete(c)
					s.open.Add(-1)
				}()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		tasks.Wait()
	})
	return s
}

// serve starts a server that is well behaved, for HTTP/1 or HTTP/2 without TLS.
func serve(t testing.TB, h2 bool, h http.HandlerFunc) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String()}
	srv := &http.Server{Handler: h, Protocols: base(h2).Protocols, ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.opened.Add(1)
			s.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.open.Add(-1)
		}
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return s
}

// offer hands a server what it is to say to the next call, in place of what is left from one that did not get there: it
// may have met a connection that was closed after the answer before.
func offer(input chan []byte, data []byte) {
	select {
	case <-input:
	default:
	}
	input <- data
}

// readRequest reads a request of HTTP/1 with its body.
func readRequest(r *bufio.Reader) (*http.Request, error) {
	req, err := http.ReadRequest(r)
	if err == nil {
		_, err = io.Copy(io.Discard, req.Body)
	}
	return req, err
}

// reset makes the other end see a connection reset rather than closed.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// finish closes the sending side and waits for the other end to close its own. If there were bytes left to be read, the
// kernel would reset the connection, and what was sent last could be lost.
func finish(c *net.TCPConn) {
	c.CloseWrite()
	io.Copy(io.Discard, c)
}

// settle waits until what is to follow from the end of calls has followed.
func settle(t testing.TB, what string, settled func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !settled(); <-tick.C {
		if time.Now().After(end) {
			t.Errorf("%s: not after 10 s", what)
			return
		}
	}
}

// checkIdle checks that no call is counted as under way on any node.
func (c *client) checkIdle(t testing.TB) {
	t.Helper()
	var nodes []*loadbalance.Node
	stop, err := c.mesh.Subscribe("orders", func(e zerohop.Endpoints) { nodes = e.Balancer.Set().Nodes() })
	if err != nil {
		t.Fatal(err)
	}
	stop()
	for _, n := range nodes {
		settle(t, "nothing in flight on "+n.Addr(), func() bool { return n.InFlight() == 0 })
	}
}

// checkClosed checks that no connection to a server is left once the idle ones are closed. One may have been dialled in
// vain, and become idle only now.
func (c *client) checkClosed(t testing.TB, s *server) {
	t.Helper()
	settle(t, "no connection is left", func() bool {
		c.CloseIdleConnections()
		return s.open.Load() == 0
	})
}

// leakCheck makes the test fail if goroutines that it started are left after all its clean-up.
func leakCheck(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

// sent reports whether the service may have seen the call that failed with err.
func sent(t testing.TB, err error) bool {
	t.Helper()
	var e *zerohop.Error
	if !errors.As(err, &e) {
		t.Errorf("error = %v (%T), want a *zerohop.Error", err, err)
		return true
	}
	return e.Sent
}

// heapGrowth returns by how many bytes the heap, garbage included, has grown at most during f.
func heapGrowth(f func()) int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	heap := func() int64 {
		metrics.Read(sample)
		return int64(sample[0].Value.Uint64())
	}
	before := heap()
	most := before
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				most = max(most, heap())
			case <-stop:
				return
			}
		}
	}()
	f()
	close(stop)
	<-stopped
	return max(most, heap()) - before
}

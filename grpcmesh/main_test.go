package grpcmesh

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/loadbalance"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network is a set of listeners in memory, by address. Addresses without one refuse connections. It is not made of
// bufconn, whose timers of no duration crash the race detector in a bubble, rarely: https://go.dev/issue/78156.
type network struct {
	mu        sync.Mutex // guards what follows
	listeners map[string]*listener
	dialled   map[string]int
}

func newNetwork() *network {
	return &network{listeners: map[string]*listener{}, dialled: map[string]int{}}
}

func (n *network) listen(addr string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{conns: make(chan net.Conn), done: make(chan struct{})}
	l.close = sync.OnceFunc(func() {
		close(l.done)
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.listeners[addr] == l {
			delete(n.listeners, addr)
		}
	})
	n.listeners[addr] = l
	return l
}

type listener struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.close()
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.dialled[addr]++
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// server is one instance of the echo service.
type server struct {
	echopb.UnimplementedEchoServer
	name    string
	network *network
	options []grpc.ServerOption
	half    *Server // to be registered, nil if not
	calls   atomic.Int64
	// behave, if set, runs before a unary call is answered, or instead of a stream, which is nil for unary calls.
	behave atomic.Pointer[func(ctx context.Context, text string, stream echopb.Echo_ChatServer) error]

	mu   sync.Mutex
	grpc *grpc.Server
	done chan struct{}
}

// serve starts an instance, named like its address, that is stopped at the end of the test.
func (n *network) serve(t *testing.T, addr string, opts ...grpc.ServerOption) *server {
	s := &server{name: addr, network: n, options: opts}
	s.start(n.listen(addr))
	t.Cleanup(s.stop)
	return s
}

func (s *server) start(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, done := grpc.NewServer(append(s.options, grpc.WaitForHandlers(true))...), make(chan struct{})
	s.grpc, s.done = g, done
	echopb.RegisterEchoServer(g, s)
	if s.half != nil {
		s.half.Register(g)
	}
	go func() {
		defer close(done)
		_ = g.Serve(l) // it ends with stop
	}()
}

func (s *server) restart() { s.start(s.network.listen(s.name)) }

// replace breaks all connections while new ones are accepted throughout.
func (s *server) replace() {
	s.mu.Lock()
	old, done := s.grpc, s.done
	s.mu.Unlock()
	s.restart()
	old.Stop()
	<-done
}

// stop breaks all connections and waits for what still runs.
func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grpc.Stop()
	<-s.done
}

func (s *server) do(f func(ctx context.Context, text string) error) {
	g := func(ctx context.Context, text string, stream echopb.Echo_ChatServer) error {
		if stream != nil {
			return s.echo(stream)
		}
		return f(ctx, text)
	}
	s.behave.Store(&g)
}

func (s *server) stream(f func(stream echopb.Echo_ChatServer) error) {
	g := func(_ context.Context, _ string, stream echopb.Echo_ChatServer) error {
		if stream == nil {
			return nil
		}
		return f(stream)
	}
	s.behave.Store(&g)
}

func (s *server) Say(ctx context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	s.calls.Add(1)
	if f := s.behave.Load(); f != nil {
		if err := (*f)(ctx, r.Text, nil); err != nil {
			return nil, err
		}
	}
	return &echopb.SayReply{Text: r.Text, Node: s.name}, nil
}

func (s *server) Order(ctx context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	return s.Say(ctx, r)
}

func (s *server) Chat(stream echopb.Echo_ChatServer) error {
	s.calls.Add(1)
	if f := s.behave.Load(); f != nil {
		return (*f)(stream.Context(), "", stream)
	}
	return s.echo(stream)
}

func (s *server) echo(stream echopb.Echo_ChatServer) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil // the end of what the client says
		}
		if err := stream.Send(&echopb.SayReply{Text: r.Text, Node: s.name}); err != nil {
			return err
		}
	}
}

// hang makes unary calls block until their clients go away.
func hang(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

func endpoints(addrs ...string) []discovery.Endpoint {
	eps := make([]discovery.Endpoint, len(addrs))
	for i, a := range addrs {
		eps[i].Addr = a
	}
	return eps
}

// bed is a service "orders" with some instances and a client of it.
type bed struct {
	*network
	source  discoverytest.Memory
	servers []*server
	mesh    *zerohop.Mesh
	conn    *grpc.ClientConn
	client  echopb.EchoClient
}

// setUp makes a bed with n instances. The configuration needs no resolver.
func setUp(t *testing.T, n int, cfg zerohop.Config, opts ...grpc.DialOption) *bed {
	t.Helper()
	b := &bed{network: newNetwork()}
	var addrs []string
	for i := range n {
		addrs = append(addrs, fmt.Sprintf("10.0.0.%d:80", i+1))
		b.servers = append(b.servers, b.serve(t, addrs[i]))
	}
	b.source.Set("orders", endpoints(addrs...)...)
	cfg.Resolver = &b.source
	mesh, err := zerohop.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mesh.Close() })
	b.mesh = mesh
	b.conn = b.dialTo(t, Target("orders"), append(DialOptions(mesh), opts...)...)
	b.client = echopb.NewEchoClient(b.conn)
	return b
}

func (n *network) dialTo(t *testing.T, target string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	opts = append(opts, grpc.WithContextDialer(n.dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// unlimited lets every call use all its attempts.
var unlimited = zerohop.Spec{Defaults: zerohop.Policy{Budget: zerohop.Budget{Mode: zerohop.Off}}}

// say calls Say and returns the node that answered.
func (b *bed) say(t *testing.T) string {
	t.Helper()
	r, err := b.client.Say(t.Context(), &echopb.SayRequest{Text: "hello"})
	if err != nil {
		t.Fatalf("Say() = %v", err)
	}
	if r.Text != "hello" {
		t.Fatalf("Say() = %q, want what was said", r.Text)
	}
	return r.Node
}

// warm calls until every instance has answered, so that all connections are up.
func (b *bed) warm(t *testing.T) {
	t.Helper()
	for range 1000 {
		b.say(t)
		missing := false
		for _, s := range b.servers {
			missing = missing || s.calls.Load() == 0
		}
		if !missing {
			for _, s := range b.servers {
				s.calls.Store(0)
			}
			return
		}
	}
	t.Fatal("an instance got none of 1000 calls")
}

func (b *bed) nodes(t *testing.T, service string) []*loadbalance.Node {
	t.Helper()
	var nodes []*loadbalance.Node
	stop, err := b.mesh.Subscribe(service, func(e zerohop.Endpoints) { nodes = e.Balancer.Set().Nodes() })
	if err != nil {
		t.Fatal(err)
	}
	stop()
	return nodes
}

// idle checks that nothing is in flight.
func (b *bed) idle(t *testing.T) {
	t.Helper()
	for _, n := range b.nodes(t, "orders") {
		if got := n.InFlight(); got != 0 {
			t.Errorf("in flight on %s = %d, want 0", n.Addr(), got)
		}
	}
}

// tally counts what hooks see.
type tally struct {
	mu       sync.Mutex
	begun    int
	started  int
	attempts []zerohop.AttemptResult
	nodes    []string
	calls    []zerohop.CallResult
}

func (c *tally) hooks() zerohop.Hooks {
	return zerohop.Hooks{
		CallStart: func(ctx context.Context, _ zerohop.CallInfo) context.Context {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.begun++
			return ctx
		},
		CallDone: func(_ context.Context, _ zerohop.CallInfo, r zerohop.CallResult) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.calls = append(c.calls, r)
		},
		AttemptStart: func(ctx context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo) context.Context {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.started++
			return ctx
		},
		AttemptDone: func(_ context.Context, _ zerohop.CallInfo, a zerohop.AttemptInfo, r zerohop.AttemptResult) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.attempts = append(c.attempts, r)
			if a.Node != nil {
				c.nodes = append(c.nodes, a.Node.Addr())
			}
		},
	}
}

// settled checks that everything that began ended once, and returns the last call.
func (c *tally) settled(t *testing.T, calls int) zerohop.CallResult {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun != calls || len(c.calls) != calls {
		t.Fatalf("%d calls began and %d ended, want %d", c.begun, len(c.calls), calls)
	}
	if c.started != len(c.attempts) {
		t.Fatalf("%d attempts began and %d ended", c.started, len(c.attempts))
	}
	if calls == 0 {
		return zerohop.CallResult{}
	}
	return c.calls[calls-1]
}

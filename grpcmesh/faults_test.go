package grpcmesh_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/internal/echopb"
)

// The tests in the files named after this one see the package from outside, over ports of this machine.

// journal is what instances executed, by the text of the call.
type journal struct {
	mu  sync.Mutex
	ran map[string][]string // addresses
}

// note returns how often the call was executed before.
func (j *journal) note(text, addr string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ran == nil {
		j.ran = map[string][]string{}
	}
	j.ran[text] = append(j.ran[text], addr)
	return len(j.ran[text]) - 1
}

func (j *journal) of(text string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ran[text]
}

// instance is a server of the echo service on a port of its own.
type instance struct {
	echopb.UnimplementedEchoServer
	addr  string
	calls atomic.Int64
	// answer, if set, runs before a unary call is answered. earlier says how often the call was executed before.
	answer func(ctx context.Context, s *instance, text string, earlier int) error
	log    *journal
	stop   func() // breaks all connections and waits for what still runs
}

func (s *instance) Say(ctx context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	s.calls.Add(1)
	earlier := s.log.note(r.Text, s.addr)
	if s.answer != nil {
		if err := s.answer(ctx, s, r.Text, earlier); err != nil {
			return nil, err
		}
	}
	return &echopb.SayReply{Text: r.Text, Node: s.addr}, nil
}

func (s *instance) Order(ctx context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	return s.Say(ctx, r)
}

// fleet is a number of instances that share a journal.
type fleet struct {
	instances []*instance
	journal   journal
}

// launch starts n instances, which are stopped at the end of the test.
func launch(t *testing.T, n int, answer func(context.Context, *instance, string, int) error, opts ...grpc.ServerOption) *fleet {
	t.Helper()
	f := &fleet{}
	for range n {
		l := port(t)
		s := &instance{addr: l.Addr().String(), answer: answer, log: &f.journal}
		g := grpc.NewServer(append(opts, grpc.WaitForHandlers(true))...)
		echopb.RegisterEchoServer(g, s)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = g.Serve(l) // it ends with Stop
		}()
		s.stop = sync.OnceFunc(func() {
			g.Stop()
			<-done
		})
		t.Cleanup(s.stop)
		f.instances = append(f.instances, s)
	}
	return f
}

func (f *fleet) addrs() []string {
	var list []string
	for _, s := range f.instances {
		list = append(list, s.addr)
	}
	return list
}

func port(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// user is a client of a service "orders".
type user struct {
	echopb.EchoClient
	source *discoverytest.Memory
	mesh   *zerohop.Mesh
	conn   *grpc.ClientConn
}

// use makes a client of the addresses. The configuration needs no resolver.
func use(t *testing.T, cfg zerohop.Config, addrs []string, opts ...grpc.DialOption) *user {
	t.Helper()
	u := &user{source: &discoverytest.Memory{}}
	u.set(addrs)
	cfg.Resolver = u.source
	mesh, err := zerohop.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mesh.Close() })
	u.mesh = mesh
	opts = append(append(grpcmesh.DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials())), opts...)
	if u.conn, err = grpc.NewClient(grpcmesh.Target("orders"), opts...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.conn.Close() })
	u.EchoClient = echopb.NewEchoClient(u.conn)
	return u
}

func (u *user) set(addrs []string) {
	eps := make([]discovery.Endpoint, len(addrs))
	for i, a := range addrs {
		eps[i].Addr = a
	}
	u.source.Set("orders", eps...)
}

// become replaces all addresses, and waits until the mesh knows.
func (u *user) become(t *testing.T, addr string) {
	t.Helper()
	done := make(chan struct{})
	known := sync.OnceFunc(func() { close(done) })
	stop, err := u.mesh.Subscribe("orders", func(e zerohop.Endpoints) {
		if nodes := e.Balancer.Set().Nodes(); len(nodes) == 1 && nodes[0].Addr() == addr {
			known()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	u.set([]string{addr})
	<-done
	stop()
}

// warm calls until each of the addresses has answered, so that all are connected.
func (u *user) warm(t *testing.T, f *fleet) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for seen := map[string]bool{}; len(seen) < len(f.instances); {
		r, err := u.Say(ctx, &echopb.SayRequest{Text: "warm"}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		seen[r.Node] = true
	}
	for _, s := range f.instances {
		s.calls.Store(0)
	}
}

// idle checks that nothing is in flight on any node.
func (u *user) idle(t *testing.T) {
	t.Helper()
	stop, err := u.mesh.Subscribe("orders", func(e zerohop.Endpoints) {
		for _, n := range e.Balancer.Set().Nodes() {
			if got := n.InFlight(); got != 0 {
				t.Errorf("in flight on %s = %d, want 0", n.Addr(), got)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	stop()
}

// hasty lets every call use all its attempts, one after the other without much of a pause, and every node have its turn,
// however slow it once was.
var hasty = zerohop.Spec{Defaults: zerohop.Policy{
	Balance: "weighted-round-robin",
	Backup:  zerohop.Backup{Mode: zerohop.Off},
	Budget:  zerohop.Budget{Mode: zerohop.Off},
	Retry:   zerohop.Retry{Base: time.Millisecond},
}}

package grpcmesh

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/loadbalance"
)

var seed = flag.Uint64("seed", 0, "what TestRandomStreams does, 0 for something else each time")

// Whatever clients and servers do, while streams are reset, connections are killed or asked to go, and servers restart:
// every call ends once, each side hears what the other said from the beginning and in order, nobody who answered is told
// a thing twice, and what is reported as done was done.
func TestRandomStreams(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork()
			s := newStorm(t, n.listen, []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"}, grpc.WithContextDialer(n.dial))
			s.pause = time.Sleep
			s.rage(t, 1000)
			s.check(t)
		})
	})
	t.Run("TCP", func(t *testing.T) {
		listen := func(addr string) net.Listener {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		s := newStorm(t, listen, slices.Repeat([]string{"127.0.0.1:0"}, 3))
		s.rage(t, 1000)
		s.check(t)
	})
}

// storm is a lot of calls between three instances and a client.
type storm struct {
	seed    uint64
	listen  func(addr string) net.Listener
	pause   func(time.Duration) // nil where time is real: then servers are not restarted, either
	servers []*server
	mesh    *zerohop.Mesh
	conn    *grpc.ClientConn
	nodes   []*loadbalance.Node

	mu    sync.Mutex // guards what follows, and the accounts
	calls map[string]*account
}

func newStorm(t *testing.T, listen func(addr string) net.Listener, addrs []string, opts ...grpc.DialOption) *storm {
	s := &storm{seed: *seed, listen: listen, calls: map[string]*account{}}
	if s.seed == 0 {
		s.seed = rand.Uint64()
	}
	t.Logf("go test -run TestRandomStreams -seed %d", s.seed)
	for i, addr := range addrs {
		l := listen(addr)
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			addrs[i] = a.String()
		}
		srv := &server{name: addrs[i], options: []grpc.ServerOption{
			grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 100 * time.Millisecond}), // and then GOAWAY
			grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return s.handle(ss) }),
		}}
		srv.start(wired{l})
		t.Cleanup(srv.stop)
		s.servers = append(s.servers, srv)
	}
	spec := unlimited
	spec.Defaults.Retry.Attempts = 5
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": endpoints(addrs...)}, Hooks: s.hooks(), Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mesh.Close() })
	s.mesh = mesh
	opts = append(DialOptions(mesh), append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithChainStreamInterceptor(s.count),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Millisecond, Multiplier: 1, MaxDelay: time.Millisecond}}))...)
	if s.conn, err = grpc.NewClient(Target("orders"), opts...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.conn.Close() })
	stop, err := mesh.Subscribe("orders", func(e zerohop.Endpoints) { s.nodes = e.Balancer.Set().Nodes() })
	if err != nil {
		t.Fatal(err)
	}
	for seen := map[string]bool{}; len(seen) < len(addrs); { // until all are connected
		r, err := echopb.NewEchoClient(s.conn).Say(t.Context(), say("hello"), grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		seen[r.Node] = true
	}
	stop()
	return s
}

const idKey = "call-id"

// account returns that of the call that a context is of, nil if there is none, and locks it.
func (s *storm) account(md metadata.MD) (*account, func()) {
	s.mu.Lock()
	if ids := md[idKey]; len(ids) == 1 {
		return s.calls[ids[0]], s.mu.Unlock
	}
	return &account{attempts: map[int]int{}}, s.mu.Unlock // of a call before the storm
}

func (s *storm) outgoing(ctx context.Context) (*account, func()) {
	md, _ := metadata.FromOutgoingContext(ctx)
	return s.account(md)
}

func (s *storm) hooks() zerohop.Hooks {
	return zerohop.Hooks{
		CallStart: func(ctx context.Context, _ zerohop.CallInfo) context.Context {
			a, unlock := s.outgoing(ctx)
			defer unlock()
			a.begun++
			return ctx
		},
		AttemptStart: func(ctx context.Context, _ zerohop.CallInfo, i zerohop.AttemptInfo) context.Context {
			a, unlock := s.outgoing(ctx)
			defer unlock()
			a.attempts[i.Number]++
			return ctx
		},
		AttemptDone: func(ctx context.Context, _ zerohop.CallInfo, i zerohop.AttemptInfo, _ zerohop.AttemptResult) {
			a, unlock := s.outgoing(ctx)
			defer unlock()
			a.attempts[i.Number]++
		},
		CallDone: func(ctx context.Context, _ zerohop.CallInfo, r zerohop.CallResult) {
			a, unlock := s.outgoing(ctx)
			defer unlock()
			a.ends = append(a.ends, r)
		},
	}
}

// count sees every attempt of a stream.
func (s *storm) count(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	a, unlock := s.outgoing(ctx)
	a.opened++
	if a.bound {
		a.late++
	}
	unlock()
	cs, err := streamer(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return &hesitant{cs, s}, nil
}

// hesitant is a stream between whose steps others get a chance.
type hesitant struct {
	grpc.ClientStream
	storm *storm
}

func (h *hesitant) wait() {
	switch {
	case h.storm.pause == nil:
		runtime.Gosched()
	case rand.IntN(4) == 0:
		h.storm.pause(time.Duration(rand.Int64N(int64(5 * time.Millisecond))))
	}
}

func (h *hesitant) SendMsg(m any) error {
	h.wait()
	defer h.wait()
	return h.ClientStream.SendMsg(m)
}

func (h *hesitant) CloseSend() error {
	h.wait()
	defer h.wait()
	return h.ClientStream.CloseSend()
}

func (h *hesitant) RecvMsg(m any) error {
	defer h.wait()
	return h.ClientStream.RecvMsg(m)
}

func (h *hesitant) Header() (metadata.MD, error) {
	defer h.wait()
	return h.ClientStream.Header()
}

// handle is what servers do: what the client says, or fail.
func (s *storm) handle(ss grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(ss.Context())
	a, unlock := s.account(md)
	e, number := &run{}, len(a.executions)
	a.executions = append(a.executions, e)
	many := a.kind.ServerStreams
	unlock()
	id, _ := strconv.ParseUint(md[idKey][0], 10, 64)
	dice := rand.New(rand.NewPCG(s.seed, id<<8+uint64(number)))
	ss.SetTrailer(metadata.Pairs("execution", strconv.Itoa(number)))
	reply := func() {
		text := fmt.Sprint(number, " ", e.replies)
		e.replies++
		_ = ss.SendMsg(&echopb.SayReply{Text: text}) // an error is the client's to find out
	}
	for {
		text, err := hear(ss)
		told, act, _ := strings.Cut(text, " ")
		if err == nil {
			k, _ := strconv.Atoi(told)
			e.told = append(e.told, k)
		}
		mostly := dice.IntN(4) > 0
		e.complete = isEOF(err)
		switch {
		case e.complete && mostly, act == "end":
			e.done = true
			for n := dice.IntN(4); n > 0 && many; n-- {
				reply()
			}
			if !many {
				reply()
			}
			return nil
		case err != nil, act == "fail" && mostly:
			return errUnavailable
		case act == "error":
			return status.Error(codes.Internal, "broken")
		case act == "kill" && mostly:
			wireOf(ss.Context()).Close()
		case act == "reset" && mostly:
			wireOf(ss.Context()).reset(ss.Context(), []http2.ErrCode{http2.ErrCodeInternal, http2.ErrCodeCancel, http2.ErrCodeEnhanceYourCalm}[dice.IntN(3)])
			return nil // nobody hears that
		case act == "hang":
			<-ss.Context().Done()
		case act == "head":
			_ = ss.SendHeader(nil)
		case act == "reply" && many:
			reply()
		}
	}
}

// rage makes n calls, 20 at a time, and waits for their ends.
func (s *storm) rage(t *testing.T, n int) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 20 {
		wg.Go(func() {
			for i := range next {
				s.call(t, uint64(i))
			}
		})
	}
	for i := range n {
		if s.pause != nil && i%50 == 0 {
			srv := s.servers[i/50%len(s.servers)]
			srv.stop()
			s.pause(time.Millisecond)
			srv.start(wired{s.listen(srv.name)})
		}
		next <- i
	}
	close(next)
	wg.Wait()
	for _, a := range s.calls {
		<-a.finished
	}
	s.conn.Close()
	s.mesh.Close() // which waits for attempts that lost
	for _, srv := range s.servers {
		srv.stop()
	}
}

func (s *storm) check(t *testing.T) {
	repeated, done := 0, 0
	for id, a := range s.calls {
		if len(a.executions) > 1 {
			repeated++
		}
		for _, fault := range a.faults() {
			t.Errorf("call %s %s: %v", id, fault, a)
		}
		if a.done() {
			done++
		}
	}
	t.Logf("%d calls, %d repeated, %d done", len(s.calls), repeated, done)
	if n := len(s.calls); repeated < n/20 || done < n/10 {
		t.Errorf("only %d of %d calls were repeated, %d done", repeated, n, done)
	}
	for _, n := range s.nodes {
		if got := n.InFlight(); got != 0 {
			t.Errorf("in flight on %s = %d, want 0", n.Addr(), got)
		}
	}
}

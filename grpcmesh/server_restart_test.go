package grpcmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/internal/porttest"
)

// instance is a server on TCP that is stopped by Drain.
type instance struct {
	echopb.UnimplementedEchoServer
	name string
	addr string
	half *Server
	grpc *grpc.Server
	done chan struct{}
}

func newInstance(t *testing.T, name, addr string, lag time.Duration) *instance {
	l, err := porttest.Again(addr)
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{name: name, addr: l.Addr().String(), half: &Server{Health: health.NewServer(), Lag: lag}, done: make(chan struct{})}
	i.grpc = grpc.NewServer(i.half.ServerOptions()...)
	echopb.RegisterEchoServer(i.grpc, i)
	healthpb.RegisterHealthServer(i.grpc, i.half.Health)
	go func() {
		defer close(i.done)
		_ = i.grpc.Serve(l) // it ends with Drain or Stop
	}()
	t.Cleanup(func() {
		i.grpc.Stop()
		<-i.done
	})
	return i
}

func (i *instance) Say(_ context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	return &echopb.SayReply{Text: r.Text, Node: i.name}, nil
}

func (i *instance) Order(ctx context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	return i.Say(ctx, r)
}

// Chat answers what it is told or, told to stay, does so until the drain.
func (i *instance) Chat(stream echopb.Echo_ChatServer) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&echopb.SayReply{Text: r.Text, Node: i.name}); err != nil {
			return err
		}
		if r.Text == "stay" {
			select {
			case <-i.half.Draining():
			case <-stream.Context().Done():
			}
			return nil
		}
	}
}

// progress counts what instances have answered, by their names.
type progress struct {
	mu      sync.Mutex // guards answers
	changed sync.Cond
	answers map[string]int
}

func newProgress() *progress {
	p := &progress{answers: map[string]int{}}
	p.changed.L = &p.mu
	return p
}

func (p *progress) add(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[name]++
	p.changed.Broadcast()
}

// await waits until the instance has answered n times more.
func (p *progress) await(name string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n += p.answers[name]; p.answers[name] < n; {
		p.changed.Wait()
	}
}

func unaryRound(call func(context.Context, *echopb.SayRequest, ...grpc.CallOption) (*echopb.SayReply, error)) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		r, err := call(ctx, &echopb.SayRequest{Text: "hello"})
		return r.GetNode(), err
	}
}

// streamRound returns a round of a stream on which every text is answered, and that ends then.
func streamRound(client echopb.EchoClient, texts ...string) func(context.Context) (string, error) {
	return func(ctx context.Context) (name string, err error) {
		stream, err := client.Chat(ctx)
		if err != nil {
			return "", err
		}
		for _, text := range texts {
			if err := stream.Send(&echopb.SayRequest{Text: text}); err != nil && !errors.Is(err, io.EOF) {
				return name, err
			}
			r, err := stream.Recv()
			if err != nil {
				return name, fmt.Errorf("after %q: %w", name, err)
			}
			name = r.Node
		}
		if err := stream.CloseSend(); err != nil {
			return name, err
		}
		if r, err := stream.Recv(); !errors.Is(err, io.EOF) {
			return name, fmt.Errorf("%v, %w at the end", r, err)
		}
		return name, nil
	}
}

// Three servers are restarted, one after the other, while clients call them all the time: unary calls that may be
// executed twice and that may not, streams that end, and streams that stay until they are sent away.
func TestRestartsLoseNoCall(t *testing.T) {
	for name, tt := range map[string]struct {
		lag    time.Duration
		listed bool // clients do not hear from the registry that a server leaves
		stay   bool // servers come back on the same address
	}{
		"new addresses":          {lag: 20 * time.Millisecond},
		"same addresses":         {lag: 20 * time.Millisecond, stay: true},
		"without a lag":          {lag: -1},
		"without a registration": {lag: -1, listed: true, stay: true},
	} {
		t.Run(name, func(t *testing.T) {
			var source discoverytest.Memory
			var instances []*instance
			list := func(without *instance) {
				var eps []discovery.Endpoint
				for _, i := range instances {
					if i != without {
						eps = append(eps, discovery.Endpoint{Addr: i.addr})
					}
				}
				source.Set("orders", eps...)
			}
			for i := range 3 {
				instances = append(instances, newInstance(t, fmt.Sprint("old ", i), "", tt.lag))
			}
			list(nil)
			mesh, err := zerohop.New(zerohop.Config{Resolver: &source})
			if err != nil {
				t.Fatal(err)
			}
			defer mesh.Close()
			conn, err := grpc.NewClient(Target("orders"), append(DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			client := echopb.NewEchoClient(conn)

			stop := make(chan struct{})
			staying, leave := context.WithCancel(t.Context())
			defer leave()
			p := newProgress()
			var workers sync.WaitGroup
			work := func(ctx context.Context, round func(context.Context) (string, error)) {
				workers.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						name, err := round(ctx)
						if err != nil && ctx.Err() == nil {
							t.Errorf("call: %v", err)
						}
						p.add(name)
					}
				})
			}
			for range 2 {
				work(t.Context(), unaryRound(client.Say))
				work(t.Context(), unaryRound(client.Order))
				work(t.Context(), streamRound(client, "a", "b", "c"))
				work(staying, streamRound(client, "stay"))
			}
			for _, i := range instances {
				p.await(i.name, 20)
			}
			for k, old := range instances {
				leaveRegistry := func(context.Context) error {
					if !tt.listed {
						list(old)
					}
					return nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				if err := old.half.Drain(ctx, old.grpc, leaveRegistry); err != nil {
					t.Errorf("Drain() = %v", err)
				}
				cancel()
				<-old.done
				addr := ""
				if tt.stay {
					addr = old.addr
				}
				instances[k] = newInstance(t, fmt.Sprint("new ", k), addr, tt.lag)
				list(nil)
				p.await(instances[k].name, 20)
			}
			close(stop)
			leave()
			workers.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("answers: %v", p.answers)
		})
	}
}

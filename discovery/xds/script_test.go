package xds

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// ads is one stream at a scripted control plane.
type ads = discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer

// script is a control plane that does what the test says, over connections in memory: it fits into a bubble.
type script struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	listener *pipeListener
	serve    func(ads) error
}

// StreamAggregatedResources implements the service.
func (s *script) StreamAggregatedResources(stream ads) error { return s.serve(stream) }

// startScript serves streams by calling serve until the test ends.
func startScript(t testing.TB, serve func(ads) error, register ...func(*grpc.Server)) *script {
	t.Helper()
	s := &script{listener: newPipeListener(), serve: serve}
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, s)
	for _, f := range register {
		f(server)
	}
	done := make(chan struct{})
	go func() { // ended and awaited by the cleanup
		defer close(done)
		_ = server.Serve(s.listener)
	}()
	t.Cleanup(func() { server.Stop(); <-done })
	return s
}

// resolver returns a resolver for the script.
func (s *script) resolver(t testing.TB, change func(*Config)) *Resolver {
	t.Helper()
	return resolverOf(t, "passthrough:///plane.test", func(c *Config) {
		c.DialOptions = []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return s.listener.dial(ctx)
		})}
		if change != nil {
			change(c)
		}
	})
}

// pipeListener accepts the other ends of pipes.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, io.EOF
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "plane.test", Net: "unix"} }

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, io.ErrClosedPipe
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// answer returns a response of the type with the resources.
func answer(t testing.TB, typeURL, version, nonce string, resources ...proto.Message) *discoveryv3.DiscoveryResponse {
	t.Helper()
	resp := &discoveryv3.DiscoveryResponse{TypeUrl: typeURL, VersionInfo: version, Nonce: nonce}
	for _, m := range resources {
		wrapped, err := anypb.New(m)
		if err != nil {
			t.Error(err)
		}
		resp.Resources = append(resp.Resources, wrapped)
	}
	return resp
}

// requests are those of a stream, by type.
type requests map[string]chan *discoveryv3.DiscoveryRequest

// read reads the requests of a stream until it ends.
func read(t testing.TB, stream ads) requests {
	r := requests{clusterType: make(chan *discoveryv3.DiscoveryRequest, 10_000), assignmentType: make(chan *discoveryv3.DiscoveryRequest, 10_000)}
	go func() {
		defer close(r[clusterType])
		defer close(r[assignmentType])
		for {
			req, err := stream.Recv()
			if err != nil {
				return
			}
			if r[req.GetTypeUrl()] == nil {
				t.Errorf("request for the type %q", req.GetTypeUrl())
				return
			}
			r[req.GetTypeUrl()] <- req
		}
	}()
	return r
}

// of returns the next request of the type, nil if the stream ends or nothing comes for a minute.
func (r requests) of(typeURL string) *discoveryv3.DiscoveryRequest {
	select {
	case req := <-r[typeURL]:
		return req
	case <-time.After(time.Minute):
		return nil
	}
}

//go:build unix

package outage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// rpcGate is a proxy before a registry that speaks gRPC. It does not know what the messages mean.
type rpcGate struct {
	door *door
	conn *grpc.ClientConn
	// fault changes what passes; nil while there is none.
	fault atomic.Pointer[rpcFault]
}

// rpcFault is what goes wrong with calls.
type rpcFault struct {
	// refusal, if not nil, is the answer to every call.
	refusal error
	// to and from change the messages to and from the registry, if not nil.
	to, from func([]byte) []byte
}

func newRPCGate(t *testing.T, target string) *rpcGate {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	g := &rpcGate{door: newDoor(t), conn: conn}
	server := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(g.handle))
	done := make(chan struct{})
	go func() { // ended and awaited by the cleanup
		defer close(done)
		_ = server.Serve(g.door)
	}()
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		<-done
	})
	return g
}

// begin returns a function that lets the fault have effect, also on what is called now.
func (g *rpcGate) begin(f rpcFault) func(testing.TB) {
	return func(t testing.TB) {
		g.fault.Store(&f)
		g.door.cut(t)
	}
}

func (g *rpcGate) heal(t testing.TB) {
	g.fault.Store(nil)
	g.door.cut(t)
}

func (g *rpcGate) handle(_ any, down grpc.ServerStream) error {
	f := g.fault.Load()
	if f == nil {
		f = new(rpcFault)
	}
	if f.refusal != nil {
		return f.refusal
	}
	method, _ := grpc.MethodFromServerStream(down)
	incoming, _ := metadata.FromIncomingContext(down.Context())
	outgoing := metadata.MD{}
	for k, v := range incoming {
		if k == "hasleader" { // etcd
			outgoing[k] = v
		}
	}
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(down.Context(), outgoing))
	defer cancel()
	up, err := g.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	go func() { // ends with the stream of the client, which ends when handle returns
		if errors.Is(pump(up, down, f.to), io.EOF) {
			_ = up.CloseSend()
		}
	}()
	if err := pump(down, up, f.from); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// messages is one side of a call.
type messages interface {
	SendMsg(any) error
	RecvMsg(any) error
}

// pump moves messages, changed by change if that is not nil, until one side ends, and returns why.
func pump(to, from messages, change func([]byte) []byte) error {
	for {
		var data []byte
		if err := from.RecvMsg(&data); err != nil {
			return err
		}
		if change != nil {
			data = change(data)
		}
		if err := to.SendMsg(&data); err != nil {
			return err
		}
	}
}

// rawCodec leaves messages as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

func (rawCodec) Name() string { return "proto" }

// swap makes a name another one of the same length, so that messages stay what they are.
func swap(from, to string) func([]byte) []byte {
	return func(data []byte) []byte { return bytes.ReplaceAll(data, []byte(from), []byte(to)) }
}

// spoil makes garbage of messages, each time in another way.
func spoil() func([]byte) []byte {
	var turn atomic.Int64
	return func(data []byte) []byte {
		switch n := int(turn.Add(1)); n % 4 {
		case 0:
			return data[:len(data)/2]
		case 1:
			return []byte("\xff\xff\xff garbage")
		case 2:
			return bytes.Repeat([]byte{0xff}, 10_000)
		default:
			for i := n % 5; i < len(data); i += 5 {
				data[i] ^= byte(n)
			}
			return data
		}
	}
}

// counter counts the messages that a client sends.
type counter struct{ sent *atomic.Int64 }

func (c counter) HandleRPC(_ context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutPayload); ok {
		c.sent.Add(1)
	}
}

func (counter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (counter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (counter) HandleConn(context.Context, stats.ConnStats)                       {}

var errThrottled = status.Error(codes.ResourceExhausted, "too many requests")

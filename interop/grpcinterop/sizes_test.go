package grpcinterop

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// TestMessageSizes: a message that is larger than one side allows is not sent again, and not the fault of a node, whether
// the limit is that of the connection, of the call or of the server.
func TestMessageSizes(t *testing.T) {
	const small, large, limit = 10, 1000, 100
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	receive, send := grpc.MaxCallRecvMsgSize(limit), grpc.MaxCallSendMsgSize(limit)
	for _, c := range []struct {
		name           string
		options        []grpc.DialOption
		call           []grpc.CallOption
		server         []grpc.ServerOption
		request, reply int
		calls          int64 // that reach a handler
	}{
		{"reply, connection", []grpc.DialOption{grpc.WithDefaultCallOptions(receive)}, nil, nil, small, large, 1},
		{"reply, call", nil, []grpc.CallOption{receive}, nil, small, large, 1},
		{"reply, server", nil, nil, []grpc.ServerOption{grpc.MaxSendMsgSize(limit)}, small, large, 1},
		{"request, connection", []grpc.DialOption{grpc.WithDefaultCallOptions(send)}, nil, nil, large, small, 0},
		{"request, call", nil, []grpc.CallOption{send}, nil, large, small, 0},
		{"request, server", nil, nil, []grpc.ServerOption{grpc.MaxRecvMsgSize(limit)}, large, small, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := serve(t, c.server...), serve(t, c.server...)
			var noted outcomes
			mesh := newMesh(t, zerohop.Config{Hooks: noted.hooks(), Spec: zerohop.Spec{Defaults: zerohop.Policy{Idempotent: zerohop.On}}}, a.addr, b.addr)
			options := append(c.options, plain)
			for i, client := range []testpb.TestServiceClient{connect(t, mesh, options, nil), connect(t, mesh, nil, options)} {
				_, err := client.UnaryCall(t.Context(), &testpb.SimpleRequest{
					Payload: interop.ClientNewPayload(testpb.PayloadType_COMPRESSABLE, c.request), ResponseSize: int32(c.reply),
				}, c.call...)
				if status.Code(err) != codes.ResourceExhausted {
					t.Errorf("UnaryCall() = %v, want ResourceExhausted", err)
				}
				if got, want := a.calls.Load()+b.calls.Load(), c.calls*int64(i+1); got != want {
					t.Errorf("the nodes got %d calls, want %d", got, want)
				}
				for _, o := range noted.take() {
					if o != resilience.Success && o != resilience.Neutral {
						t.Errorf("the outcome is a %v", o)
					}
				}
			}
		})
	}
}

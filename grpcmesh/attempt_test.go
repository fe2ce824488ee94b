package grpcmesh

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

func TestSizeLimitsBlameNobody(t *testing.T) {
	const limit = 1000
	long := &echopb.SayRequest{Text: strings.Repeat("x", 2*limit)}
	for name, tc := range map[string]struct {
		server grpc.ServerOption
		client grpc.CallOption
	}{
		"request, server's limit": {grpc.MaxRecvMsgSize(limit), grpc.EmptyCallOption{}},
		"reply, server's limit":   {grpc.MaxSendMsgSize(limit), grpc.EmptyCallOption{}},
		"request, client's limit": {grpc.EmptyServerOption{}, grpc.MaxCallSendMsgSize(limit)},
		"reply, client's limit":   {grpc.EmptyServerOption{}, grpc.MaxCallRecvMsgSize(limit)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := setUp(t, 0, zerohop.Config{})
				s := b.serve(t, "10.0.0.1:80", tc.server)
				b.source.Set("orders", endpoints(s.name)...)
				if _, err := b.client.Say(t.Context(), long, tc.client); status.Code(err) != codes.ResourceExhausted {
					t.Fatalf("Say() = %v, want RESOURCE_EXHAUSTED", err)
				}
				stream, err := b.client.Chat(t.Context(), tc.client)
				if err != nil {
					t.Fatal(err)
				}
				if err = stream.Send(long); err == nil {
					_, err = stream.Recv()
				}
				if status.Code(err) != codes.ResourceExhausted {
					t.Errorf("stream = %v, want RESOURCE_EXHAUSTED", err)
				}
				synctest.Wait()
				if n := b.nodes(t, "orders")[0]; n.Penalized(time.Now()) {
					t.Error("the node is avoided, want no blame")
				}
				b.idle(t)
			})
		})
	}
}

// gRPC says that a stream succeeded that it never wrote, because its connection was closed, if it is asked for the
// headers.
func TestStreamsLeftBehindAreNoSuccess(t *testing.T) {
	for _, received := range []bool{false, true} {
		st := &attemptState{}
		st.begin(nil)
		st.end(ending{sent: true, received: received})
		st.finish(nil)
		e := st.last()
		if v := e.verdict(); (e.err == nil) != received || v.Unsent == received || v.Retry == received {
			t.Errorf("received %v: ended with %v, which is %+v", received, e.err, v)
		}
	}
	v := ending{err: errLeftBehind, sent: true}.verdict() // as RecvMsg says
	if !v.Unsent || !v.Retry {
		t.Errorf("%v is %+v, want a retry of what was not sent", errLeftBehind, v)
	}
}

// gRPC says io.EOF of both a stream that has ended well, of which at least the status came, and one that was not written.
func TestEndsThatAreNoneAreTold(t *testing.T) {
	for _, tt := range []struct {
		end       ending
		err, want error
	}{
		{ending{sent: true, received: true}, io.EOF, io.EOF},
		{ending{sent: true}, io.EOF, errLeftBehind},
		{ending{}, io.EOF, io.EOF}, // the connection is not balanced by this package
		{ending{sent: true}, nil, nil},
		{ending{sent: true}, errUnavailable, errUnavailable},
	} {
		st := &attemptState{}
		st.begin(nil)
		st.end(tt.end)
		if got := st.truth(tt.err); got != tt.want {
			t.Errorf("%+v: truth(%v) = %v, want %v", tt.end, tt.err, got, tt.want)
		}
	}
	if e := (ending{sent: true, err: errLeftBehind}); !e.picked().Unsent {
		t.Error("what was not written may not be repeated")
	}
}

package grpcinterop

import (
	"context"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
)

// The tests of this file are the negative HTTP/2 interop cases of gRPC:
// https://github.com/grpc/grpc/blob/master/doc/negative-http2-interop-test-descriptions.md

// large makes the call that the cases are made of.
func large(ctx context.Context, conn *grpc.ClientConn) error {
	return attempt(ctx, func(ctx context.Context) { interop.DoLargeUnaryCall(ctx, testpb.NewTestServiceClient(conn)) })
}

// whole answers a request as it should be.
func whole(k *link, x *exchange) []step {
	return []step{k.headers(x), {data: message}, k.trailers(x)}
}

// over connects to servers over a mesh, or to the first of them without one.
func over(t *testing.T, meshed bool, p zerohop.Policy, addrs ...string) *grpc.ClientConn {
	t.Helper()
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	if meshed {
		return dial(t, newMesh(t, zerohop.Config{Spec: zerohop.Spec{Defaults: p}}, addrs...), plain)
	}
	conn, err := grpc.NewClient("passthrough:///"+addrs[0], plain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// settings are a mesh with a healthy node besides, a mesh without one, and no mesh.
var settings = []struct {
	name            string
	meshed, healthy bool
}{{"without a mesh", false, false}, {"alone", true, false}, {"beside another node", true, true}}

// TestGoaway is the case goaway: each connection takes one call, says so, and nobody notices. The published client
// sleeps between the calls until it has heard, and so it must be without a mesh; with one it need not.
func TestGoaway(t *testing.T) {
	const calls = 20
	for name, answer := range map[string]func(k *link, x *exchange) []step{
		"before the answer": func(k *link, x *exchange) []step {
			return []step{k.goaway(x), k.headers(x), {data: message}, k.trailers(x)}
		},
		"after the answer": func(k *link, x *exchange) []step {
			return []step{k.headers(x), {data: message}, k.trailers(x), k.goaway(x)}
		},
	} {
		once := func(k *link, x *exchange) []step {
			if k.complete > 1 { // it was told that this one is not looked at
				return nil
			}
			return answer(k, x)
		}
		for _, c := range settings {
			t.Run(name+" "+c.name, func(t *testing.T) {
				f := serveFrames(t, nil, once)
				addrs := []string{f.addr}
				if c.healthy {
					addrs = append(addrs, serve(t).addr)
				}
				conn := over(t, c.meshed, zerohop.Policy{}, addrs...)
				for i := range calls {
					if err := large(t.Context(), conn); err != nil {
						t.Fatalf("call %d: %v", i, err)
					}
					if made := f.made(); !c.meshed {
						<-made[len(made)-1].closed // by the client, who has heard
					}
				}
				if got := len(f.made()); !c.healthy && got < calls {
					t.Errorf("%d calls on %d connections, want one for each", calls, got)
				}
			})
		}
	}
}

// TestResetStreams are the cases rst_after_header, rst_during_data and rst_after_data: the call fails, as it does
// without a mesh, and is not made again, although the policy allows that: INTERNAL is an answer. gRPC does not publish
// which code it is, as its languages differ.
func TestResetStreams(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(k *link, x *exchange) []step
	}{
		{"rst_after_header", func(k *link, x *exchange) []step { return []step{k.headers(x), k.reset(x)} }},
		{"rst_during_data", func(k *link, x *exchange) []step {
			return []step{k.headers(x), {data: message[:len(message)/2]}, k.reset(x)}
		}},
		{"rst_after_data", func(k *link, x *exchange) []step { return []step{k.headers(x), {data: message}, k.reset(x)} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var without codes.Code
			for _, meshed := range []bool{false, true} {
				f := serveFrames(t, nil, c.answer)
				conn := over(t, meshed, zerohop.Policy{Idempotent: zerohop.On}, f.addr)
				reply, err := testpb.NewTestServiceClient(conn).UnaryCall(t.Context(), &testpb.SimpleRequest{
					ResponseSize: 314159, Payload: interop.ClientNewPayload(testpb.PayloadType_COMPRESSABLE, 271828),
				})
				if err == nil || reply != nil {
					t.Fatalf("UnaryCall() = %d bytes, %v, want an error", len(reply.GetPayload().GetBody()), err)
				}
				if !meshed {
					without = status.Code(err)
				} else if got := status.Code(err); got != without {
					t.Errorf("UnaryCall() = %v (%v), want %v", got, err, without)
				}
				conn.Close()
				if got := f.complete(); got != 1 {
					t.Errorf("the server got %d calls, want 1", got)
				}
			}
		})
		t.Run(c.name+" beside another node", func(t *testing.T) {
			f, n := serveFrames(t, nil, c.answer), serve(t)
			conn := over(t, true, zerohop.Policy{}, f.addr, n.addr)
			failed := 0
			for range 100 {
				if large(t.Context(), conn) != nil {
					failed++
				}
			}
			conn.Close()
			// The node is avoided, and asked now and then whether it is better.
			if got := f.complete(); failed != got || failed < 1 || failed > 10 {
				t.Errorf("%d of 100 calls failed and the server got %d, want the same few", failed, got)
			}
		})
	}
}

// TestPings is the case ping: the client acknowledges all pings, whatever they come between.
func TestPings(t *testing.T) {
	for _, c := range settings {
		f := serveFrames(t, nil, func(k *link, x *exchange) []step {
			return []step{k.ping(), k.headers(x), k.ping(), {data: message}, k.ping(), k.trailers(x)}
		})
		addrs := []string{f.addr}
		if c.healthy {
			addrs = append(addrs, serve(t).addr)
		}
		conn := over(t, c.meshed, zerohop.Policy{}, addrs...)
		for range 20 {
			if err := large(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
		}
		conn.Close()
		for _, k := range f.made() {
			if <-k.closed; k.complete == 0 || k.pings != 0 {
				t.Errorf("%d pings after %d calls are not acknowledged", k.pings, k.complete)
			}
		}
	}
}

// TestMaxStreams is the case max_streams: a client that makes many calls at a time keeps to the limit of a server.
func TestMaxStreams(t *testing.T) {
	for _, c := range settings {
		f := serveFrames(t, func(k *link) {
			_ = k.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
		}, func(k *link, x *exchange) []step {
			k.limited = true // settings come before answers
			return whole(k, x)
		})
		addrs := []string{f.addr}
		if c.healthy {
			addrs = append(addrs, serve(t).addr)
		}
		conn := over(t, c.meshed, zerohop.Policy{}, addrs...)
		if err := large(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		for range 15 {
			calls.Go(func() {
				for range 4 {
					if err := large(t.Context(), conn); err != nil {
						t.Error(err)
					}
				}
			})
		}
		calls.Wait()
		conn.Close()
		for _, k := range f.made() {
			if <-k.closed; k.most != 1 {
				t.Errorf("%d streams at a time, want 1", k.most)
			}
		}
	}
}

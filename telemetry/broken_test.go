package telemetry

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"go.opentelemetry.io/otel/attribute"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/loadbalance"
)

// once are the spans and figures of one call with one attempt, as they must be however it ends.
func (r *recorder) once(t *testing.T, duration string, call, attempt map[attribute.Key]string) {
	t.Helper()
	m := r.instruments(t)
	for _, name := range []string{"zerohop.call.duration", "zerohop.attempts", duration} {
		if got, want := total(t, m[name]), int64(1); got != want {
			t.Errorf("%s = %d, want %d", name, got, want)
		}
	}
	spans := r.ended(t)
	if len(spans) != 2 {
		t.Fatalf("%d spans ended, want those of the call and of its attempt", len(spans))
	}
	spanHas(t, spans[0], call)
	spanHas(t, spans[1], attempt)
	for _, p := range points(t, m["zerohop.call.duration"]) {
		labelsHave(t, "zerohop.call.duration", p.labels, call)
	}
	for _, p := range points(t, m[duration]) {
		want := map[attribute.Key]string{}
		for _, k := range []attribute.Key{httpStatus, rpcStatus, errorType} {
			if v, ok := attempt[k]; ok {
				want[k] = v
			}
		}
		labelsHave(t, duration, p.labels, want)
	}
}

// labelsHave checks attributes of a series by their text. "-" means that there must be none.
func labelsHave(t *testing.T, name string, labels attribute.Set, want map[attribute.Key]string) {
	t.Helper()
	for k, v := range want {
		got, ok := labels.Value(k)
		text := got.String()
		if !ok {
			text = "-"
		}
		if text != v {
			t.Errorf("%s: %s = %s, want %s", name, k, text, v)
		}
	}
}

// An answer over HTTP goes on after its status, and how it ends is how the attempt ends.
func TestBodiesThatBreakOffAreCountedOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		read          func(cancel context.CancelFunc, body io.ReadCloser)
		call, attempt map[attribute.Key]string
	}{
		"whole": {
			func(_ context.CancelFunc, body io.ReadCloser) { _, _ = io.Copy(io.Discard, body) },
			map[attribute.Key]string{outcome: "success", errorType: "-", responseFlag: "-"},
			map[attribute.Key]string{outcome: "success", errorType: "-", httpStatus: "200"},
		},
		"broken off": {
			func(_ context.CancelFunc, body io.ReadCloser) { _, _ = io.Copy(io.Discard, body) },
			map[attribute.Key]string{outcome: "failure", errorType: "connection_lost", responseFlag: "UC"},
			map[attribute.Key]string{outcome: "failure", errorType: "connection_lost", httpStatus: "200"},
		},
		"closed early": {
			func(_ context.CancelFunc, body io.ReadCloser) { _, _ = body.Read(make([]byte, 1)) },
			map[attribute.Key]string{outcome: "success", errorType: "-", responseFlag: "-"},
			map[attribute.Key]string{outcome: "success", errorType: "-", httpStatus: "200"},
		},
		"cancelled": {
			func(cancel context.CancelFunc, body io.ReadCloser) {
				_, _ = body.Read(make([]byte, 1))
				cancel()
				_, _ = io.Copy(io.Discard, body)
			},
			map[attribute.Key]string{outcome: "neutral", errorType: "canceled", responseFlag: "DC"},
			map[attribute.Key]string{outcome: "neutral", errorType: "canceled", httpStatus: "200"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				_, _ = io.WriteString(w, "some of it")
				_ = http.NewResponseController(w).Flush()
				switch name {
				case "broken off":
					panic(http.ErrAbortHandler)
				case "whole":
				default:
					<-req.Context().Done()
				}
			}))
			defer s.Close()
			r := newRecorder(t)
			c := newClient(t, zerohop.Config{Resolver: discovery.Static{"orders": {{Addr: s.Listener.Addr().String()}}}, Spec: noBackups, Hooks: r.hooks(t)})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://orders/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if got := total(t, r.instruments(t)["zerohop.call.duration"]); got != 0 {
				t.Errorf("%d calls are over before their answer is", got)
			}
			tt.read(cancel, resp.Body)
			resp.Body.Close()
			resp.Body.Close()
			r.once(t, "http.client.request.duration", tt.call, tt.attempt)
		})
	}
}

// chats is the echo service whose streams end as the test wants, after the first message.
type chats struct {
	echopb.UnimplementedEchoServer
	end func(ctx context.Context) error
}

func (c *chats) Chat(stream echopb.Echo_ChatServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if err := stream.Send(&echopb.SayReply{}); err != nil {
		return err
	}
	return c.end(stream.Context())
}

// What a stream over gRPC ends with is known at its end only, after it was taken for answered.
func TestStreamsThatBreakOffAreCountedOnce(t *testing.T) {
	wait := func(ctx context.Context) error { <-ctx.Done(); return nil }
	for name, tt := range map[string]struct {
		end           func(ctx context.Context) error
		after         func(cancel context.CancelFunc, s *grpc.Server, c *grpc.ClientConn)
		call, attempt map[attribute.Key]string
	}{
		"whole": {
			end:     func(context.Context) error { return nil },
			call:    map[attribute.Key]string{outcome: "success", errorType: "-", responseFlag: "-"},
			attempt: map[attribute.Key]string{outcome: "success", errorType: "-", rpcStatus: "OK"},
		},
		"status": {
			end:     func(context.Context) error { return status.Error(grpccodes.Unavailable, "gone") },
			call:    map[attribute.Key]string{outcome: "failure", errorType: "UNAVAILABLE", responseFlag: "US"},
			attempt: map[attribute.Key]string{outcome: "failure", errorType: "UNAVAILABLE", rpcStatus: "UNAVAILABLE"},
		},
		"answer of the application": {
			end:     func(context.Context) error { return status.Error(grpccodes.NotFound, "no such order") },
			call:    map[attribute.Key]string{outcome: "success", errorType: "NOT_FOUND"},
			attempt: map[attribute.Key]string{outcome: "success", errorType: "NOT_FOUND", rpcStatus: "NOT_FOUND"},
		},
		"server gone": {
			end:     wait,
			after:   func(_ context.CancelFunc, s *grpc.Server, _ *grpc.ClientConn) { s.Stop() },
			call:    map[attribute.Key]string{outcome: "failure", errorType: "UNAVAILABLE"},
			attempt: map[attribute.Key]string{outcome: "failure", errorType: "UNAVAILABLE", rpcStatus: "UNAVAILABLE"},
		},
		"cancelled": {
			end:     wait,
			after:   func(cancel context.CancelFunc, _ *grpc.Server, _ *grpc.ClientConn) { cancel() },
			call:    map[attribute.Key]string{outcome: "neutral", errorType: "CANCELLED", responseFlag: "DC"},
			attempt: map[attribute.Key]string{outcome: "neutral", errorType: "CANCELLED", rpcStatus: "CANCELLED"},
		},
		"connection closed": {
			end:     wait,
			after:   func(_ context.CancelFunc, _ *grpc.Server, c *grpc.ClientConn) { c.Close() },
			call:    map[attribute.Key]string{outcome: "neutral", errorType: "CANCELLED"},
			attempt: map[attribute.Key]string{outcome: "neutral", errorType: "CANCELLED", rpcStatus: "CANCELLED"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := grpc.NewServer()
			echopb.RegisterEchoServer(s, &chats{end: tt.end})
			var serving sync.WaitGroup
			serving.Go(func() { _ = s.Serve(l) })
			defer func() { s.Stop(); serving.Wait() }()
			r := newRecorder(t)
			over := make(chan struct{}) // gRPC may end a stream that was cancelled in a goroutine of its own
			mesh := newMesh(t, zerohop.Config{
				Resolver: discovery.Static{"echo": {{Addr: l.Addr().String()}}}, Spec: noBackups,
				Hooks: zerohop.JoinHooks(r.hooks(t), zerohop.Hooks{CallDone: func(context.Context, zerohop.CallInfo, zerohop.CallResult) { close(over) }}),
			})
			conn, err := grpc.NewClient(grpcmesh.Target("echo"), append(grpcmesh.DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := echopb.NewEchoClient(conn).Chat(ctx, grpc.WaitForReady(true))
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(&echopb.SayRequest{}); err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
			if got := total(t, r.instruments(t)["zerohop.call.duration"]); got != 0 {
				t.Errorf("%d calls are over before their stream is", got)
			}
			if tt.after != nil {
				tt.after(cancel, s, conn)
			}
			if _, err := stream.Recv(); err == nil {
				t.Fatal("the stream goes on")
			}
			_, _ = stream.Recv()
			<-over
			r.once(t, "rpc.client.call.duration", tt.call, tt.attempt)
		})
	}
}

// panicking is a base transport that does.
type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("no") }

// A panic of what is below passes through, and leaves no span behind that never ends.
func TestPanicsLeaveNoSpanBehind(t *testing.T) {
	r := newRecorder(t)
	mesh := newMesh(t, zerohop.Config{Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:80"}}}, Spec: noBackups, Hooks: r.hooks(t)})
	tr := httpmesh.NewTransport(mesh, panicking{})
	calls := map[string]func(){
		"http": func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://orders/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tr.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
			}
		},
		"do": func() {
			_, _ = zerohop.Do(t.Context(), mesh, "orders", func(context.Context, *loadbalance.Node) (int, error) { panic("no") })
		},
	}
	for name, call := range calls {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the panic was swallowed", name)
				}
			}()
			call()
		}()
	}
	if got, want := len(r.ended(t)), 2*len(calls); got != want {
		t.Errorf("%d spans ended, want %d", got, want)
	}
	m := r.instruments(t)
	for _, name := range []string{"zerohop.call.duration", "zerohop.attempts"} {
		if got, want := total(t, m[name]), int64(len(calls)); got != want {
			t.Errorf("%s = %d, want %d", name, got, want)
		}
	}
}

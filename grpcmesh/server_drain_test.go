package grpcmesh

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop/internal/echopb"
)

// drained is an instance that a test drains, and a plain client of it.
type drained struct {
	*server
	half   *Server
	client echopb.EchoClient
}

func drainable(t *testing.T, half *Server) *drained {
	n := newNetwork()
	s := n.serve(t, "10.0.0.1:80", half.ServerOptions()...)
	return &drained{s, half, echopb.NewEchoClient(n.dialTo(t, "passthrough:///10.0.0.1:80"))}
}

func (d *drained) say(ctx context.Context) error {
	_, err := d.client.Say(ctx, &echopb.SayRequest{Text: "hello"})
	return err
}

func (s *Server) readiness() int {
	w := httptest.NewRecorder()
	s.Ready(w, nil)
	return w.Code
}

func TestDrainGoesStepByStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drainable(t, &Server{Health: health.NewServer(), Lag: 3 * time.Second})
		healthy := func() healthpb.HealthCheckResponse_ServingStatus {
			r, err := d.half.Health.Check(t.Context(), &healthpb.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			return r.Status
		}
		if got := healthy(); got != healthpb.HealthCheckResponse_SERVING || d.half.readiness() != 200 {
			t.Errorf("before: health %v, readiness %d", got, d.half.readiness())
		}
		d.do(func(context.Context, string) error {
			time.Sleep(2 * time.Second)
			return nil
		})
		if err := d.say(t.Context()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var registries []string
		leave := func(name string, err error) func(context.Context) error {
			return func(context.Context) error {
				registries = append(registries, name)
				if got := healthy(); got != healthpb.HealthCheckResponse_NOT_SERVING || d.half.readiness() != 503 {
					t.Errorf("in %s: health %v, readiness %d", name, got, d.half.readiness())
				}
				time.Sleep(time.Second)
				return err
			}
		}
		down := errors.New("registry is down")
		over := make(chan error, 1)
		go func() { over <- d.half.Drain(t.Context(), d.grpc, leave("one", down), leave("two", nil)) }()

		time.Sleep(5*time.Second - time.Millisecond) // two registries and the lag, but for a moment
		if err := d.say(t.Context()); err != nil {
			t.Errorf("a call in the lag = %v", err)
		}
		if err := <-over; !errors.Is(err, down) {
			t.Errorf("Drain() = %v, want %v", err, down)
		}
		if got, want := time.Since(start), 7*time.Second-time.Millisecond; got != want {
			t.Errorf("Drain() took %v, want %v", got, want)
		}
		if want := []string{"one", "two"}; !slices.Equal(registries, want) {
			t.Errorf("left %q, want %q", registries, want)
		}
		if err := d.say(t.Context()); status.Code(err) != codes.Unavailable {
			t.Errorf("a call after the end = %v, want UNAVAILABLE", err)
		}
		if err := d.half.Drain(t.Context(), d.grpc); err != nil {
			t.Errorf("second Drain() = %v", err)
		}
	})
}

// Whatever a registry does, half of the time is left for the calls in flight.
func TestDrainKeepsHalfOfItsTimeForCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drainable(t, &Server{Lag: time.Hour})
		d.do(func(context.Context, string) error {
			time.Sleep(8 * time.Second)
			return nil
		})
		last := make(chan error, 1)
		go func() { last <- d.say(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		err := d.half.Drain(ctx, d.grpc, func(ctx context.Context) error {
			<-ctx.Done()
			if got, want := time.Since(start), 5*time.Second; got != want {
				t.Errorf("the registry was given %v, want %v", got, want)
			}
			return ctx.Err()
		})
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != 8*time.Second {
			t.Errorf("Drain() = %v after %v, want that of the registry after 8s", err, took)
		}
		if err := <-last; err != nil {
			t.Errorf("the call in flight = %v", err)
		}
	})
}

// Calls that do not end are cut off, and handlers that ignore even that are not waited for.
func TestDrainIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, half, service := newNetwork(), &Server{Lag: -1}, &server{}
		g := grpc.NewServer(half.ServerOptions()...)
		echopb.RegisterEchoServer(g, service)
		served := make(chan error, 1)
		go func() { served <- g.Serve(n.listen("10.0.0.1:80")) }()
		service.do(func(ctx context.Context, text string) error {
			<-ctx.Done()
			time.Sleep(time.Minute)
			return ctx.Err()
		})
		client := echopb.NewEchoClient(n.dialTo(t, "passthrough:///10.0.0.1:80"))
		last := make(chan error, 1)
		go func() {
			_, err := client.Say(t.Context(), &echopb.SayRequest{})
			last <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		if err, took := half.Drain(ctx, g), time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != 10*time.Second {
			t.Errorf("Drain() = %v after %v, want the deadline after 10s", err, took)
		}
		if err := <-last; status.Code(err) != codes.Unavailable {
			t.Errorf("the call in flight = %v, want UNAVAILABLE", err)
		}
		time.Sleep(time.Minute) // the handler ends, and with it what waits for that
		if err := <-served; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
}

// Streams that go on are let go on, and end when their handlers hear of the drain.
func TestStreamsEndWithDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drainable(t, &Server{})
		d.stream(func(stream echopb.Echo_ChatServer) error {
			if err := stream.Send(&echopb.SayReply{Text: "begin"}); err != nil {
				return err
			}
			<-d.half.Draining()
			return stream.Send(&echopb.SayReply{Text: "end"})
		})
		stream, err := d.client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err, took := d.half.Drain(t.Context(), d.grpc), time.Since(start); err != nil || took != time.Second {
			t.Errorf("Drain() = %v after %v, want nil after the default lag of 1s", err, took)
		}
		if r, err := stream.Recv(); err != nil || r.Text != "end" {
			t.Errorf("Recv() = %v, %v, want the last message", r, err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("Recv() = %v, want EOF", err)
		}
	})
}

// Options for no server in particular work, too.
func TestServerOptionsOfTheZeroServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.serve(t, "10.0.0.1:80", ServerOptions()...)
		errs, trailers := ask(t.Context(), echopb.NewEchoClient(n.dialTo(t, "passthrough:///10.0.0.1:80", grpc.WithDisableServiceConfig())))
		if errs != [2]error{} || len(trailers[0])+len(trailers[1]) > 0 {
			t.Errorf("errors %v, trailers %v, want none", errs, trailers)
		}
	})
}

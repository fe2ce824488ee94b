package grpcmesh

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc"
)

// Drain makes callers leave, and stops server without failing a call, in these steps:
//
//  1. Health says NOT_SERVING, and Ready answers 503.
//  2. The server is taken out of its registries by the given functions, one after the other: usually Close of a
//     discovery.Registration. Their errors do not stop the drain.
//  3. For Lag calls are served as before, so that all clients learn of it.
//  4. GracefulStop: gRPC sends GOAWAY, takes no new calls, and waits for those in flight.
//
// Half of the time that ctx allows is kept for the last step, whatever the others would need. If calls are still in
// flight when ctx ends, they are cut off by Stop, and handlers that ignore the end of their context are waited for only
// with grpc.WaitForHandlers.
// Streams that would last longer should end when Draining says so.
//
// Drain returns the error of ctx if calls were cut off, joined with those of the functions. There is no way back. A
// server that is not served by Serve but by an http.Server, through ServeHTTP, is drained by httpmesh.Handler.
func (s *Server) Drain(ctx context.Context, server *grpc.Server, deregister ...func(context.Context) error) error {
	s.Draining()
	s.left.Do(func() { close(s.draining) })
	if s.Health != nil {
		s.Health.Shutdown()
	}
	err := s.depart(ctx, deregister)
	done := make(chan struct{})
	go func() { // ends with the last handler
		defer close(done)
		server.GracefulStop()
	}()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		server.Stop()
		return errors.Join(err, ctx.Err())
	}
}

// depart takes the server out of its registries and waits until clients know, for at most half of the time there is.
func (s *Server) depart(ctx context.Context, deregister []func(context.Context) error) error {
	if d, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(d)/2)
		defer cancel()
	}
	var errs []error
	for _, f := range deregister {
		errs = append(errs, f(ctx))
	}
	lag := s.Lag
	if lag == 0 {
		lag = time.Second
	}
	if lag > 0 {
		wait := time.NewTimer(lag)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	return errors.Join(errs...)
}

// Draining returns a channel that is closed when Drain is called. Handlers that would run for long, such as those of
// streams that clients keep open, end when it is.
func (s *Server) Draining() <-chan struct{} {
	s.made.Do(func() { s.draining = make(chan struct{}) })
	return s.draining
}

// Ready is an http.HandlerFunc for the probes of load balancers that do not speak grpc.health.v1: it answers 200, and 503
// since Drain was called.
func (s *Server) Ready(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	select {
	case <-s.Draining():
		http.Error(w, "draining", http.StatusServiceUnavailable)
	default:
		io.WriteString(w, "ready\n")
	}
}

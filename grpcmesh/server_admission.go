package grpcmesh

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// exempt reports whether a method needs no place.
func exempt(method string) bool { return strings.HasPrefix(method, "/grpc.health.v1.Health/") }

// admitted works on a unary call if the Admission lets it.
func (s *Server) admitted(ctx context.Context, in *zerohop.Inbound, req any, method string, next grpc.UnaryHandler) (reply any, err error) {
	v := &zerohop.Visit{Arrival: arrival(ctx, in, method)}
	if err := s.Admission.Admit(ctx, v); err != nil {
		return nil, refused(err)
	}
	o := resilience.Failure // if it panics
	defer func() { v.Leave(o) }()
	reply, err = next(zerohop.WithInbound(ctx, in), req)
	o = outcome(err)
	return reply, err
}

// admittedStream works on a stream if the Admission lets it.
func (s *Server) admittedStream(ctx context.Context, in *zerohop.Inbound, srv any, stream grpc.ServerStream, method string, next grpc.StreamHandler) error {
	v := &zerohop.Visit{Arrival: arrival(ctx, in, method)}
	v.Stream = true
	if err := s.Admission.Admit(ctx, v); err != nil {
		return refused(err)
	}
	defer v.Leave(resilience.Success)
	return next(srv, &admittedStream{serverStream{stream, zerohop.WithInbound(ctx, in)}, v})
}

// admittedStream is a stream that keeps its place until it is answered.
type admittedStream struct {
	serverStream
	visit *zerohop.Visit
}

func (s *admittedStream) SendHeader(md metadata.MD) error {
	s.visit.Leave(resilience.Success)
	return s.serverStream.SendHeader(md)
}

func (s *admittedStream) SendMsg(m any) error {
	s.visit.Leave(resilience.Success)
	return s.serverStream.SendMsg(m)
}

// arrival is what is known of a call.
func arrival(ctx context.Context, in *zerohop.Inbound, method string) zerohop.Arrival {
	r := zerohop.Arrival{Operation: method, Criticality: in.Criticality, Attempt: in.Attempt}
	if d, ok := ctx.Deadline(); ok {
		r.Left = max(time.Until(d), 1)
	}
	r.AttemptLeft = time.Duration(number(metadata.ValueFromIncomingContext(ctx, attemptTimeoutKey), maxMilliseconds)) * time.Millisecond
	return r
}

// outcome is what the end of a call says about how the server does.
func outcome(err error) resilience.Outcome {
	if err == nil {
		return resilience.Success
	}
	return resilience.GRPCStatus(uint32(status.Code(err)), 0).Outcome
}

// refusal is the error of a call that is refused.
type refusal struct {
	why *zerohop.AdmissionError
}

var errNoPlace = status.New(codes.ResourceExhausted, "too many calls are being worked on")

func (r *refusal) Error() string { return r.GRPCStatus().Err().Error() }

// GRPCStatus is for package status.
func (r *refusal) GRPCStatus() *status.Status {
	if r.why.NoTime {
		return status.Convert(errNoTime)
	}
	return errNoPlace
}

// trailer tells the caller what to do.
func (r *refusal) trailer() metadata.MD {
	switch {
	case r.why.NoTime:
		return metadata.MD{noRetryKey: {tooLate}, pushbackKey: {"-1"}}
	case r.why.Final:
		return metadata.MD{refusedKey: {"limit"}, pushbackKey: {"-1"}}
	}
	return metadata.MD{refusedKey: {"limit"}}
}

// refused makes an error of an Admission one of gRPC.
func refused(err error) error {
	e := (*zerohop.AdmissionError)(nil)
	switch {
	case errors.As(err, &e):
		return &refusal{e}
	case errors.Is(err, context.DeadlineExceeded): // while the call waited
		return &refusal{&zerohop.AdmissionError{NoTime: true}}
	}
	return status.FromContextError(err).Err()
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*refusal](err)
	return ok
}

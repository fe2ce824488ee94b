package grpcmesh

import (
	"context"
	"errors"
	"io"
	"math"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// StreamInterceptor returns an interceptor that makes streams of any connection calls of the mesh to the given service,
// under its policy, counted and reported like others; "" means the service of the connection's Target, and that streams
// on other connections pass untouched. DialOptions contains one. On a connection without our balancer gRPC has and chooses
// the endpoints, and attempts are judged by their status alone, as by UnaryInterceptor.
//
// A stream that was provably not processed is opened again elsewhere. Nothing else is repeated, and the stream is
// gRPC's own, unless the call may be executed more than once: by its policy, zerohop.CallOptions or the
// idempotency_level of its method. Then the stream may be repeated until the caller got its first message, headers or
// status, or asked for its context, or has sent more than 64 KiB or anything but messages of protobuf. What he
// has sent is sent again, in order.
//
// Policy.AttemptTimeout bounds the opening of a stream only: nobody knows how long one may be silent.
func StreamInterceptor(mesh *zerohop.Mesh, service string) grpc.StreamClientInterceptor {
	return streamInterceptor(mesh, service, nil)
}

func streamInterceptor(mesh *zerohop.Mesh, service string, p patience) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		name, ours, ok := calledOn(cc, service)
		if !ok {
			return streamer(ctx, desc, cc, method, opts...)
		}
		x := &stream{cc: cc, method: method, header: outgoing{ctx}, single: !desc.ServerStreams}
		opts = x.finishers.take(opts)
		x.open = func(ctx context.Context, finish func(error)) (grpc.ClientStream, error) {
			own := x.options(opts)
			s, err := streamer(ctx, desc, cc, method, append(own[:len(own):len(own)], grpc.OnFinish(finish))...)
			if c := x.answer(); c != nil && err == nil {
				s = rewriting{s, c}
			}
			return s, err
		}
		r := request(name, method, &x.header, opts, p)
		r.Stream, r.OwnEndpoints = true, !ours
		a, err := x.call.Run(ctx, mesh, &r, x)
		switch {
		case err != nil:
			err = statusOf(err)
		case a.Err != nil:
			err = answerError(&x.call, a)
			a.End(a.Verdict().Outcome, nil)
		case a.Opened():
			x.replay.begin(x.last)
			return x.replay, nil
		default:
			x.last.state.arm(x.finishers.call) // gRPC tells when the stream is over, however it ends
			if a.Binds() {
				return bound{x.last}, nil
			}
			return x.last, nil
		}
		x.finishers.call(err)
		return nil, err
	}
}

// stream is one call of a streaming method.
type stream struct {
	routed
	call      zerohop.Call
	cc        *grpc.ClientConn
	method    string
	open      func(ctx context.Context, finish func(error)) (grpc.ClientStream, error)
	header    outgoing
	single    bool // there is one message at most to receive
	finishers finishers
	last      *attemptStream
	replay    *replay // nil if the stream is opened once
}

// attemptStream is the stream of one attempt.
type attemptStream struct {
	grpc.ClientStream
	ctx   context.Context
	state *attemptState
	sent  bool // a message
}

func (x *stream) Attempt(ctx context.Context, a *zerohop.Attempt) resilience.Verdict {
	st := &attemptState{attempt: a}
	finish := st.finish
	if a.Repeatable() {
		if x.replay == nil {
			x.replay = newReplay(x)
		}
		finish = func(err error) {
			st.finish(err)
			x.replay.over()
		}
	}
	ctx = context.WithValue(ctx, attemptKey{}, st)
	s, err := x.open(propagate(announce(x.edit(ctx), &x.call, a, 0), &x.call), finish)
	if err != nil {
		return st.judge(ctx, err)
	}
	if a.Node() == nil {
		st.end(ending{sent: true, received: true}) // for all we know: its status is what it is judged by
		s = watch(ctx, s, x.single, finish)
	}
	opened := &attemptStream{ClientStream: s, ctx: ctx, state: st}
	if x.replay != nil {
		if err := x.replay.log.sendTo(opened); err != nil {
			return st.judge(ctx, err)
		}
		a.Open()
	}
	x.last = opened
	a.Status = 0
	return resilience.Verdict{Outcome: resilience.Success}
}

// SendMsg sees to it that a stream on which nothing can be sent any more is over. gRPC says so, too, of one whose connection was
// closed before it was written, but opens it again as soon as somebody waits for a message, with all that was sent until then. If that
// is the first message only, it is as good as sent. After more, nobody would send the rest by then, for which the server would wait
// as long as the client for its answer.
func (s *attemptStream) SendMsg(m any) error {
	first, before := !s.sent, s.state.tries.Load()
	s.sent = true
	err := s.ClientStream.SendMsg(m)
	if !errors.Is(err, io.EOF) {
		return err
	}
	if first {
		return nil // the next one tells, or RecvMsg
	}
	s.ClientStream.Context() // whoever has seen that does not get another stream
	if s.state.tries.Load() != before {
		return nil // it was opened again before that, and m was sent with the rest
	}
	return err
}

// RecvMsg has zerohop.Explain find out about a stream that breaks off.
func (s *attemptStream) RecvMsg(m any) error {
	err := s.state.truth(s.ClientStream.RecvMsg(m))
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return s.explained(err)
}

// explained returns the error of a stream with its explanation, if the call has ended and is explained.
func (s *attemptStream) explained(err error) error {
	e := s.state.attempt.Explanation()
	if e == nil {
		return err
	}
	return &explainedError{err, e}
}

// explainedError is an error of gRPC, with all that can be asked of that, and with how it came about.
type explainedError struct {
	error
	explanation *zerohop.Explanation
}

// GRPCStatus returns the status of the stream.
func (e *explainedError) GRPCStatus() *status.Status { return status.Convert(e.error) }

// Explanation returns the record of the call.
func (e *explainedError) Explanation() *zerohop.Explanation { return e.explanation }

// Unwrap returns the error of gRPC.
func (e *explainedError) Unwrap() error { return e.error }

func (x *stream) Release(*zerohop.Attempt) {}

// Describe returns what hooks are told of the call.
func (x *stream) Describe() (protocol, host, method string) { return describe(x.cc, x.method) }

// Wait returns a context that ends with the connection, too.
func (x *stream) Wait(ctx context.Context) (context.Context, context.CancelFunc) {
	return untilClosed(ctx, x.cc)
}

// judge records how an attempt that was opened ended before it was answered, and returns what that means.
func (s *attemptStream) judge(err error) resilience.Verdict {
	a, e, ran := s.state.attempt, s.state.last(), s.state.attempt.Ran()
	var v resilience.Verdict
	if a.Node() == nil {
		a.Err, a.Status = err, int(status.Code(err))
		e.err, e.pushback, e.shed = err, pushback(s.Trailer()), shed(s.Trailer())
		v = e.verdict()
	} else {
		v = s.state.judge(s.ctx, err)
	}
	if status.Code(err) == codes.DeadlineExceeded && ran >= silence && (!e.received || s.silent()) {
		return v
	}
	// How long a stream was without an answer says nothing about the node.
	a.Idle(math.MaxInt64)
	if status.Code(err) == codes.DeadlineExceeded && !v.Unsent {
		v.Outcome = e.stream(ran)
	}
	return v
}

// silent reports whether a stream that has ended got no headers. A status alone is no sign of life at the deadline: the
// gRPC of a server whose handler hangs sends one by itself, which may come before the client looks at its own clock.
func (s *attemptStream) silent() bool {
	md, _ := s.Header()
	return md == nil
}

// watched is a stream without a node of ours: gRPC has chosen an endpoint by itself, or an interceptor answers for
// gRPC, which then does not tell of its end.
type watched struct {
	grpc.ClientStream
	single bool
	finish func(error)
	stop   func() bool // waiting for the end of the context
}

// watch returns the stream s, whose end, as far as it can be seen from here, is told to finish.
func watch(ctx context.Context, s grpc.ClientStream, single bool, finish func(error)) *watched {
	return &watched{s, single, finish, context.AfterFunc(ctx, func() { finish(status.FromContextError(ctx.Err()).Err()) })}
}

func (w *watched) RecvMsg(m any) error {
	err := w.ClientStream.RecvMsg(m)
	switch {
	case errors.Is(err, io.EOF):
		w.end(nil)
	case err != nil || w.single:
		w.end(err)
	}
	return err
}

func (w *watched) SendMsg(m any) error {
	err := w.ClientStream.SendMsg(m)
	if err != nil && !errors.Is(err, io.EOF) {
		w.end(err)
	}
	return err
}

func (w *watched) end(err error) {
	w.stop()
	w.finish(err)
}

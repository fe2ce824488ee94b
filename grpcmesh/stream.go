package grpcmesh

import (
	"context"

	"google.golang.org/grpc"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// streamInterceptor picks and counts streams. A stream that could not be sent is tried elsewhere; one that was is
// the caller's.
func streamInterceptor(mesh *zerohop.Mesh) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		service, ok := serviceOf(cc)
		if !ok {
			return streamer(ctx, desc, cc, method, opts...)
		}
		x := &stream{header: outgoing{ctx}}
		x.open = func(ctx context.Context, finish func(error)) (grpc.ClientStream, error) {
			return streamer(ctx, desc, cc, method, append(opts[:len(opts):len(opts)], grpc.OnFinish(finish))...)
		}
		r := request(service, method, &x.header, opts)
		r.Stream = true
		a, err := x.call.Run(ctx, mesh, &r, x)
		if err != nil {
			return nil, statusOf(err)
		}
		if a.Err != nil {
			err := answerError(&x.call, a)
			a.End(a.Verdict().Outcome, nil)
			return nil, err
		}
		if a.Node() == nil { // an interceptor answers for gRPC
			a.End(resilience.Success, nil)
			return x.streams[a.Number], nil
		}
		// gRPC tells when the stream is over, however it ends.
		x.states[a.Number].arm()
		return x.streams[a.Number], nil
	}
}

// stream is one call of a streaming method.
type stream struct {
	call    zerohop.Call
	open    func(ctx context.Context, finish func(error)) (grpc.ClientStream, error)
	header  outgoing
	states  [resilience.MaxAttempts]*attemptState
	streams [resilience.MaxAttempts]grpc.ClientStream
}

func (x *stream) Attempt(ctx context.Context, a *zerohop.Attempt) resilience.Verdict {
	st := &attemptState{attempt: a}
	x.states[a.Number] = st
	ctx = context.WithValue(ctx, attemptKey{}, st)
	s, err := x.open(propagate(ctx, &x.call), st.finish)
	if err != nil {
		return st.judge(ctx, err)
	}
	x.streams[a.Number] = s
	a.Status = 0
	return resilience.Verdict{Outcome: resilience.Success}
}

func (x *stream) Release(*zerohop.Attempt) {}

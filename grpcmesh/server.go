package grpcmesh

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/orca"
	"github.com/zerohop/zerohop/resilience"
)

// Server is the server half: it stands before the handlers of a *grpc.Server, and stops that without failing a call. The
// zero value is good. A Server belongs to one *grpc.Server and must not be copied. Its fields must not change once that
// serves; its methods are safe for concurrent use.
type Server struct {
	// MinTime is the least time a call needs. One whose caller has less left is refused like one that has none.
	// 0 means none.
	MinTime time.Duration
	// MaxCriticality is the highest level that a call can ask for by its metadata (zerohop-criticality), which may come from
	// anybody. Unspecified means Critical: where strangers cannot reach the server, set it to CriticalPlus to let callers
	// have that.
	MaxCriticality resilience.Criticality
	// IgnoreLane has calls be in no lane, whatever their baggage says, which may come from anybody: handlers get it without the
	// lane, and calls that they make are in none, unless they say otherwise by zerohop.WithLane. It is for the edge,
	// where strangers would choose which version of a service works for them, if only among the lanes that there are.
	IgnoreLane bool
	// Admission decides which calls are worked on; it may be shared by all servers of the process. nil means all.
	//
	// What it refuses because the server has too much to do gets RESOURCE_EXHAUSTED; on a mesh it is tried elsewhere, out of
	// the budget, also if it is not safe to repeat. Not UNAVAILABLE: retry policies of gRPC, which know no budget of the
	// whole service, are mostly for that, and Envoy ejects endpoints for it, which would leave their load to the others.
	// grpc-retry-pushback-ms asks for no repetition if that would be in vain (AdmissionError.Final). What is refused
	// because the caller has too little time left gets DEADLINE_EXCEEDED, like calls without any.
	//
	// A unary call keeps its place until its handler returns, and a stream until it is answered with a header or a first
	// message, for a limit of what is worked on says nothing of what only stays open, and a few hundred of those would
	// shut everybody else out. Handlers of streams that may have nothing to say for long should call SendHeader first.
	// grpc.health.v1 and the method of Register need no place: an overloaded server that fails its health checks leaves its
	// load to the others.
	Admission *zerohop.Admission
	// Load returns how busy the server is, for balancers that weigh endpoints by that. It is called at the end of every
	// call, from many goroutines, so it should return figures taken before. nil means that answers do not tell, but for
	// what Unmeasured says.
	Load func() LoadReport
	// Unmeasured switches off that the Server measures its load by itself and tells it to clients that ask. Servers that
	// strangers can reach may want to keep that to themselves.
	Unmeasured bool
	// Health is told by Drain that no service is served any more. It is the caller's to register with the *grpc.Server.
	// nil means that there is none.
	Health *health.Server
	// Lag is how long Drain goes on serving after it has told everybody. Less than the time that clients need to learn
	// of it makes some meet a closed port. 0 means 1 s, a negative time none.
	Lag time.Duration

	started, ended atomic.Int64               // calls
	asked, failed  atomic.Int64               // of them, for the load, and as their callers see it
	meter          atomic.Pointer[orca.Meter] // nil until somebody asks for the load

	made, left sync.Once
	draining   chan struct{} // made by Draining, closed by Drain
}

// ServerOptions returns those of the zero Server, for servers that neither report their load nor are drained.
func ServerOptions() []grpc.ServerOption { return new(Server).ServerOptions() }

// ServerOptions returns the options that put s before the handlers of a grpc.NewServer. These hold then, for unary calls
// and for streams:
//
//   - A call whose deadline has passed, or is nearer than MinTime, is refused with DEADLINE_EXCEEDED before its handler
//     sees it. The caller is asked not to repeat it, because there would be even less time for another attempt, and on a
//     mesh it does not blame the server. gRPC tells how much time is left and not when it is over, so the clocks of
//     hosts are not compared; what a call waits for counts once gRPC has read it.
//   - Calls that the handler makes over a mesh with the context of the call are restrained if the call is a repetition
//     (see zerohop.Inbound), and if one of them has failed for good, a failure that the handler returns asks the
//     caller not to repeat the call, by grpc-retry-pushback-ms. So an outage at the bottom of a chain of services is not
//     multiplied by every one of them. Failures are the codes UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL,
//     UNAVAILABLE and DATA_LOSS.
//   - Those calls are as critical as the call says by its metadata, up to MaxCriticality.
//   - Those calls are in the lane of the call, which its baggage names; see zerohop.Lane and IgnoreLane.
//   - Answers carry the load of the server in their trailers, if there is Load. To clients that ask, with the metadata
//     zerohop-load, they also tell what the Server itself has measured, which is what loadbalance.Prequal and
//     UtilizationRoundRobin need: how many calls are in flight and how long unary ones take that begin with about as many
//     (loadbalance.InFlightMetric and LatencyMetric), rates of calls and of failures, and the part of its processors that
//     the process uses. Nothing is measured before the first client asks. Register lets clients ask between calls, too.
//
// The options are interceptors of the chain and nothing else: limits, keepalive, stats handlers and credentials are set
// beside them, in any order. Interceptors run in the order of the options, those of grpc.UnaryInterceptor and
// grpc.StreamInterceptor first. One that makes calls wait for their turn should run before these, so that what waited
// for too long is refused, and so should one that is to see refusals, such as for metrics. One that answers in place of
// the handler should run after them.
//
// The metadata may come from anybody: all it can do is give up retries of the call that carries it, and choose among the lanes
// that there are.
func (s *Server) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(s.unary), grpc.ChainStreamInterceptor(s.stream)}
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (reply any, err error) {
	others, answered := s.begin(), false
	defer s.end(&answered)
	if info != nil && info.FullMethod == loadMethod { // which is not worked on
		s.asked.Add(1)
		answered = true
		return next(ctx, req)
	}
	t := s.time(ctx, others)
	ctx, carried := s.lane(ctx)
	in, err := s.admit(ctx, carried)
	if err == nil && s.Admission != nil && info != nil && !exempt(info.FullMethod) {
		reply, err = s.admitted(ctx, in, req, info.FullMethod, next)
	} else if err == nil {
		reply, err = next(zerohop.WithInbound(ctx, in), req)
	}
	answered = !failed(err)
	if trailer := s.trailer(in, err, &t); trailer != nil {
		_ = grpc.SetTrailer(ctx, trailer) // an error means that nobody waits for the answer any more
	}
	return reply, err
}

func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	others, answered := s.begin(), false
	defer s.end(&answered)
	t := s.time(stream.Context(), others)
	t.began = time.Time{} // streams last as long as there is something to say
	ctx, carried := s.lane(stream.Context())
	in, err := s.admit(ctx, carried)
	if err == nil && s.Admission != nil && !exempt(info.FullMethod) {
		err = s.admittedStream(ctx, in, srv, stream, info.FullMethod, next)
	} else if err == nil {
		err = next(srv, &serverStream{stream, zerohop.WithInbound(ctx, in)})
	}
	answered = !failed(err)
	if trailer := s.trailer(in, err, &t); trailer != nil {
		stream.SetTrailer(trailer)
	}
	return err
}

// begin counts a call, and returns how many others are in flight.
func (s *Server) begin() int {
	ended := s.ended.Load() // first, so that the difference is never too small
	return int(s.started.Add(1)-ended) - 1
}

// end is the end of a call; it failed if it was not answered, be it because its handler has panicked.
func (s *Server) end(answered *bool) {
	if !*answered {
		s.failed.Add(1)
	}
	s.ended.Add(1)
}

func (s *Server) inFlight() int {
	ended := s.ended.Load()
	return int(s.started.Load() - ended)
}

// Requests returns how many calls have come so far, and how many of them failed for their callers: those that ended with a code that
// ServerOptions counts as a failure, be it by a refusal, and those whose handlers panicked. Calls that ask for the load are none. It
// costs a few nanoseconds, and is what a console.Console needs to show what comes in.
func (s *Server) Requests() (all, failed int64) {
	failed, asked := s.failed.Load(), s.asked.Load() // first, so that there are never more than all
	return s.started.Load() - asked, failed
}

// serverStream is a stream with the context of its handler.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *serverStream) Context() context.Context { return s.ctx }

var errNoTime = status.Error(codes.DeadlineExceeded, "no time left to serve the call")

// admit returns what is known of a call, or the error that refuses it.
func (s *Server) admit(ctx context.Context, lane string) (*zerohop.Inbound, error) {
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); left <= 0 || left < s.MinTime {
			return nil, errNoTime
		}
	}
	if err := ctx.Err(); err != nil { // the caller has gone
		return nil, status.FromContextError(err).Err()
	}
	return &zerohop.Inbound{
		Attempt: sentBefore(ctx), Criticality: criticalityOf(ctx, s.MaxCriticality), Lane: lane, IgnoreLane: s.IgnoreLane,
	}, nil
}

// criticalityOf returns the level that a call asks for, as far as the server lets it: Unspecified if it has none, or none
// that makes sense.
func criticalityOf(ctx context.Context, most resilience.Criticality) resilience.Criticality {
	v := metadata.ValueFromIncomingContext(ctx, criticalityKey)
	if len(v) != 1 {
		return resilience.Unspecified
	}
	c, _ := resilience.ParseCriticality(v[0])
	return min(c, most.Or(resilience.Critical))
}

// sentBefore returns how often a call was sent before, as far as its metadata says.
func sentBefore(ctx context.Context) int {
	return max(whole(metadata.ValueFromIncomingContext(ctx, attemptsKey)), whole(metadata.ValueFromIncomingContext(ctx, httpAttemptsKey)))
}

// whole returns the only value of a key as a whole number that is at most maxAttempts, 0 if it is anything but digits.
func whole(values []string) (n int) { return number(values, maxAttempts) }

// number returns the only value of a key as a whole number that is at most most, 0 if it is anything but digits.
func number(values []string, most int) (n int) {
	if len(values) != 1 {
		return 0
	}
	for _, c := range []byte(values[0]) {
		if c < '0' || c > '9' {
			return 0
		}
		n = min(10*n+int(c-'0'), most)
	}
	return n
}

// trailer returns what to tell the caller of a call that ended with err, nil if nothing. in is nil if the call was
// refused.
func (s *Server) trailer(in *zerohop.Inbound, err error, t *timing) metadata.MD {
	var md metadata.MD
	switch {
	case err == nil:
	case in != nil && isRefusal(err):
		r, _ := errors.AsType[*refusal](err)
		md = r.trailer()
	case in == nil:
		md = metadata.MD{noRetryKey: {tooLate}, pushbackKey: {"-1"}}
	case in.Spent() && failed(err):
		md = metadata.MD{pushbackKey: {"-1"}}
	}
	if s.Load != nil || t.meter != nil {
		if v := s.report(t, failed(err)); v != "" {
			if md == nil {
				md = make(metadata.MD, 1)
			}
			md[loadKey] = []string{v}
		}
	}
	return md
}

// failed reports whether an error says that the call failed, and not that the service answers with an error.
func failed(err error) bool {
	switch status.Code(err) {
	case codes.Unknown, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	}
	return false
}

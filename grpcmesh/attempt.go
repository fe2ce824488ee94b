package grpcmesh

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// attemptState connects an attempt of the mesh with gRPC's pickers, through the context of the RPC.
type attemptState struct {
	attempt *zerohop.Attempt

	mu     sync.Mutex   // guards what follows but tries
	pool   *pool        // that the node of the last try is from
	trying bool         // gRPC's last try is not over
	over   bool         // gRPC is done with the RPC
	tries  atomic.Int32 // that gRPC has begun; here it takes no room
	ending ending       // of the last try
	after  func(error)  // called after the end of the attempt, which is that of the RPC; nil if it is not, or has come
}

// attemptOf returns the state of the attempt that an RPC on a connection to the Target of a service is part of, nil if it
// is not made by an interceptor of this package. Within an attempt, others make RPCs with its context that are no part of
// it: to fetch a token over another connection, for example.
func attemptOf(ctx context.Context, service string) *attemptState {
	var st *attemptState
	var cc *grpc.ClientConn
	if a := zerohop.AttemptOf(ctx); a != nil {
		if x, ok := a.Exchange().(*unary); ok {
			st, cc = x.state(a), x.cc
		}
	}
	if st == nil {
		if st, _ = ctx.Value(attemptKey{}).(*attemptState); st == nil {
			return nil
		}
		cc = st.attempt.Exchange().(*stream).cc
	}
	if name, ok := serviceOf(cc); !ok || name != service {
		return nil
	}
	return st
}

type attemptKey struct{}

// ending is what gRPC says of an RPC that is over.
type ending struct {
	err            error
	pushback       time.Duration
	sent, received bool
	shed           bool // the server had too much to do and has not begun
}

// begin notes that gRPC tries the RPC on the node that was picked from a pool.
func (st *attemptState) begin(c *pool) {
	st.tries.Add(1)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.pool, st.trying = c, true
}

// end notes that gRPC is done with one try of the RPC. Another may follow: gRPC itself repeats what was never
// processed, even in the middle of a stream.
func (st *attemptState) end(e ending) {
	st.settle(func() { st.ending, st.trying = e, false })
}

// finish notes that gRPC is done with the RPC. Only the first call counts.
func (st *attemptState) finish(err error) {
	st.settle(func() {
		if !st.over {
			st.over, st.ending.err = true, err
		}
	})
}

// arm makes the attempt end with the RPC, at once if that is over, and calls after then.
func (st *attemptState) arm(after func(error)) {
	st.settle(func() { st.after = after })
}

// settle applies a change and ends the attempt if it is time. gRPC does not promise an order of finish and end.
func (st *attemptState) settle(change func()) {
	st.mu.Lock()
	change()
	after := st.after
	if after == nil || !st.over || st.trying {
		st.mu.Unlock()
		return
	}
	st.after = nil
	e := st.ended()
	st.mu.Unlock()
	ran := st.attempt.Ran()
	st.attempt.Conclude(int(status.Code(e.err)))
	st.attempt.End(e.stream(ran), e.err)
	after(e.err)
}

// last returns how the last try of the RPC ended. gRPC does not end the try of a unary call that got two messages, nor
// does an interceptor that gave up without waiting.
func (st *attemptState) last() ending {
	st.mu.Lock()
	defer st.mu.Unlock()
	e := st.ended()
	e.sent = e.sent || st.trying
	return e
}

var errLeftBehind = status.Error(codes.Unavailable, leftBehind)

// ended returns how the last try ended. A stream whose connection was closed before gRPC wrote it has no status, which
// gRPC takes for success if it is asked for the headers. st.mu is held.
func (st *attemptState) ended() ending {
	e := st.ending
	if st.over && !st.trying && e.err == nil && e.sent && !e.received {
		e.err, e.sent = errLeftBehind, false
	}
	return e
}

// truth returns the error that an RPC ended with. gRPC says io.EOF of one that it repeated by itself if that connection, too, was
// closed before the messages were written, as if it had ended well. No server has got those.
func (st *attemptState) truth(err error) error {
	if err != io.EOF {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if e := st.ending; !st.trying && e.err == nil && e.sent && !e.received {
		return errLeftBehind
	}
	return err
}

// from returns the pool that the node of the last try is from, nil if the connection is not balanced by this package.
func (st *attemptState) from() *pool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.pool
}

// finished reports whether gRPC is done with the RPC.
func (st *attemptState) finished() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.over
}

// verdict judges an RPC that is over.
func (e ending) verdict() resilience.Verdict {
	code := status.Code(e.err)
	if code == codes.DeadlineExceeded && e.pushback == noTime {
		return resilience.Verdict{Outcome: resilience.Neutral, Retry: true, Unsent: true, After: -1}
	}
	if code == codes.ResourceExhausted && e.shed {
		return resilience.Verdict{Outcome: resilience.Overload, Retry: true, Unsent: true, After: e.pushback}
	}
	if e.refused() {
		return resilience.Verdict{Outcome: resilience.Neutral, Unsent: !e.sent}
	}
	if code == codes.ResourceExhausted && tooLarge(status.Convert(e.err).Message()) {
		return resilience.Verdict{Outcome: resilience.Success} // the node has done its part
	}
	v := resilience.GRPCStatus(uint32(code), e.pushback)
	v.Unsent = e.err != nil && (!e.sent || !e.received && unprocessed(e.err))
	return v
}

// picked judges an RPC that is over and whose node was picked by our balancer.
func (e ending) picked() resilience.Verdict {
	v := e.verdict()
	if !e.sent && status.Code(e.err) == codes.Unavailable {
		// gRPC itself repeats what it could not send because the connection was lost. The rest are credentials that
		// cannot be had and authorities that are not the server's: no fault of the node.
		v.Outcome = resilience.Neutral
	}
	return v
}

// leftBehind is what gRPC says of RPCs that it had not written when their connection was closed, and of no others.
const leftBehind = "transport is closing"

// unprocessed reports whether no server looked at an RPC, since it was not written, or refused, or the server was going
// away before it. gRPC repeats those itself, but only once, and not if they are larger than what it keeps for that
// (256 KiB). Only its texts tell; that they are not a server's is for the caller to know.
func unprocessed(err error) bool {
	switch status.Convert(err).Message() {
	case leftBehind,
		"stream terminated by RST_STREAM with error code: REFUSED_STREAM",
		"the connection is draining",
		"the stream is rejected because server is draining the connection":
		return true
	}
	return false
}

// flag returns what became of an RPC that is over and did not succeed, empty if its status tells.
func (e ending) flag(o resilience.Outcome) zerohop.Flag {
	text := status.Convert(e.err).Message()
	switch code := status.Code(e.err); {
	case o == resilience.Success, o == resilience.Overload, e.err == nil:
		return ""
	case reset(e.err):
		return zerohop.FlagReset
	case e.received && (code == codes.DeadlineExceeded || code == codes.Canceled): // the server says so
		return zerohop.FlagStatus
	case e.received && !strings.Contains(text, "error reading from server"), code != codes.Unavailable && code != codes.Internal:
		return ""
	case strings.Contains(text, "connection reset by peer"), strings.Contains(text, "broken pipe"):
		return zerohop.FlagReset
	case code == codes.Internal:
		return zerohop.FlagProtocol
	case strings.Contains(text, "connection error") && strings.Contains(text, "dial"):
		return zerohop.FlagConnect
	default:
		return zerohop.FlagTerminated
	}
}

// refused reports whether the end of the RPC is not an answer: the client itself could not encode the message, or gave up.
func (e ending) refused() bool {
	code := status.Code(e.err)
	return e.err != nil && !e.received && code != codes.Unavailable && code != codes.DeadlineExceeded && !reset(e.err)
}

// reset reports whether the server reset the stream of an RPC. gRPC counts that as nothing received, and only its text
// tells.
func reset(err error) bool {
	return strings.HasPrefix(status.Convert(err).Message(), "stream terminated by RST_STREAM")
}

// tooLarge reports whether the text of a status says that a message was larger than its receiver or sender allows. Only
// the text (of gRPC in Go and C, and in Java) tells this from a node that has too much to do.
func tooLarge(text string) bool {
	return strings.Contains(text, "larger than max") || strings.Contains(text, "exceeds maximum size")
}

// silence is how long a stream may be without any answer before that counts against the node.
const silence = 500 * time.Millisecond

// stream judges a stream that is over after it ran for the given time. That the caller's deadline passed says
// nothing about a node that was answering, or that had no time to.
func (e ending) stream(ran time.Duration) resilience.Outcome {
	if status.Code(e.err) == codes.DeadlineExceeded && (e.received || ran < silence) {
		return resilience.Neutral
	}
	return e.verdict().Outcome
}

// judge records the error of an RPC in its attempt and returns what it means.
func (st *attemptState) judge(ctx context.Context, err error) resilience.Verdict {
	a := st.attempt
	a.Err = err
	if d, ok := ctx.Deadline(); ok && status.Code(err) == codes.DeadlineExceeded && !time.Now().Before(d) {
		<-ctx.Done() // the server was faster than our timer, by a hair; it is the caller's deadline all the same
	}
	if a.Node() == nil && !a.OwnEndpoints() {
		switch code := status.Code(err); {
		case ctx.Err() != nil:
		case code == codes.Unavailable:
			a.Refuse(err)
			if strings.Contains(status.Convert(err).Message(), "connection error") {
				a.Mark(zerohop.FlagConnect)
			}
		default: // not about endpoints: the connection was closed, or the metadata is invalid
			a.Status = int(code)
		}
		return resilience.Verdict{Outcome: resilience.Neutral, Unsent: true}
	}
	a.Status = int(status.Code(err))
	e := st.last()
	e.err = err
	v := e.verdict()
	if !a.OwnEndpoints() {
		v = e.picked()
	}
	if c := st.from(); c != nil {
		a.Reach(c.view.Load(), c.known.Load())
	}
	if f := e.flag(v.Outcome); f != "" && ctx.Err() == nil {
		a.Mark(f)
	}
	if ctx.Err() == nil && (e.refused() || !e.sent && v.Outcome == resilience.Neutral) {
		a.Disown()
	}
	return v
}

// pushback returns what a server says in its trailer about when to come again, as resilience.Pushback does, and noTime
// if it did not begin because the caller has too little time.
func pushback(trailer metadata.MD) time.Duration {
	if why := trailer[noRetryKey]; len(why) > 0 && why[0] == tooLate {
		return noTime
	}
	return resilience.Pushback(trailer[pushbackKey])
}

// shed reports whether a server says in its trailer that it has not begun because it has too much to do.
func shed(trailer metadata.MD) bool {
	v := trailer[refusedKey]
	return len(v) > 0 && v[0] != ""
}

package grpcmesh

import (
	"context"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// attemptState connects an attempt of the mesh with gRPC's pickers, through the context of the RPC.
type attemptState struct {
	attempt *zerohop.Attempt

	mu     sync.Mutex // guards what follows
	ending ending
	ended  bool
	armed  bool // the end of the RPC is that of the attempt
}

type attemptKey struct{}

func attemptOf(ctx context.Context) *attemptState {
	st, _ := ctx.Value(attemptKey{}).(*attemptState)
	return st
}

// ending is what gRPC says of an RPC that is over.
type ending struct {
	err            error
	sent, received bool
	pushback       time.Duration
}

// end notes that gRPC is done with the RPC, or with one try of it: gRPC itself repeats what was never processed.
func (st *attemptState) end(e ending) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.ending, st.ended = e, true
	if st.armed {
		st.attempt.End(e.verdict().Outcome, e.err)
	}
}

// arm makes the attempt end with the RPC, at once if that is over.
func (st *attemptState) arm() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.armed = true
	if st.ended {
		st.attempt.End(st.ending.verdict().Outcome, st.ending.err)
	}
}

// last returns how the last try of the RPC ended.
func (st *attemptState) last() ending {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.ending
}

// verdict judges an RPC that is over.
func (e ending) verdict() resilience.Verdict {
	code := status.Code(e.err)
	if e.err != nil && !e.received && code != codes.Unavailable && code != codes.DeadlineExceeded {
		// Not an answer: the client itself could not encode the message, or gave up.
		return resilience.Verdict{Outcome: resilience.Neutral, Unsent: !e.sent}
	}
	v := resilience.GRPCStatus(uint32(code), e.pushback)
	v.Unsent = e.err != nil && !e.sent
	return v
}

// judge records the error of an RPC in its attempt and returns what it means.
func (st *attemptState) judge(ctx context.Context, err error) resilience.Verdict {
	a := st.attempt
	a.Err = err
	if a.Node() == nil {
		if ctx.Err() == nil {
			a.Refuse(err)
		}
		return resilience.Verdict{Outcome: resilience.Neutral, Unsent: true}
	}
	a.Status = int(status.Code(err))
	e := st.last()
	e.err = err
	return e.verdict()
}

// pushback returns what a server says in its trailer about when to come again (gRFC A6): 0 if it says nothing,
// negative if it wants no retry or says it in a way that is not understood.
func pushback(trailer metadata.MD) time.Duration {
	v := trailer["grpc-retry-pushback-ms"]
	if len(v) == 0 {
		return 0
	}
	ms, err := strconv.ParseInt(v[0], 10, 32)
	if err != nil || ms < 0 || len(v) > 1 {
		return -1
	}
	return time.Duration(ms) * time.Millisecond
}

package grpcmesh

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop/resilience"
)

// replay is the stream of a caller whose call may be repeated after it was sent (gRFC A6). Its attempts are left open
// when they have begun, so that the caller can go on. What he sends is sent at once, and logged after that. Whoever first
// finds that the stream of an attempt has ended without an answer, in whatever method, resumes the call there, which may
// pause, open another stream and send the log again, while all others wait; then everybody goes on with the new stream.
//
// The call is answered when there is something for the caller: headers, a message, the end or a failure that is
// not repeated. It also is when the log is full, or when the caller wants to see the context of the stream. From then on
// the stream is that of the attempt.
//
// A server that has sent headers has answered, even if nobody has looked at them: no other gets the messages then.
type replay struct {
	stream *stream
	answer atomic.Pointer[attemptStream] // that of the call

	mu        sync.Mutex     // guards what follows; not held while gRPC or the call is at work
	turn      sync.Cond      // current, settled, moving or receiving has changed
	current   *attemptStream // of the attempt that is open, or was the last that was
	settled   bool           // the call is answered or has failed
	err       error          // of a call that has failed
	moving    bool           // the call goes on, maybe to another stream
	receiving bool           // somebody is in RecvMsg
	users     int            // methods that are at work
	log       replayLog      // not changed while moving
}

func newReplay(x *stream) *replay {
	r := &replay{stream: x, users: 1} // the interceptor
	r.turn.L = &r.mu
	return r
}

// begin makes the stream of the first open attempt the caller's.
func (r *replay) begin(s *attemptStream) {
	r.mu.Lock()
	r.current = s
	r.mu.Unlock()
	r.leave()
}

func (r *replay) SendMsg(m any) error {
	for {
		if s := r.answer.Load(); s != nil {
			return s.SendMsg(m)
		}
		s, _ := r.enter()
		err := s.SendMsg(m)
		again := false
		switch {
		case err == nil:
			again = r.sent(s, m)
		case errors.Is(err, io.EOF):
			again = r.broken(s)
		default: // it is the client's own
			again = r.fail(s, err)
		}
		r.leave()
		if !again {
			return err
		}
	}
}

func (r *replay) CloseSend() error {
	for {
		if s := r.answer.Load(); s != nil {
			return s.CloseSend()
		}
		s, _ := r.enter()
		err := s.CloseSend()
		r.mu.Lock()
		again := r.moved(s)
		r.log.closed = r.log.closed || !again
		r.mu.Unlock()
		r.leave()
		if !again {
			return err
		}
	}
}

func (r *replay) RecvMsg(m any) error {
	for {
		if s := r.answer.Load(); s != nil {
			return s.RecvMsg(m)
		}
		s, err := r.enter()
		again := false
		if err == nil {
			r.receive(true)
			err = s.RecvMsg(m)
			switch {
			case err == nil, errors.Is(err, io.EOF):
				r.commit(s)
			default:
				if md, _ := s.Header(); md != nil {
					r.commit(s)
					err = s.explained(err)
				} else if again = r.fail(s, err); !again {
					err = r.failure(err)
				}
			}
			r.receive(false)
		}
		r.leave()
		if !again {
			return err
		}
	}
}

func (r *replay) Header() (metadata.MD, error) {
	for {
		if s := r.answer.Load(); s != nil {
			return s.bound(s.Header())
		}
		s, _ := r.enter()
		md, err, again := r.header(s)
		r.leave()
		if !again {
			return s.bound(md, err)
		}
	}
}

// Trailer settles the call, as gRPC does: it is for streams that have ended.
func (r *replay) Trailer() metadata.MD { return r.last().Trailer() }

// Context settles the call: the context of a stream that is repeated would change.
func (r *replay) Context() context.Context { return r.last().Context() }

// last returns the stream that no other follows.
func (r *replay) last() *attemptStream {
	s, _ := r.enter()
	r.commit(s)
	r.leave()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// enter returns the stream to use, and the error of a call that has failed.
func (r *replay) enter() (*attemptStream, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.moving {
		r.turn.Wait()
	}
	r.users++
	return r.current, r.err
}

// leave says that a method is done with its stream.
func (r *replay) leave() {
	r.mu.Lock()
	r.users--
	r.mu.Unlock()
	r.over()
}

// over is told that gRPC may be done with the stream. If nobody is using it who would notice, the context has ended or
// the connection was closed, and so the call is over.
func (r *replay) over() {
	r.mu.Lock()
	s := r.current
	abandoned := r.users == 0 && !r.moving && !r.settled && s.state.finished()
	r.mu.Unlock()
	if abandoned {
		r.resume(s, func() resilience.Verdict {
			v := s.judge(s.state.last().err)
			v.Retry = false
			return v
		})
	}
}

// receive notes whether somebody waits for a message.
func (r *replay) receive(begins bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.receiving = begins
	r.turn.Broadcast()
}

// sent logs a message that was sent on s, and reports whether it has to be sent on another stream instead.
func (r *replay) sent(s *attemptStream, m any) (again bool) {
	r.mu.Lock()
	again = r.moved(s)
	full := !again && !r.settled && !r.log.add(m)
	r.mu.Unlock()
	if full {
		r.commit(s)
	}
	return again
}

// moved reports whether another stream has taken the place of s, once that is decided. r.mu is held.
func (r *replay) moved(s *attemptStream) bool {
	for r.moving {
		r.turn.Wait()
	}
	return r.current != s
}

// broken finds out why nothing can be sent on s any more, and reports whether to go on with another stream.
func (r *replay) broken(s *attemptStream) (again bool) {
	r.mu.Lock()
	for r.receiving && r.current == s && !r.settled { // he finds out
		r.turn.Wait()
	}
	again = r.moved(s)
	settled := r.settled
	r.mu.Unlock()
	if !again && !settled {
		_, _, again = r.header(s)
	}
	return again
}

// header waits for the headers of s, and reports whether to ask another stream instead.
func (r *replay) header(s *attemptStream) (md metadata.MD, err error, again bool) {
	md, err = s.Header()
	if err != nil {
		return md, err, r.fail(s, err)
	}
	if failure := s.state.last().err; md == nil && failure != nil {
		return nil, nil, r.fail(s, failure) // it has ended without any
	}
	r.commit(s)
	return md, nil, false
}

// commit makes the stream s that of the call, unless that is settled.
func (r *replay) commit(s *attemptStream) {
	r.resume(s, func() resilience.Verdict {
		s.state.attempt.Unrepeatable()
		return resilience.Verdict{Outcome: resilience.Success}
	})
}

// fail says that s has ended with an error before it was answered, and reports whether to go on with another stream.
func (r *replay) fail(s *attemptStream, err error) (again bool) {
	return r.resume(s, func() resilience.Verdict { return s.judge(err) })
}

// resume lets the call go on if it is not settled and s is its stream. It reports whether there is another.
func (r *replay) resume(s *attemptStream, judge func() resilience.Verdict) (moved bool) {
	r.mu.Lock()
	if moved = r.moved(s); moved || r.settled {
		r.mu.Unlock()
		return moved
	}
	r.moving = true
	r.mu.Unlock()

	x := r.stream
	a, err := x.call.Resume(s.state.attempt, judge())
	switch {
	case err != nil:
		err = statusOf(err)
	case a.Err != nil:
		err = answerError(&x.call, a)
		a.End(a.Verdict().Outcome, nil)
	case a.Opened():
		moved = true
	}

	r.mu.Lock()
	r.current, r.settled, r.err, r.moving = x.last, !moved, err, false
	if r.settled {
		r.log = replayLog{}
	}
	if r.settled && err == nil {
		r.answer.Store(s)
	}
	r.turn.Broadcast()
	r.mu.Unlock()
	switch {
	case err != nil:
		x.finishers.call(err)
	case !moved:
		s.state.arm(x.finishers.call)
	}
	return moved
}

// failure returns the error of the call, or err if it has none of its own.
func (r *replay) failure(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	return err
}

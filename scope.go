package zerohop

import (
	"context"
	"sync/atomic"
	"time"
)

// scope is the context of an attempt: that of the call, until the attempt is given up or over. context.WithCancel costs
// more than a pick, and most of that only serves those who wait for the end. So a scope becomes such a context only when
// somebody asks for Done.
//
// It is safe for concurrent use once parent is set.
type scope struct {
	parent context.Context
	state  atomic.Pointer[scopeState] // nil until somebody waits or the scope ends
}

type scopeState struct {
	context.Context
	cancel context.CancelFunc
}

// ended is the state of a scope that was cancelled before anybody waited for that.
var ended = func() *scopeState {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return &scopeState{ctx, cancel}
}()

// cancel ends the scope.
func (s *scope) cancel() {
	if st := s.state.Load(); st != nil {
		st.cancel()
	} else if s.parent.Err() == nil && !s.state.CompareAndSwap(nil, ended) {
		s.state.Load().cancel()
	}
}

// Deadline returns that of the parent.
func (s *scope) Deadline() (time.Time, bool) { return s.parent.Deadline() }

// Done returns a channel that is closed when the scope or its parent ends.
func (s *scope) Done() <-chan struct{} {
	st := s.state.Load()
	if st == nil {
		ctx, cancel := context.WithCancel(s.parent)
		if !s.state.CompareAndSwap(nil, &scopeState{ctx, cancel}) {
			cancel()
		}
		st = s.state.Load()
	}
	return st.Done()
}

// Err returns why the scope ended, nil if it has not.
func (s *scope) Err() error {
	if st := s.state.Load(); st != nil {
		return st.Err()
	}
	return s.parent.Err()
}

// Value returns what the parent has under the key. Package context asks so for what it can attach a child to, after it
// has called Done: that finds the state.
func (s *scope) Value(key any) any {
	st := s.state.Load()
	if st != nil {
		if v := st.Value(key); v != nil || st != ended {
			return v
		}
	}
	return s.parent.Value(key)
}

package zerohop

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// scope is the context of an attempt: that of the call, until the attempt is given up or over. context.WithCancel costs
// more than a pick, and most of that only serves those who wait for the end. So a scope keeps nothing of its own until
// somebody asks for Done, and then less than package context would, which finds AfterFunc here. What it keeps then goes to
// the next scope if nobody waits any more when it ends, as is usual for attempts that are over when they return.
//
// It is safe for concurrent use once parent is set.
type scope struct {
	parent  context.Context
	attempt *Attempt                   // whose context it is
	open    bool                       // it ends with its parent only
	state   atomic.Pointer[scopeState] // nil until somebody waits or the scope ends
}

type scopeKey struct{}

// AttemptOf returns the attempt that a context was made for, nil if there is none. It is how a transport that is called
// back with the context of an attempt, or with one derived from it, finds its way.
func AttemptOf(ctx context.Context) *Attempt {
	a, _ := ctx.Value(scopeKey{}).(*Attempt)
	return a
}

// scopeState belongs to one scope after the other, until one ends while somebody waits for that.
type scopeState struct {
	done chan struct{}
	over atomic.Bool // nothing of this changes any more

	mu     sync.Mutex  // guards what follows, until over
	owner  *scope      // nil between two scopes
	asked  int         // calls of Done, less those that package context makes when it calls AfterFunc
	err    error       // why the scope ended
	alone  bool        // it ended before its parent
	stop   func() bool // takes it off its parent
	child  func()      // run at its end; most often there is only one
	after  []*func()   // run at its end: the others
	births int         // how often child was set, since package context stops some children twice
}

// askedByContext is how often package context calls Done before it calls AfterFunc. If it does not, states are not used
// again, and that is all.
const askedByContext = 2

// ended is the state of a scope that was cancelled while nobody waited for that.
var ended = func() *scopeState {
	st := &scopeState{done: make(chan struct{}), err: context.Canceled, alone: true}
	st.over.Store(true)
	close(st.done)
	return st
}()

// canceled is how package context finds why a scope ended that did so before its parent.
var canceled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// cancel ends the scope.
func (s *scope) cancel() {
	if s.open {
		return
	}
	st := s.state.Load()
	if st == nil {
		if s.parent.Err() != nil || s.state.CompareAndSwap(nil, ended) {
			return
		}
		st = s.state.Load()
	}
	if st != nil {
		s.end(st)
	}
}

// end ends the scope, by itself unless its parent has ended. st is what it keeps, or was.
func (s *scope) end(st *scopeState) {
	st.mu.Lock()
	if st.owner != s || st.over.Load() {
		st.mu.Unlock()
		return
	}
	err := s.parent.Err()
	stop, child, after := st.stop, st.child, st.after
	st.stop = nil
	idle := st.asked == 0 && child == nil && len(after) == 0
	if idle {
		st.owner = nil
		if err == nil {
			s.state.Store(ended)
		} else {
			s.state.Store(nil) // whoever asks now learns it from the parent
		}
	} else {
		if st.err = err; err == nil {
			st.err, st.alone = context.Canceled, true
		}
		st.child, st.after = nil, nil
		st.over.Store(true)
	}
	st.mu.Unlock()
	if stop != nil {
		stop()
	}
	if idle {
		s.recycle(st)
		return
	}
	close(st.done)
	if child != nil {
		child()
	}
	for _, f := range after {
		(*f)()
	}
}

// follow lets the scope end with its parent.
func (s *scope) follow(st *scopeState) {
	switch {
	case s.parent.Done() == nil:
	case s.parent.Err() != nil:
		s.end(st)
	default:
		stop := context.AfterFunc(s.parent, func() { s.end(st) })
		st.mu.Lock()
		late := st.owner != s || st.over.Load()
		if !late {
			st.stop = stop
		}
		st.mu.Unlock()
		if late {
			stop()
		}
	}
}

// wait returns the state for somebody who asks for it, locked. He is counted.
func (s *scope) wait() *scopeState {
	for {
		st := s.state.Load()
		if st == nil {
			st = s.fresh()
			if s.state.CompareAndSwap(nil, st) {
				s.follow(st)
				st.mu.Lock() // it is still ours: he is counted
				return st
			}
			st.mu.Lock()
			st.owner = nil
			st.mu.Unlock()
			s.recycle(st)
			continue
		}
		st.mu.Lock()
		if st == ended {
			return st
		}
		if st.owner == s {
			st.asked++
			return st
		}
		st.mu.Unlock()
	}
}

// fresh returns a state for the scope and one who asks.
func (s *scope) fresh() *scopeState {
	st, _ := s.attempt.call.mesh.scopes.Get().(*scopeState)
	if st == nil {
		st = &scopeState{done: make(chan struct{})}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.owner, st.asked = s, 1
	return st
}

func (s *scope) recycle(st *scopeState) { s.attempt.call.mesh.scopes.Put(st) }

// settled returns the state of a scope that has ended by itself or was seen to end with its parent, else nil.
func (s *scope) settled() *scopeState {
	for {
		st := s.state.Load()
		if st == nil || !st.over.Load() {
			return nil
		}
		if s.state.Load() == st { // else it has gone to another scope meanwhile
			return st
		}
	}
}

// prompt returns a context that ends with the scope, and is over by the time that whoever ends its parent goes on. The
// scope itself learns of that a moment later, which only matters to somebody who then asks what he has just given up
// for its next message. Only a child that package context knows as its own can be told so early.
func (s *scope) prompt() context.Context {
	ctx, cancel := context.WithCancel(context.WithValue(s.parent, scopeKey{}, s.attempt))
	parent := s.parent
	s.AfterFunc(func() {
		if parent.Err() == nil { // else it tells the context itself, and why
			cancel()
		}
	})
	return ctx
}

// Deadline returns that of the parent.
func (s *scope) Deadline() (time.Time, bool) { return s.parent.Deadline() }

// Done returns a channel that is closed when the scope or its parent ends.
func (s *scope) Done() <-chan struct{} {
	if s.open { // package context looks through it to the parent then
		return s.parent.Done()
	}
	st := s.wait()
	defer st.mu.Unlock()
	return st.done
}

// Err returns why the scope ended, nil if it has not.
func (s *scope) Err() error {
	if st := s.settled(); st != nil {
		return st.err
	}
	return s.parent.Err()
}

// Value returns what the parent has under the key. Package context asks so for why a context ended, too.
func (s *scope) Value(key any) any {
	if key == any(scopeKey{}) {
		return s.attempt
	}
	if st := s.settled(); st != nil && st.alone {
		if v := canceled.Value(key); v != nil {
			return v
		}
	}
	return s.parent.Value(key)
}

// AfterFunc is how package context attaches a child: f is run when the scope ends, unless stop is called before. It must
// not block.
func (s *scope) AfterFunc(f func()) (stop func() bool) {
	if s.open {
		return context.AfterFunc(s.parent, f)
	}
	st := s.wait()
	defer st.mu.Unlock()
	if st.over.Load() {
		go f() // the caller may hold locks that it needs
		return func() bool { return false }
	}
	st.asked -= 1 + askedByContext
	if st.child == nil {
		st.child = f
		st.births++
		birth := st.births
		return func() bool {
			st.mu.Lock()
			defer st.mu.Unlock()
			had := st.child != nil && st.births == birth
			if had {
				st.child = nil
			}
			return had
		}
	}
	place := &f
	st.after = append(st.after, place)
	return func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		i := slices.Index(st.after, place)
		if i < 0 {
			return false
		}
		st.after = slices.Delete(st.after, i, i+1)
		return true
	}
}

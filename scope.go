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
// somebody asks for Done, and then half of what package context would, which finds AfterFunc here.
//
// It is safe for concurrent use, and as small as the pointer that it is.
type scope struct{ attempt *Attempt }

// scope returns the context of the attempt.
func (a *Attempt) scope() scope { return scope{a} }

type scopeKey struct{}

// AttemptOf returns the attempt that a context was made for, nil if there is none. It is how a transport that is called
// back with the context of an attempt, or with one derived from it, finds its way.
func AttemptOf(ctx context.Context) *Attempt {
	a, _ := ctx.Value(scopeKey{}).(*Attempt)
	return a
}

type scopeState struct {
	scope scope
	done  chan struct{}

	mu     sync.Mutex  // guards what follows, until over
	stop   func() bool // takes it off its parent
	child  func()      // run at its end; most often there is only one
	after  *[]*func()  // run at its end: the others; nil if there are none
	births uint16      // how often child was set, since package context stops some children twice
	alone  bool        // it ended before its parent
	over   atomic.Bool // nothing of this changes any more
}

// ended is the state of a scope that was cancelled before anybody waited for that.
var ended = func() *scopeState {
	st := &scopeState{done: make(chan struct{}), alone: true}
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

// open reports whether the scope ends with its parent only.
func (s scope) open() bool { return s.attempt.call.whole }

// cancel ends the scope.
func (s scope) cancel() {
	if s.open() {
		return
	}
	if st := s.attempt.waited.Load(); st != nil {
		st.end()
	} else if s.parent().Err() == nil && !s.attempt.waited.CompareAndSwap(nil, ended) {
		s.attempt.waited.Load().end()
	}
}

// end ends the scope, by itself unless its parent has ended.
func (st *scopeState) end() {
	st.mu.Lock()
	if st.over.Load() {
		st.mu.Unlock()
		return
	}
	st.alone = st.scope.parent().Err() == nil
	stop, child, after := st.stop, st.child, st.after
	st.stop, st.child, st.after = nil, nil, nil
	st.over.Store(true)
	st.mu.Unlock()
	close(st.done)
	if stop != nil {
		stop()
	}
	if child != nil {
		child()
	}
	if after != nil {
		for _, f := range *after {
			(*f)()
		}
	}
}

// follow lets the scope end with its parent.
func (st *scopeState) follow() {
	parent := st.scope.parent()
	switch {
	case parent.Done() == nil:
	case parent.Err() != nil:
		st.end()
	default:
		stop := context.AfterFunc(parent, st.end)
		st.mu.Lock()
		over := st.over.Load()
		if !over {
			st.stop = stop
		}
		st.mu.Unlock()
		if over {
			stop()
		}
	}
}

// wait returns the state for somebody who waits.
func (s scope) wait() *scopeState {
	if st := s.attempt.waited.Load(); st != nil {
		return st
	}
	st := &scopeState{scope: s, done: make(chan struct{})}
	if s.attempt.waited.CompareAndSwap(nil, st) {
		st.follow()
	}
	return s.attempt.waited.Load()
}

// parent returns the context that the scope is derived from.
func (s scope) parent() context.Context {
	if ctx := s.attempt.rarity().ctx; ctx != nil {
		return ctx
	}
	return s.attempt.call.ctx
}

// prompt returns a context that ends with the scope, and is over by the time that whoever ends its parent goes on. The
// scope itself learns of that a moment later, which only matters to somebody who then asks what he has just given up
// for its next message. Only a child that package context knows as its own can be told so early.
func (s scope) prompt() context.Context {
	ctx, cancel := context.WithCancel(context.WithValue(s.parent(), scopeKey{}, s.attempt))
	parent := s.parent()
	s.AfterFunc(func() {
		if parent.Err() == nil { // else it tells the context itself, and why
			cancel()
		}
	})
	return ctx
}

// Deadline returns that of the parent.
func (s scope) Deadline() (time.Time, bool) { return s.parent().Deadline() }

// Done returns a channel that is closed when the scope or its parent ends.
func (s scope) Done() <-chan struct{} {
	if s.open() { // package context looks through it to the parent then
		return s.parent().Done()
	}
	return s.wait().done
}

// Err returns why the scope ended, nil if it has not.
func (s scope) Err() error {
	if st := s.attempt.waited.Load(); st != nil && st.over.Load() && st.alone {
		return context.Canceled
	}
	return s.parent().Err()
}

// Value returns what the parent has under the key. Package context asks so for why a context ended, too.
func (s scope) Value(key any) any {
	if key == any(scopeKey{}) {
		return s.attempt
	}
	if st := s.attempt.waited.Load(); st != nil && st.over.Load() && st.alone {
		if v := canceled.Value(key); v != nil {
			return v
		}
	}
	return s.parent().Value(key)
}

// AfterFunc is how package context attaches a child: f is run when the scope ends, unless stop is called before. It must
// not block.
func (s scope) AfterFunc(f func()) (stop func() bool) {
	if s.open() {
		return context.AfterFunc(s.parent(), f)
	}
	st := s.wait()
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.over.Load() {
		go f() // the caller may hold locks that it needs
		return func() bool { return false }
	}
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
	place := new(func()) // f itself would always be on the heap
	*place = f
	if st.after == nil {
		st.after = new([]*func())
	}
	*st.after = append(*st.after, place)
	return func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.after == nil {
			return false
		}
		i := slices.Index(*st.after, place)
		if i < 0 {
			return false
		}
		*st.after = slices.Delete(*st.after, i, i+1)
		return true
	}
}

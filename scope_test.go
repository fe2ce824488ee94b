package zerohop

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type testKey struct{}

func newScope(parent context.Context) scope {
	return (&Attempt{call: &Call{ctx: parent}}).scope()
}

func TestScopeEnds(t *testing.T) {
	cause := errors.New("cause")
	for _, c := range []struct {
		name    string
		end     func(s scope, parent context.CancelCauseFunc)
		want    error
		causing error
	}{
		{"itself", func(s scope, _ context.CancelCauseFunc) { s.cancel() }, context.Canceled, context.Canceled},
		{"with its parent", func(_ scope, parent context.CancelCauseFunc) { parent(cause) }, context.Canceled, cause},
		{"after its parent", func(s scope, parent context.CancelCauseFunc) { parent(cause); s.cancel() }, context.Canceled, cause},
		{"before its parent", func(s scope, parent context.CancelCauseFunc) { s.cancel(); parent(cause) }, context.Canceled, context.Canceled},
		{"with a deadline", func(scope, context.CancelCauseFunc) { time.Sleep(time.Hour + 1) }, context.DeadlineExceeded, context.DeadlineExceeded},
		{"after a deadline", func(s scope, _ context.CancelCauseFunc) { time.Sleep(time.Hour + 1); s.cancel() }, context.DeadlineExceeded, context.DeadlineExceeded},
	} {
		for _, waiting := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					outer, cancel := context.WithTimeout(context.WithValue(t.Context(), testKey{}, 1), time.Hour)
					defer cancel()
					parent, end := context.WithCancelCause(outer)
					s := newScope(parent)
					var child context.Context = s
					if waiting {
						var stop context.CancelFunc
						child, stop = context.WithCancel(s)
						defer stop()
					}
					if d, ok := s.Deadline(); !ok || time.Until(d) != time.Hour {
						t.Errorf("Deadline() = %v, %v, want that of the parent", d, ok)
					}
					if err := child.Err(); err != nil {
						t.Errorf("Err() = %v before the end", err)
					}
					c.end(s, end)
					synctest.Wait()
					want := [2]error{c.want, c.causing} // those very errors: users compare them
					for range 2 {                       // what is asked first must not matter
						if got := [2]error{s.Err(), context.Cause(child)}; got != want {
							t.Errorf("Err(), Cause() = %v, want %v", got, want)
						}
						select {
						case <-child.Done():
						default:
							t.Error("Done() is open after the end")
						}
					}
					late, stop := context.WithCancel(s)
					defer stop()
					if got := [2]error{late.Err(), context.Cause(late)}; got != want {
						t.Errorf("a child made after the end: Err(), Cause() = %v, want %v", got, want)
					}
					if s.Value(testKey{}) != 1 || s.Value(t) != nil {
						t.Errorf("Value() = %v, want that of the parent", s.Value(testKey{}))
					}
				})
			})
		}
	}
}

func TestPromptContextEndsBeforeItsParentGoesOn(t *testing.T) {
	cause := errors.New("cause")
	for range 10_000 {
		parent, end := context.WithCancelCause(context.WithValue(t.Context(), testKey{}, 1))
		ctx := newScope(parent).prompt()
		if ctx.Err() != nil || ctx.Value(testKey{}) != 1 {
			t.Fatalf("Err(), Value() = %v, %v before the end, want those of the parent", ctx.Err(), ctx.Value(testKey{}))
		}
		end(cause)
		select {
		case <-ctx.Done():
		default:
			t.Fatal("Done() is open when the parent was cancelled")
		}
		if got := context.Cause(ctx); !errors.Is(got, cause) {
			t.Fatalf("Cause() = %v, want that of the parent", got)
		}
	}
	s := newScope(t.Context())
	ctx := s.prompt()
	s.cancel()
	if ctx.Err() != context.Canceled {
		t.Errorf("Err() = %v after the scope ended, want canceled", ctx.Err())
	}
}

func TestScopeEndsUnderAContextThatNeverEnds(t *testing.T) {
	for children := range 4 {
		s := newScope(context.WithValue(context.Background(), testKey{}, 1))
		stopped, stop := context.WithCancel(s)
		stop()
		var list []context.Context
		for range children {
			child, stop := context.WithCancel(s)
			defer stop()
			list = append(list, child)
		}
		gone, stop := context.WithCancel(s)
		stop()
		if err := s.Err(); err != nil {
			t.Errorf("Err() = %v before the end", err)
		}
		s.cancel()
		late, stop := context.WithCancel(s)
		defer stop()
		for i, ctx := range append(list, s, late, stopped, gone) {
			select {
			case <-ctx.Done():
			default:
				t.Errorf("Done() of context %d of %d is open after the end", i, len(list))
			}
			if got, want := [2]error{ctx.Err(), context.Cause(ctx)}, [2]error{context.Canceled, context.Canceled}; got != want {
				t.Errorf("Err(), Cause() = %v, want %v", got, want)
			}
			if ctx.Value(testKey{}) != 1 {
				t.Errorf("Value() = %v, want that of the parent", ctx.Value(testKey{}))
			}
		}
	}
}

func TestScopeHoldsNoGoroutine(t *testing.T) {
	for _, parent := range []context.Context{t.Context(), context.Background()} {
		s := newScope(parent)
		before := watchers()
		for range 10 {
			child, cancel := context.WithTimeout(s, time.Hour)
			defer cancel()
			defer context.AfterFunc(child, func() {})()
		}
		if got := watchers(); got > before {
			t.Errorf("children of a scope run %d goroutines", got-before)
		}
		s.cancel()
	}
	before := watchers()
	_, cancel := context.WithCancel(foreign{t.Context(), make(chan struct{})})
	defer cancel()
	if watchers() <= before {
		t.Error("a goroutine that waits for a context is not seen")
	}
}

// foreign is a context that the context package cannot look into.
type foreign struct {
	context.Context
	done chan struct{}
}

func (f foreign) Done() <-chan struct{} { return f.done }

// watchers counts the goroutines that the context package runs to learn of the end of a context, and no others: functions
// that tests before have left to the end of a context may only begin now.
func watchers() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Count(string(stacks), "created by context.(*cancelCtx).propagateCancel")
}

func TestScopeIsSafeForConcurrentUse(t *testing.T) {
	for i := range 1000 {
		parent := t.Context()
		if i%2 == 0 {
			parent = context.Background()
		}
		s := newScope(context.WithValue(parent, testKey{}, 1))
		var users sync.WaitGroup
		for range 3 {
			users.Go(func() {
				if s.Value(testKey{}) != 1 {
					t.Error("Value() lost that of the parent")
				}
				child, stop := context.WithCancel(s)
				defer stop()
				<-child.Done()
				<-s.Done()
				if err := context.Context(s).Err(); err != context.Canceled {
					t.Errorf("Err() = %v after Done", err)
				}
			})
		}
		users.Go(s.cancel)
		users.Go(s.cancel)
		users.Wait()
	}
}

func TestScopeAllocatesNothingUnlessWaitedFor(t *testing.T) {
	s := newScope(t.Context())
	if got := testing.AllocsPerRun(100, func() {
		s.attempt.waited.Store(nil)
		if s.Err() != nil {
			t.Error("ended early")
		}
		s.cancel()
		if s.Err() == nil {
			t.Error("not ended")
		}
	}); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

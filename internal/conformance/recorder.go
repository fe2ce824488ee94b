package conformance

import (
	"fmt"
	"sync"
	"testing"
)

// recorder is a testing.TB that notes failures instead of passing them on.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failures []string
}

func (r *recorder) fail(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, text)
}

func (r *recorder) Error(args ...any)            { r.fail(fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, args ...any) { r.fail(fmt.Sprintf(f, args...)) }
func (r *recorder) Fatal(args ...any)            { r.fatal(fmt.Sprint(args...)) }
func (r *recorder) Fatalf(f string, args ...any) { r.fatal(fmt.Sprintf(f, args...)) }

// stopped is what a fatal failure panics with, so that a check can be stopped in the goroutine of the test.
type stopped struct{}

func (r *recorder) fatal(text string) {
	r.fail(text)
	panic(stopped{})
}

// Failures returns what a check says that is run with the testing.TB that it gets: so a suite shows that it finds faults.
func Failures(t testing.TB, check func(t testing.TB)) (list []string) {
	t.Helper()
	rec := &recorder{TB: t}
	defer func() {
		if v := recover(); v != nil && v != (stopped{}) {
			panic(v)
		}
		list = rec.failures
	}()
	check(rec)
	return nil
}

package zerohop

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
)

func TestWatchdogFiresForWhatIsDueOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: idempotent})
		var answers [3]time.Duration
		var calls sync.WaitGroup
		start := time.Now()
		for i, run := range []time.Duration{500 * time.Millisecond, 5 * time.Second, 6 * time.Second} {
			calls.Go(func() {
				time.Sleep(time.Duration(i) * 200 * time.Millisecond)
				if _, err := Do(t.Context(), m, "orders", turns(after(run, nil), after(0, nil))); err != nil {
					t.Error(err)
				}
				answers[i] = time.Since(start)
			})
		}
		calls.Wait()
		if want := [3]time.Duration{500 * time.Millisecond, 1200 * time.Millisecond, 1400 * time.Millisecond}; answers != want {
			t.Errorf("calls ended after %v, want %v", answers, want)
		}
	})
}

func TestWatchdogMovesItsTimerForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: idempotent})
		var calls sync.WaitGroup
		calls.Go(func() { _, _ = Do(t.Context(), m, "orders", turns(after(2*time.Second, nil), hang)) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := Do(ctx, m, "orders", turns(hang, after(0, nil))); err != nil || time.Since(start) != 100*time.Millisecond {
			t.Errorf("call that is due before the one watched ended after %v, %v, want 100 ms", time.Since(start), err)
		}
		calls.Wait()
	})
}

func TestWatchdogIsQuietAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: idempotent})
		time.AfterFunc(time.Second/2, func() { m.Close() })
		got, err := Do(t.Context(), m, "orders", turns(after(5*time.Second, nil)))
		if got != 0 || err != nil {
			t.Errorf("Do() = %d, %v", got, err)
		}
	})
}

func TestWatchdogUnderLoad(t *testing.T) {
	m := open(t, Config{Resolver: orders(4), Spec: Spec{Defaults: Policy{
		Idempotent: On, Budget: Budget{Mode: Off}, Backup: Backup{Min: time.Millisecond, Factor: 1}, Timeout: 30 * time.Second,
	}}})
	var attempts atomic.Int64
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for i := range 500 {
				var n atomic.Int64
				_, err := Do(t.Context(), m, "orders", func(ctx context.Context, _ *loadbalance.Node) (int, error) {
					attempts.Add(1)
					if n.Add(1) == 1 && i > 100 && i%20 == 0 {
						return 0, hang(ctx) // only a backup ends it
					}
					return 0, nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	calls.Wait()
	m.Close()
	if got := attempts.Load(); got < 8*(500+19) {
		t.Errorf("%d attempts, want at least one more for each call that hung", got)
	}
	if m.overdue.busy() {
		t.Error("the watchdog still watches a call")
	}
}

// busy reports whether a call is watched.
func (w *watchdog) busy() bool {
	for i := range w.lists {
		l := &w.lists[i]
		l.mu.Lock()
		head := l.head
		l.mu.Unlock()
		if head != nil {
			return true
		}
	}
	return false
}

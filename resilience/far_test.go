package resilience_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// A deadline that is further away than a time.Duration reaches is none.
func TestFarDeadlinesAreFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithDeadline(t.Context(), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))
		defer cancel()
		s := &resilience.Stack{Limit: resilience.NewLimit(resilience.LimitConfig{Max: 1, Queue: 1}, nil)}
		busy := make(chan error)
		go func() {
			busy <- s.Run(ctx, func(context.Context) error { time.Sleep(time.Second / 2); return nil })
		}()
		synctest.Wait()
		if _, err := resilience.Do(ctx, s, replies()); err != nil {
			t.Errorf("Do() = %v, want an answer after it has waited", err)
		}
		if err := <-busy; err != nil {
			t.Error(err)
		}
	})
}

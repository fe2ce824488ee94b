package pace

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPacerRefillsToItsBurst(t *testing.T) {
	var p Pacer
	now := time.Now()
	for n, want := range []time.Duration{0, 0, 0, time.Second, 2 * time.Second} {
		if got := p.Take(now); got != want {
			t.Errorf("take %d = %v, want %v", n, got, want)
		}
	}
	now = now.Add(time.Hour)
	for n, want := range []time.Duration{0, 0, 0, time.Second} {
		if got := p.Take(now); got != want {
			t.Errorf("take %d after an hour = %v, want %v", n, got, want)
		}
	}
}

func TestWaitLetsThroughOnePerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pacer
		start := time.Now()
		for range Burst + 10 {
			if err := p.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := time.Since(start), 10*Interval; got != want {
			t.Errorf("%d requests took %v, want %v", Burst+10, got, want)
		}
	})
}

func TestSleepEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, d := range []time.Duration{0, time.Hour} {
		if err := Sleep(ctx, d); !errors.Is(err, context.Canceled) {
			t.Errorf("Sleep(%v) = %v, want %v", d, err, context.Canceled)
		}
	}
}

package loadbalance

import (
	"math"
	"sync"
	"testing"
	"time"
)

const ms = time.Millisecond

func TestStrayFailureCostsLittle(t *testing.T) {
	for _, r := range []uint64{0, 1 << 63, math.MaxUint64} {
		var p penalty
		p.fail(time.Second, time.Second+ms, 0, r)
		if !p.active(time.Second + 100*ms) {
			t.Errorf("random %#x: not avoided 99 ms after a failure", r)
		}
		if p.active(time.Second + 302*ms) {
			t.Errorf("random %#x: still avoided 301 ms after a stray failure", r)
		}
	}
}

func TestPenaltyEscalates(t *testing.T) {
	for _, c := range []struct {
		r      uint64
		factor float64
	}{{0, 0.5}, {1 << 63, 1}, {math.MaxUint64, 1.5}} {
		var p penalty
		now := time.Second
		for i, base := range []time.Duration{200 * ms, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second,
			16 * time.Second, 32 * time.Second, 60 * time.Second, 60 * time.Second} {
			start := now
			p.try(start)
			now += ms
			p.fail(start, now, 0, c.r)
			wait := time.Duration(float64(base) * c.factor)
			if !p.active(now+wait-ms) || p.active(now+wait+ms) {
				t.Fatalf("failure %d, random %#x: avoided until %v, want %v", i+1, c.r, time.Duration(p.until.Load())-now, wait)
			}
			now += wait + ms
		}
	}
}

func TestStreakHasABound(t *testing.T) {
	var p penalty
	for i := range 600 {
		now := time.Duration(i+1) * time.Hour
		p.fail(now, now+ms, 0, 1<<63)
		if i >= 7 && (!p.active(now+60*time.Second) || p.active(now+60*time.Second+2*ms)) {
			t.Fatalf("failure %d: avoided until %v, want 60s", i+1, time.Duration(p.until.Load())-now)
		}
	}
}

func TestOneCrashIsOneFailure(t *testing.T) {
	for range 50 {
		var p penalty
		var wg sync.WaitGroup
		for g := range 100 {
			wg.Go(func() { p.fail(time.Second, time.Second+time.Duration(g)*ms, 0, 1<<63) })
		}
		wg.Wait()
		if got := p.streak.Load() & 255; got != 1 {
			t.Fatalf("failures that counted = %d, want 1", got)
		}
		if p.active(time.Second + 300*ms) {
			t.Fatal("a hundred failures at once cost more than one")
		}
	}
}

func TestOnlyLaterAttemptsClearAPenalty(t *testing.T) {
	var p penalty
	p.fail(1000*ms, 1010*ms, 0, 1<<63)
	p.succeed(1005 * ms)
	if !p.active(1100 * ms) {
		t.Error("a late success of an attempt begun before the failure cleared the penalty")
	}
	p.succeed(1020 * ms)
	if p.active(1100 * ms) {
		t.Error("a success of an attempt begun after the failure did not clear the penalty")
	}
	p.fail(1200*ms, 1210*ms, 0, 1<<63)
	if p.active(1500 * ms) {
		t.Error("a failure after a success continued the old streak")
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for _, c := range []struct{ pause, want time.Duration }{
		{-time.Second, 200 * ms},
		{50 * ms, 200 * ms},
		{5 * time.Second, 5 * time.Second},
		{time.Hour, 60 * time.Second},
		{math.MaxInt64, 60 * time.Second},
	} {
		var p penalty
		p.fail(time.Second, time.Second, c.pause, 1<<63)
		if got := time.Duration(p.until.Load()) - time.Second; got != c.want {
			t.Errorf("pause %v: avoided for %v, want %v", c.pause, got, c.want)
		}
	}
	var p penalty
	p.fail(time.Second, 2*time.Second, 0, 1<<63)
	p.fail(time.Second, 2*time.Second, 7*time.Second, 1<<63) // of the same crash, but it names a pause
	if got, want := time.Duration(p.until.Load()), 9*time.Second; got != want {
		t.Errorf("avoided until %v, want %v", got, want)
	}
}

func TestPenaltyEndsWithOneProbe(t *testing.T) {
	var p penalty
	p.try(time.Second)
	if p.active(time.Second) {
		t.Fatal("an attempt on a node that never failed made it avoided")
	}
	p.fail(time.Second, time.Second, 0, 1<<63)
	p.try(1100 * ms) // within the penalty: no probe
	if p.active(1201 * ms) {
		t.Fatal("an attempt during the penalty extended it")
	}
	p.try(1300 * ms)
	if !p.active(1301*ms) || p.active(1801*ms) {
		t.Error("others are not kept away for 500 ms while the probe is under way")
	}
	p.succeed(1300 * ms)
	if p.active(1310 * ms) {
		t.Error("still avoided after the probe succeeded")
	}
}

func TestProbeThatTaughtNothingIsRepeated(t *testing.T) {
	var p penalty
	p.fail(time.Second, time.Second, 0, 1<<63)
	p.try(1300 * ms)
	p.drop(1250*ms, 1310*ms)
	if !p.active(1320 * ms) {
		t.Error("the end of another attempt ended the probe")
	}
	p.drop(1300*ms, 1310*ms)
	if p.active(1320 * ms) {
		t.Error("still avoided although the probe was called off")
	}
}

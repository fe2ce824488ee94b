package resilience

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// send makes n requests in turn, each of which ends as o at once, and returns how many were sent.
func (t *Throttle) send(now time.Duration, n int, o Outcome, rnd *rand.Rand) (sent int) {
	for range n {
		if t.Allow(now, rnd.Uint64()) {
			t.Done(now, o)
			sent++
		}
	}
	return sent
}

func TestThrottleRefusesByTheFormula(t *testing.T) {
	for _, tt := range []struct {
		config            ThrottleConfig
		accepts, refusals int
		want              float64
	}{
		{ThrottleConfig{}, 0, 0, 0},
		{ThrottleConfig{}, 100, 0, 0},
		{ThrottleConfig{}, 100, 100, 0},
		{ThrottleConfig{}, 100, 199, 99. / 300},
		{ThrottleConfig{}, 0, 99, 0.99},
		{ThrottleConfig{K: 1.1}, 100, 99, 89. / 200},
		{ThrottleConfig{Aggression: 2}, 100, 199, math.Sqrt(99. / 300)},
		{ThrottleConfig{K: 1 / 0.95, MaxRejection: 0.8}, 0, 99, 0.8},
	} {
		l := NewThrottle(tt.config)
		for i := range tt.accepts + tt.refusals {
			o := Success
			if i >= tt.accepts {
				o = []Outcome{Failure, Overload}[i%2]
			}
			if !l.Allow(0, math.MaxUint64) { // drawn so that none is refused
				l.Insist()
			}
			l.Done(0, o)
		}
		if got := l.Probability(0); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%+v, %d accepted, %d refused: Probability() = %v, want %v", tt.config, tt.accepts, tt.refusals, got, tt.want)
		}
	}
}

// A service that accepts a third of the requests is sent K times what it accepts.
func TestThrottleSendsWhatIsAccepted(t *testing.T) {
	for _, k := range []float64{1.1, 1.5, 2} {
		rnd := rand.New(rand.NewPCG(3, 4))
		l := NewThrottle(ThrottleConfig{K: k})
		var sent, accepted float64
		for tick := range 30_000 { // of 10 ms
			now := time.Duration(tick) * 10 * ms
			for i, room := 0, 5; i < 15; i++ {
				if !l.Allow(now, rnd.Uint64()) {
					continue
				}
				o := Overload
				if room > 0 {
					room, o = room-1, Success
				}
				l.Done(now, o)
				if tick >= 15_000 {
					sent++
					if o == Success {
						accepted++
					}
				}
			}
		}
		if got := sent / accepted; math.Abs(got-k) > 0.02*k {
			t.Errorf("K = %v: %.3f requests are sent for each that is accepted", k, got)
		}
	}
}

func TestThrottleLetsOneASecondPassAndRecovers(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	l := NewThrottle(ThrottleConfig{})
	l.send(0, 10_000, Overload, rnd)
	for sec := 1; sec <= 60; sec++ {
		if got := l.send(time.Duration(sec)*time.Second, 3, Overload, rnd); got < 1 {
			t.Fatalf("second %d: nothing is sent", sec)
		}
	}
	now := time.Minute
	for ; l.Probability(now) > 0; now += 10 * ms {
		l.send(now, 1, Success, rnd)
		if now > 10*time.Minute {
			t.Fatalf("the service is well for 9 minutes, and %v is refused", l.Probability(now))
		}
	}
	if l.Probability(now+time.Hour) != 0 {
		t.Error("something is refused an hour later")
	}
}

// A caller that leaves early takes with it what was to show how the service is. It must not take the whole second.
func TestThrottleAsksAgainSoonWhenCallersLeave(t *testing.T) {
	const never = 0 // a random word below every probability
	l := NewThrottle(ThrottleConfig{})
	for range 1000 {
		l.Allow(0, ^uint64(0))
		l.Done(0, Overload)
	}
	now := time.Minute
	if !l.Allow(now, never) || l.Allow(now, never) {
		t.Fatal("not one attempt passes")
	}
	l.Done(now+50*ms, Neutral)
	if l.Allow(now+299*ms, never) || !l.Allow(now+300*ms, never) {
		t.Error("the next attempt does not pass a quarter of a second after the caller has left")
	}
	l.Done(now+310*ms, Overload) // known: the second counts
	if l.Allow(now+1299*ms, never) || !l.Allow(now+1300*ms, never) {
		t.Error("the next attempt does not pass a second after one whose end is known")
	}
	l.Done(now+5*time.Second, Neutral) // it lasted longer: nothing passes sooner than it would have anyway
	if !l.Allow(now+5*time.Second, never) || l.Allow(now+5*time.Second, never) {
		t.Error("an attempt that lasted long lets more than one pass")
	}
}

func TestThrottleForgetsWhatIsOlderThanItsWindow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	l := NewThrottle(ThrottleConfig{Window: time.Minute})
	l.send(0, 100, Overload, rnd)
	if p := l.Probability(58 * time.Second); p < 0.9 {
		t.Errorf("Probability() within the window = %v", p)
	}
	for _, now := range []time.Duration{time.Minute, 2 * time.Minute, time.Hour} {
		if p := l.Probability(now); p != 0 {
			t.Errorf("Probability() after %v = %v, want 0", now, p)
		}
	}
}

func TestThrottleDoesNotCountWhatNobodyKnows(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 10))
	l := NewThrottle(ThrottleConfig{Window: time.Minute})
	for sec := range 200 { // ends in a later slot than it begins
		now := time.Duration(sec) * time.Second
		l.Allow(now, rnd.Uint64())
		l.Done(now+5*time.Second, Neutral)
	}
	if l.sum.requests > 1 || l.Probability(300*time.Second) != 0 || l.sum != (ballot{}) {
		t.Errorf("counts %+v, want none", l.sum)
	}
}

// Before the first answer nobody knows what the service accepts.
func TestThrottleLetsCallsBeginTogether(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 12))
	l := NewThrottle(ThrottleConfig{})
	for range 1000 {
		if !l.Allow(0, rnd.Uint64()) {
			t.Fatal("refused although nothing was")
		}
	}
	for range 50 {
		l.Done(0, Overload)
	}
	if p := l.Probability(0); p < 0.9 {
		t.Errorf("Probability() = %v after 50 refusals and no answer, want nearly 1", p)
	}
}

func TestThrottleKeepsItsCounts(t *testing.T) {
	l := NewThrottle(ThrottleConfig{})
	var wg sync.WaitGroup
	for g := range 100 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			for i := range 200 {
				now := time.Duration(i) * time.Second
				if l.Allow(now, rnd.Uint64()) {
					l.Done(now, Outcome(rnd.IntN(4)))
				}
			}
		})
	}
	wg.Wait()
	l.Probability(time.Hour)
	if l.underWay != 0 || l.sum != (ballot{}) {
		t.Errorf("%d under way and %+v counted when all is over and forgotten", l.underWay, l.sum)
	}
}

func TestThrottleConfigIsValidated(t *testing.T) {
	for _, tt := range []struct {
		config ThrottleConfig
		fields []string
	}{
		{ThrottleConfig{}, nil},
		{ThrottleConfig{K: 1, Window: time.Second, Aggression: 100, MaxRejection: 1}, nil},
		{ThrottleConfig{K: 0.9, Window: 1, Aggression: -1, MaxRejection: 1.1}, []string{"k", "window", "aggression", "maxRejection"}},
		{ThrottleConfig{K: math.NaN(), Aggression: math.NaN(), MaxRejection: math.NaN()}, []string{"k", "aggression", "maxRejection"}},
	} {
		checkFields(t, tt.config.Validate(), tt.fields...)
		if l := NewThrottle(tt.config); !l.Allow(0, 0) {
			t.Errorf("%+v: the first request is refused", tt.config)
		}
	}
}

func BenchmarkThrottle(b *testing.B) {
	l, start := NewThrottle(ThrottleConfig{}), time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			now := time.Since(start)
			if l.Allow(now, 1<<63) {
				l.Done(now, Success)
			}
		}
	})
}

// Streams may last for hours: they tell nothing about what the service accepts now.
func TestThrottleIsNotBlindedByWhatLasts(t *testing.T) {
	rnd := rand.New(rand.NewPCG(13, 14))
	l := NewThrottle(ThrottleConfig{})
	for range 10_000 {
		l.Allow(0, rnd.Uint64())
	}
	l.send(time.Hour, 100, Overload, rnd)
	if p := l.Probability(time.Hour); p < 0.9 {
		t.Errorf("Probability() = %v after 100 refusals, want nearly 1", p)
	}
}

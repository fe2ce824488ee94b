package resilience

import "time"

// aimd is a limit that goes up while calls succeed and down when they go wrong, each time by a part of itself that is in
// proportion to the part of the calls in flight that the one in question is. What counts so is the share of calls that go
// wrong, whatever the size of the service. It comes to rest where growth and falls are even: at 9 in 100 calls that are
// refused for overload or fail after the timeout, or at 29 in 100 that succeed, but after the timeout. Work for callers who
// have left helps nobody, and late answers still help those who waited for them.
//
// TCP, where "additive increase, multiplicative decrease" comes from (D. Chiu, R. Jain, "Analysis of the Increase and Decrease
// Algorithms for Congestion Avoidance", 1989), cuts the window once for whatever was lost in a round, and adds one packet a
// round. Per call, as Netflix's concurrency-limits has it, that makes a limit that rests at the root of 10/p where a part p goes
// wrong for any reason: 30 calls for a hundredth, which is an outage where hundreds are needed. Here, the round as a whole grows by
// a part of itself; what is left of "additive" is that a call in it adds a fixed amount. As in TCP the limit doubles
// each round at first, until the first call goes wrong.
type aimd struct {
	limit, min, max float64
	timeout         time.Duration
	peak            float64 // calls in flight
	met             bool    // calls have gone wrong
}

const (
	// What a round of calls moves the limit by: if all succeed, before and after the first has gone wrong; if all are late; if
	// all are lost. The ratios are what matters, and decide at which shares the limit rests.
	aimdStart, aimdGrowth, aimdLate, aimdLost = 1, 0.1, -0.25, -1
	// leastLeft is what one call leaves of the limit, however few there are.
	leastLeft = 0.5
	// peakDecay is the part of the way that a call moves the peak down. Late calls come back when most that began with
	// them have long done so: what is in flight then is not what made them late.
	peakDecay = 1. / 64
)

func (a *aimd) observe(s *sample) {
	n := float64(max(s.inflight, 1))
	a.peak = max(n, a.peak+(n-a.peak)*peakDecay)
	late := s.latency >= a.timeout
	switch {
	case s.outcome == Overload, late && s.outcome != Success:
		a.met = true
		a.step(aimdLost)
	case late:
		a.met = true
		a.step(aimdLate)
	case s.outcome != Success || 2*a.peak < a.limit: // what is not in use says nothing when it is needed
	case a.met:
		a.step(aimdGrowth)
	default:
		a.step(aimdStart)
	}
}

func (a *aimd) step(round float64) {
	a.limit = min(max(a.limit*max(1+round/a.peak, leastLeft), a.min), a.max)
}

// sample is what a limit learns from a call that leaves.
type sample struct {
	now      time.Duration
	latency  time.Duration // 0 if it tells nothing
	inflight int           // the call included
	outcome  Outcome
	probe    bool // of the probe under way, if there is one
}

package resilience

import "time"

// aimd is a limit that grows by one whenever as many calls as it admits at a time have succeeded, and loses a tenth of itself
// with every call that was refused for overload or took too long: "additive increase, multiplicative decrease", as TCP has it
// (D. Chiu, R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance", 1989) and Netflix's
// concurrency-limits. Where a part p of the calls goes wrong it comes to rest near the root of 10/p: 10 calls for a tenth,
// 30 for a hundredth.
type aimd struct {
	limit, min, max float64
	timeout         time.Duration
}

// backOff is what a call that goes wrong leaves of the limit: Netflix's default. A half, as TCP has it, would leave too little
// of a limit of few calls.
const backOff = 0.9

func (a *aimd) observe(s *sample) {
	switch {
	case s.outcome == Overload, s.outcome != Neutral && s.latency >= a.timeout:
		a.limit = max(a.min, a.limit*backOff)
	case s.outcome == Success && s.used(a.limit):
		a.limit = min(a.max, a.limit+1/a.limit)
	}
}

// sample is what a limit learns from a call that leaves.
type sample struct {
	now      time.Duration
	latency  time.Duration // 0 if it tells nothing
	inflight int           // the call included
	outcome  Outcome
	probe    bool // of the probe under way, if there is one
}

// used reports whether so much of the limit is in use that it would matter if there were more of it: a limit that grows
// while nobody asks for it says nothing when it is needed.
func (s *sample) used(limit float64) bool { return float64(s.inflight)*2 >= limit }

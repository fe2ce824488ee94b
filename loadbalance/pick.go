package loadbalance

import (
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Pick is one attempt on a node. Done must be called exactly once. The zero Pick has no node.
type Pick struct {
	node   *Node
	start  time.Duration // after the base of the node
	permit resilience.Permit
	trace  trace
}

// trace is what a pick leaves behind, in a word that is written at once, or who reads it with another one would wait for both: the upper
// half of the last random word, above the level that the pick was for, above the How, HowNone for what pickers say. There
// is no room for more: calls with another word would be allocated in a larger size.
type trace uint64

// probing is set in the trace of a probe.
const probing = 1 << 16

func (t trace) how() How { return How(t) }

func (t trace) level() uint8 { return uint8(t >> 8) }

func (t trace) word() uint64 { return uint64(t) >> 32 << 32 }

// probe reports whether the attempt is that of an ejected node.
func (t trace) probe() bool { return t&probing != 0 }

func (in *Info) trace() trace {
	return trace(in.how) | trace(in.level)<<8 | trace(in.Random)&(1<<64-1<<32)
}

func begin(n *Node, in *Info, permit resilience.Permit) Pick {
	n.inflight.pick()
	return started(n, in, permit)
}

// started is what follows when an attempt is counted as in flight.
func started(n *Node, in *Info, permit resilience.Permit) Pick {
	start := n.since(in.Now)
	if in.Choice != nil {
		in.picked(n, start)
	}
	n.penalty.try(start)
	return Pick{node: n, start: start, permit: permit, trace: in.trace()}
}

// Node returns the node that was picked, nil for the zero Pick.
func (p Pick) Node() *Node { return p.node }

// Start returns the time of the pick, zero for the zero Pick.
func (p Pick) Start() time.Time {
	if p.node == nil {
		return time.Time{}
	}
	return p.node.owner.base.Add(p.start)
}

// Report is how an attempt went.
type Report struct {
	// Now is the time of the report. Required.
	Now time.Time
	// Outcome is its class.
	Outcome resilience.Outcome
	// Latency is how long the answer took. For a Neutral outcome it is how long no answer came before the
	// attempt was given up. 0 says that the attempt tells nothing about speed.
	Latency time.Duration
	// Overdue says of a Neutral outcome that the attempt was given up after so long that the endpoint may hang.
	// Picks then avoid it as if it had failed, and it may be ejected; its breaker learns nothing. Of attempts that were under
	// way together one counts for that: whatever they waited for, it was the same.
	Overdue bool
	// Bound is how long the attempt could take at most, 0 if for ever. See LimitConfig.Adaptive.
	Bound time.Duration
	// After is the pause the server asked for, 0 or less if none. More than a minute counts as a minute.
	After time.Duration
}

// Done ends the attempt.
func (p Pick) Done(r Report) { p.done(&r) }

func (p Pick) done(r *Report) {
	n := p.node
	if n == nil {
		return
	}
	start, now := p.start, n.since(r.Now)
	is, h := n.owner.setup.Load(), n.health.Load()
	d := is.outliers
	if d != nil && (r.Outcome == resilience.Failure || r.Overdue) && d.common(now) {
		n.penalty.soften()
	}
	if is.timed && h != nil && r.Outcome != resilience.Success {
		h.bound(r.Latency)
	}
	if is.locality != nil && h != nil && r.Latency > 0 {
		h.toll.add(r.Latency, r.Outcome == resilience.Success)
	}
	var f finding
	switch r.Outcome {
	case resilience.Success:
		if r.Latency > 0 {
			n.cost.observe(now, r.Latency)
			if is.timed && h != nil {
				h.time(r.Latency)
			}
		}
		n.penalty.succeed(start)
		f = good
	case resilience.Failure, resilience.Overload:
		// A slow failure is at least as slow as it was; a fast one says nothing about speed.
		n.cost.raise(now, r.Latency)
		n.penalty.fail(start, now, r.After, n.owner.random())
		f = alive
		if r.Outcome == resilience.Failure {
			f = failed
		}
	default:
		if r.Overdue {
			// Its cost alone keeps nobody away for long: where all attempts are given up, none is in flight,
			// and one on an idle hung endpoint looks cheaper than a third one on a busy good one.
			n.penalty.fail(start, now, 0, n.owner.random())
			f = silent
		}
		if r.Latency > 0 {
			n.cost.raise(now, r.Latency)
		} else {
			n.penalty.drop(start, now)
		}
	}
	if d != nil {
		d.report(n, start, now, f, p.trace.probe())
	}
	p.permit.Done(now, r.Outcome, r.Latency)
	if l := n.limit.Load(); l != nil {
		l.observe(now, r, n.inflight.Load())
	}
	n.end()
}

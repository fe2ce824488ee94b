package zerohop

import (
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Visit is one request in an Admission: good, with its Arrival set, for one Admit or Enter. It must not be copied.
type Visit struct {
	Arrival

	admission *Admission
	operation *operation
	ticket    resilience.Ticket
	deadline  time.Duration // of the caller
	began     time.Duration
	latency   time.Duration // 0 before the answer
	inside    atomic.Bool   // it owes a Leave
}

// prepare fills in the ticket of a request.
func (v *Visit) prepare(now time.Duration, a *Admission) {
	v.admission, v.operation = a, a.known(v.Operation)
	t := &v.ticket
	t.Criticality = v.Criticality
	if v.Left > 0 {
		v.deadline = later(now, v.Left)
		t.Deadline = v.deadline
	}
	if v.AttemptLeft > 0 && (v.Left <= 0 || v.AttemptLeft < v.Left) {
		t.Deadline = later(now, v.AttemptLeft)
	}
	if o := v.operation; o != nil && !v.Stream && t.Deadline > 0 && a.policy.Deadline == On {
		t.Expected = o.expected(now, t.Deadline-now)
	}
}

// admit notes that the request is worked on.
func (v *Visit) admit(now time.Duration) {
	v.began = now
	if v.operation != nil {
		v.operation.passed(now)
	}
	v.inside.Store(true)
}

// error returns why a request was refused, and counts it.
func (v *Visit) error(now time.Duration, s resilience.Admission) *AdmissionError {
	e := &AdmissionError{Admission: s}
	e.NoTime = s == resilience.Late && v.deadline > 0 && v.deadline-now < max(v.ticket.Expected, 1)
	e.Final = e.NoTime || v.Attempt > 0 || v.Criticality.Or(resilience.Critical) < resilience.Critical
	if e.NoTime {
		v.admission.noTime.Add(1)
	} else {
		v.admission.noPlace.Add(1)
	}
	return e
}

// settle notes what becomes of a request that does not wait any more, and returns why if it is refused.
func (v *Visit) settle(now time.Duration, s resilience.Admission) *AdmissionError {
	if s.Refused() {
		if e := v.error(now, s); v.admission.policy.Mode == On {
			return e
		}
	}
	v.admit(now)
	return nil
}

// Answered notes that the answer begins: what comes after is no part of the time that the request took. Calls after the first
// do nothing.
func (v *Visit) Answered() {
	if v.inside.Load() {
		v.AnsweredAt(v.admission.clock())
	}
}

// AnsweredAt is Answered for drivers that do not block.
func (v *Visit) AnsweredAt(now time.Duration) {
	if v.latency == 0 {
		v.latency = max(now-v.began, 1)
	}
}

// Leave gives the place of the request back, and says how it went. It does nothing if the request has none.
func (v *Visit) Leave(o resilience.Outcome) {
	if v.inside.Load() {
		v.LeaveAt(v.admission.clock(), o)
	}
}

// LeaveAt is Leave for drivers that do not block.
func (v *Visit) LeaveAt(now time.Duration, o resilience.Outcome) {
	if !v.inside.CompareAndSwap(true, false) {
		return
	}
	a := v.admission
	if v.AnsweredAt(now); v.Stream {
		v.latency = 0
	} else if o == resilience.Success {
		if v.operation == nil {
			v.operation = a.learn(v.Operation)
		}
		v.operation.observe(now, v.latency)
	}
	a.limit.Leave(now, &v.ticket, o, v.latency)
}

// operation is what is known of how long an operation takes.
type operation struct {
	latency resilience.Latency
	recent  atomic.Int64 // moving average, in ns
	let     atomic.Int64 // when one was let in, give or take a quarter of trialEvery
}

const (
	// recentShare is the part of the moving average that is not the last request: half a dozen quick ones bring it down
	// after a bad time, and few of those there are do by chance.
	recentShare = 8
	// trialEvery is how often a request is let in that would be refused by what was learned. Without it nothing would ever
	// be learned again where all callers are in more of a hurry than the service was for a moment. Half a dozen of them
	// take less than half a second.
	trialEvery = 50 * time.Millisecond
)

// observe takes note of a request that took d.
func (o *operation) observe(now, d time.Duration) {
	o.latency.Observe(now, d)
	recent := o.recent.Load() // one of two that end at once may be lost
	if recent == 0 {
		recent = int64(d)
	}
	o.recent.Store(recent + (int64(d)-recent)/recentShare)
}

// passed notes that a request is let in.
func (o *operation) passed(now time.Duration) {
	if let := o.let.Load(); int64(now)-let > int64(trialEvery/4) {
		o.let.Store(int64(now))
	}
}

// expected returns how long a request probably takes that comes now and has so much time left: the median, or the recent
// average if that is less. It returns 0 if that is not known, or if the request is to find out.
func (o *operation) expected(now, left time.Duration) time.Duration {
	p50, _, ok := o.latency.Quantiles()
	if !ok {
		return 0
	}
	d := min(p50, time.Duration(o.recent.Load()))
	if left < d {
		if let := o.let.Load(); int64(now)-let > int64(trialEvery) && o.let.CompareAndSwap(let, int64(now)) {
			return 0
		}
	}
	return d
}

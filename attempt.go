package zerohop

import (
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// Attempt is one attempt of a Call.
type Attempt struct {
	// Number counts the attempts of the call from 0.
	Number int
	// Status is the HTTP status or gRPC code of the answer. It is -1 before Exchange.Attempt sets it.
	Status int
	// Err is the error of the attempt, set by Exchange.Attempt; nil if there is an answer.
	Err error
	// Idle is how much of the attempt passed waiting for the caller and not for the endpoint, set by
	// Exchange.Attempt. Nothing is learned from that part.
	Idle time.Duration
	// Resends is how often the attempt was sent again without being asked for it; see Resent.
	Resends int
	// State is what the transport keeps of the attempt, for when it meets it again by AttemptOf.
	State any

	call     *Call
	scope    scope
	cause    resilience.Cause
	spawned  bool // it runs in a goroutine of the library
	begun    bool
	joinable bool // by a backup
	started  bool // AttemptStart was called
	arrived  bool // before the alarm
	opened   bool // its answer is still to come although Exchange.Attempt has returned
	judged   bool
	gone     bool // what would have to be sent again
	disowned bool // the endpoint had no part in it
	overdue  bool // another attempt won after this one had run long enough for a backup
	answer   bool // the call's
	ended    atomic.Bool
	verdict  resilience.Verdict
	pick     loadbalance.Pick
	start    time.Duration  // after the base of the mesh
	took     time.Duration  // until the answer or the error
	latency  time.Duration  // what is to be learned from it; 0 if nothing
	refused  error          // why there is no endpoint
	record   *AttemptRecord // of an attempt that was let go of
	alarm    *time.Timer    // of the attempt timeout
}

// begin notes that the attempt begins. c.mu is held.
func (a *Attempt) begin(now time.Time) {
	a.begun, a.start, a.joinable = true, now.Sub(a.call.mesh.base), !a.call.machine.Wake().IsZero()
}

// Node returns the endpoint of the attempt, nil if there is none (yet).
func (a *Attempt) Node() *loadbalance.Node { return a.pick.Node() }

// Verdict returns what the attempt was found to be when it was answered.
func (a *Attempt) Verdict() resilience.Verdict { return a.verdict }

// Policy returns the policy of the call.
func (a *Attempt) Policy() *Policy { return &a.call.target.policy }

// OwnEndpoints reports whether the Request said that the transport has endpoints of its own.
func (a *Attempt) OwnEndpoints() bool { return a.call.own }

// Service returns the name of the service the call goes to.
func (a *Attempt) Service() string { return a.call.target.service.name }

// Pick chooses the endpoint of an attempt whose Request asked for LatePick, from the given set. It may be
// called again if the transport finds that it cannot reach the node after all. Its error ends the attempt.
func (a *Attempt) Pick(now time.Time, set *loadbalance.Set) (*loadbalance.Node, error) {
	in := loadbalance.Info{Now: now, Other: a.Backup(), Hash: a.call.hash}
	if a.cause != resilience.First || a.Node() != nil {
		a.choose(now, loadbalance.Pick{}).Done(loadbalance.Report{Now: now, Outcome: resilience.Neutral})
		in.Avoid, in.Sound = a.call.avoid()
		in.Sound = in.Sound && set.Sound(in) // there may be none any more
	}
	p, err := set.Pick(in)
	if a.refused = err; err != nil {
		return nil, err
	}
	// What came before, such as waiting for a connection, is not the time the node takes, and a backup would have had
	// to wait, too.
	a.choose(now, p)
	if m := a.call.mesh; a.joinable {
		m.overdue.watch(&a.call.listed, now.Sub(m.base)+a.call.machine.Config.Backup)
	}
	return p.Node(), nil
}

// choose replaces the choice of the attempt and returns the one before. Other attempts of the call read it.
func (a *Attempt) choose(now time.Time, p loadbalance.Pick) (old loadbalance.Pick) {
	c := a.call
	c.mu.Lock()
	defer c.mu.Unlock()
	old, a.pick = a.pick, p
	if p.Node() != nil {
		a.start = now.Sub(c.mesh.base)
	}
	if n := old.Node(); n != nil {
		c.rest().dropped = append(c.rest().dropped, n)
	}
	return old
}

// Arrived stops the clock of Policy.AttemptTimeout. Exchanges whose answers go on after Attempt has returned call it
// when the answer begins. If it returns false, ctx has ended and the rest of the answer will not come.
func (a *Attempt) Arrived() bool {
	if !a.arrived {
		a.arrived = a.alarm == nil || a.alarm.Stop()
	}
	return a.arrived
}

// Backup reports whether another attempt of the call was under way when this one was launched.
func (a *Attempt) Backup() bool { return a.cause == resilience.Backup }

// Unrepeatable says that what the call sends cannot be sent again, so that this attempt, answered or refused, is its last.
func (a *Attempt) Unrepeatable() { a.gone = true }

// Disown says that the client ended the attempt itself, for a reason that its endpoint had no part in, so that the record
// of the attempt does not name it: what it was to send is too large, for example.
func (a *Attempt) Disown() {
	a.call.mu.Lock()
	defer a.call.mu.Unlock()
	a.disowned = true
}

// Refuse says that no endpoint could be reached for an attempt whose Request asked for LatePick, and why. It is not
// counted as an attempt then.
func (a *Attempt) Refuse(err error) { a.refused = err }

func (a *Attempt) info() AttemptInfo {
	return AttemptInfo{Number: a.Number, Backup: a.Backup(), Node: a.pick.Node()}
}

// End is to be called when the attempt that Call.Run returned is over, for HTTP when the body is: its load
// falls, its context ends and so does the call. outcome is usually that of Verdict, Failure if the answer broke
// off, with the error. Calls after the first do nothing.
func (a *Attempt) End(outcome resilience.Outcome, err error) {
	if !a.ended.CompareAndSwap(false, true) {
		return
	}
	c := a.call
	hooks := &c.mesh.cfg.Hooks
	now := c.mesh.base.Add(a.start + a.took) // when the answer came
	if outcome != resilience.Success || hooks.AttemptDone != nil {
		now = c.mesh.now()
	}
	if err == nil {
		err = a.Err
	}
	if a.answer {
		defer c.close(a.Status, outcome, err)
	}
	a.pick.Done(loadbalance.Report{Now: now, Outcome: outcome, Latency: a.latency, Overdue: a.overdue, After: a.verdict.After})
	if a.alarm != nil {
		a.alarm.Stop()
	}
	a.scope.cancel()
	if hooks.AttemptDone != nil && a.started {
		hooks.AttemptDone(a.scope.parent, c.info(), a.info(), AttemptResult{
			Status: a.Status, Outcome: outcome, Err: err, Latency: a.took, Duration: now.Sub(c.mesh.base) - a.start, Resends: a.Resends,
		})
	}
}

// result returns what became of an attempt that was judged, or has so far. c.mu is held.
func (a *Attempt) result() AttemptRecord {
	c := a.call
	r := AttemptRecord{Addr: a.addr(), Cause: a.cause, Start: a.start - c.start.Sub(c.mesh.base), Outcome: resilience.Neutral, Status: -1}
	if r.Running = !a.judged; r.Running {
		r.Duration = max(time.Since(c.mesh.base)-a.start, 0)
	} else {
		r.Outcome, r.Status, r.Duration, r.Err = a.verdict.Outcome, a.Status, a.took, a.Err
		r.Resends = a.Resends
	}
	return r
}

// addr returns the address of the endpoint, empty if there is none. c.mu is held.
func (a *Attempt) addr() string {
	if a.disowned {
		return ""
	}
	if n := a.pick.Node(); n != nil {
		return n.Addr()
	}
	return ""
}

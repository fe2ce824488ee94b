package zerohop

import (
	"context"
	"math"
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

	call     *Call
	waited   atomic.Pointer[scopeState] // nil until somebody waits for the end of the attempt's context, or that ends
	rare     atomic.Pointer[rarity]     // nil until there is something in it
	verdict  resilience.Verdict
	pick     loadbalance.Pick
	permit   resilience.Permit // of the breaker of the service
	start    time.Duration
	took     time.Duration // until the answer or the error
	latency  time.Duration // what is to be learned from it; 0 if nothing
	ended    atomic.Uint32 // its lowest bit says that End was called, the others are the Network: a byte more would not fit
	cause    resilience.Cause
	spawned  bool // it runs in a goroutine of the library
	begun    bool
	joinable bool // by a backup
	started  bool // AttemptStart was called
	arrived  bool // before the alarm
	opened   bool // its answer is still to come although Exchange.Attempt has returned
	resumed  bool // it was open
	judged   bool
	gone     bool // what would have to be sent again
	owing    bool // a throttle is to be told whether the service accepted the attempt
	answer   bool // the call's
}

// rarity is what few attempts have. Its fields are set with the lock of the call held.
type rarity struct {
	ctx     context.Context  // that AttemptStart returned
	idle    time.Duration    // of the caller, not of the endpoint
	resends int              // that nobody asked for
	refused error            // why there is no endpoint
	record  *AttemptRecord   // of an attempt that was let go of
	alarm   *time.Timer      // of the attempt timeout
	ready   *loadbalance.Set // endpoints that a transport which chooses late can reach; nil if it has not said
	known   *loadbalance.Set // all endpoints, if ready is not nil
	noted   *noted           // how the endpoint was chosen; nil if nobody asks, or not yet
	flag    Flag             // that the transport knows; empty if it has said none

	disowned bool // the endpoint had no part in it
	astray   bool // it has left the lane of the call
	overdue  bool // another attempt won after this one had run long enough for a backup
	late     bool // no time was left for it
}

var noRarity rarity

// rarity returns what is rare about the attempt, to be read.
func (a *Attempt) rarity() *rarity {
	if r := a.rare.Load(); r != nil {
		return r
	}
	return &noRarity
}

// ownRarity returns what is rare about the attempt, to be changed. c.mu is held.
func (a *Attempt) ownRarity() *rarity {
	if a.rare.Load() == nil {
		a.rare.Store(&rarity{})
	}
	return a.rare.Load()
}

// begin notes that the attempt begins. c.mu is held.
func (a *Attempt) begin(now time.Duration) {
	a.begun, a.start, a.joinable = true, now, a.call.machine.Wake() > 0
}

// Node returns the endpoint of the attempt, nil if there is none (yet).
func (a *Attempt) Node() *loadbalance.Node { return a.pick.Node() }

// Verdict returns what the attempt was found to be when it was answered.
func (a *Attempt) Verdict() resilience.Verdict { return a.verdict }

// Policy returns the policy of the call.
func (a *Attempt) Policy() *Policy { return &a.call.target.policy }

// Exchange returns the exchange of the call: how a transport that meets the attempt again, by AttemptOf, finds what it keeps
// of it.
func (a *Attempt) Exchange() Exchange { return a.call.exchange }

// OwnEndpoints reports whether the Request said that the transport has endpoints of its own.
func (a *Attempt) OwnEndpoints() bool { return a.call.own }

// Service returns the name of the service the call goes to.
func (a *Attempt) Service() string { return a.call.target.service.name }

// Generation returns the number of the Spec that the call is made under.
func (a *Attempt) Generation() uint64 { return a.call.target.service.generation }

// Pick chooses the endpoint of an attempt whose Request asked for LatePick, from the given set. known are all endpoints
// of the service, of which set has those that can be reached. It may be called again if the transport finds that
// it cannot reach the node after all. Its error ends the attempt.
func (a *Attempt) Pick(set, known *loadbalance.Set) (*loadbalance.Node, error) {
	return a.pickAt(a.call.mesh().now(), set, known)
}

// Reach says which endpoints can be reached now, as for Pick. Exchange.Attempt, or who judges an attempt left open, calls it after
// an attempt that failed: when an endpoint asks for a pause, the call may go on at once with another one.
func (a *Attempt) Reach(set, known *loadbalance.Set) {
	a.call.mu.Lock()
	defer a.call.mu.Unlock()
	r := a.ownRarity()
	r.ready, r.known = set, known
}

func (a *Attempt) pickAt(now time.Duration, set, known *loadbalance.Set) (*loadbalance.Node, error) {
	c := a.call
	m := c.mesh()
	in := loadbalance.Info{Now: m.at(now), Other: a.Backup(), Hash: c.hash}
	if a.cause != resilience.First || a.Node() != nil {
		a.choose(now, loadbalance.Pick{}).Done(loadbalance.Report{Now: in.Now, Outcome: resilience.Neutral})
		in.Avoid, in.Sound = c.avoid()
	}
	if g := c.guide(); g != nil {
		var err error
		in.Node, in.Strict = g.node, g.strict
		if set, err = g.choose(&in, a.rarity().astray, set, known); err != nil {
			a.Refuse(err)
			return nil, err
		}
	}
	set = set.By(c.target.algorithm)
	if in.Sound {
		in.Sound = set.Sound(in) // there may be none any more
	}
	var n *noted
	if c.recording(a) {
		n = &noted{budget: c.level()}
		in.Choice = &n.choice
	}
	p, err := set.Pick(in)
	if n != nil {
		a.note(n)
	}
	if err != nil {
		err = a.limited(err)
	}
	if err != nil || a.rarity().refused != nil {
		a.Refuse(err)
	}
	if err != nil {
		return nil, err
	}
	// What came before, such as waiting for a connection, is not the time the node takes, and a backup would have had
	// to wait, too.
	a.choose(now, p)
	if a.joinable {
		m.overdue.watch(c, now+c.machine.Config.Backup)
	}
	return p.Node(), nil
}

// choose replaces the choice of the attempt and returns the one before. Other attempts of the call read it.
func (a *Attempt) choose(now time.Duration, p loadbalance.Pick) (old loadbalance.Pick) {
	c := a.call
	c.mu.Lock()
	defer c.mu.Unlock()
	old, a.pick = a.pick, p
	if p.Node() != nil {
		a.start = now
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
		alarm := a.rarity().alarm
		a.arrived = alarm == nil || alarm.Stop()
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
	a.ownRarity().disowned = true
}

// Refuse says that no endpoint could be reached for an attempt whose Request asked for LatePick, and why. It is not
// counted as an attempt then.
func (a *Attempt) Refuse(err error) {
	a.call.mu.Lock()
	defer a.call.mu.Unlock()
	if err != nil && a.refused() {
		return // a stage has, and the transport knows only its own error for that
	}
	a.ownRarity().refused = err
}

// Idle says how much of the attempt passed waiting for the caller and not for the endpoint. Nothing is learned from that
// part. It is called by Exchange.Attempt.
func (a *Attempt) Idle(d time.Duration) {
	if d > 0 {
		a.call.mu.Lock()
		defer a.call.mu.Unlock()
		a.ownRarity().idle = d
	}
}

// Over says over what the endpoint of the attempt is reached, where that is not TCP or has changed. It is called by Exchange.Attempt, or
// by who judges an attempt left open, before the attempt ends.
func (a *Attempt) Over(n Network) {
	for {
		old := a.ended.Load()
		if Network(old>>1) == n || a.ended.CompareAndSwap(old, old&1|uint32(n)<<1) {
			return
		}
	}
}

func (a *Attempt) network() Network { return Network(a.ended.Load() >> 1) }

// Ran returns how long ago the endpoint was chosen. Attempts without one have run for ever.
func (a *Attempt) Ran() time.Duration {
	c := a.call
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.Node() == nil {
		return math.MaxInt64
	}
	return c.mesh().now() - a.start
}

func (a *Attempt) info() AttemptInfo {
	return AttemptInfo{Number: a.Number, Backup: a.Backup(), Node: a.pick.Node()}
}

// End is to be called when the attempt that Call.Run returned is over, for HTTP when the body is: its load
// falls, its context ends and so does the call. outcome is usually that of Verdict, Failure if the answer broke
// off, with the error. Calls after the first do nothing.
func (a *Attempt) End(outcome resilience.Outcome, err error) {
	if a.ended.Or(1)&1 != 0 {
		return
	}
	c := a.call
	m := c.mesh()
	hooks := &m.cfg.Hooks
	now := a.start + a.took // when the answer came
	if outcome != resilience.Success || hooks.AttemptDone != nil {
		now = m.now()
	}
	if err == nil {
		err = a.Err
	}
	if a.answer {
		defer c.close(a.Status, outcome, err)
	}
	a.pick.Done(loadbalance.Report{Now: m.at(now), Outcome: outcome, Latency: a.latency, Overdue: a.rarity().overdue, Bound: a.bound(), After: a.verdict.After})
	a.settle(now, outcome) // if it was judged too early to tell
	a.permit.Done(now, outcome, a.latency)
	if alarm := a.rarity().alarm; alarm != nil {
		alarm.Stop()
	}
	a.scope().cancel()
	if hooks.AttemptDone != nil && a.started {
		rare := a.rarity()
		r := AttemptResult{
			Status: a.Status, Outcome: outcome, Err: err, Latency: a.took, Duration: now - a.start, Resends: rare.resends, Network: a.network(),
		}
		if rare.record != nil { // as it was judged: that its answer was then too much to keep is not how it ended
			r.Status, r.Err = rare.record.Status, rare.record.Err
		}
		if outcome != resilience.Success {
			r.flag = c.flagOf(a, outcome, r.Status, r.Err)
		}
		hooks.AttemptDone(a.scope().parent(), c.info(), a.info(), r)
	}
}

// result returns what became of an attempt that was judged, or has so far. c.mu is held.
func (a *Attempt) result() AttemptRecord {
	c := a.call
	r := AttemptRecord{Addr: a.addr(), Cause: a.cause, Start: a.start - c.start, Outcome: resilience.Neutral, Status: -1}
	if r.Running = !a.judged; r.Running {
		r.Duration = max(c.mesh().now()-a.start, 0)
	} else {
		r.Outcome, r.Status, r.Duration, r.Err = a.verdict.Outcome, a.Status, a.took, a.Err
		r.Resends, r.Network = a.rarity().resends, a.network()
	}
	return r
}

// addr returns the address of the endpoint, empty if there is none. c.mu is held.
func (a *Attempt) addr() string {
	if a.rarity().disowned {
		return ""
	}
	if n := a.pick.Node(); n != nil {
		return n.Addr()
	}
	return ""
}

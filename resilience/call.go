package resilience

import (
	"math"
	"math/bits"
	"time"
)

// MaxAttempts is the hard limit of attempts of one call, whatever a policy says.
const MaxAttempts = 5

// patience is the longest pause asked for by a server that a call without a deadline takes. Its caller would have had
// the answer at once without us; only one who says how long he can wait is made to.
const patience = time.Second

// maxAfter bounds the pause that a server can ask for: a call without a deadline must not sleep for a month
// because of a header.
const maxAfter = time.Minute

// CallConfig is what a call may do.
type CallConfig struct {
	// Attempts is the largest number of attempts, the first included. Values outside 1..MaxAttempts are
	// brought into that range. Rejected attempts do not count.
	Attempts int
	// NoRetry says that failed attempts are not repeated. Backups are not concerned.
	NoRetry bool
	// Idempotent says that the call may be executed more than once. Without it only attempts that are
	// proven unsent are repeated, and no backup is ever started.
	Idempotent bool
	// Nested says that the call is made for a request that is a repetition itself: if every layer repeats what the
	// layers around it repeat, n layers of 3 attempts make 3^n. Only attempts that are proven unsent are repeated
	// then, and no backup is started.
	Nested bool
	// Criticality says how much may be done for the call. Sheddable ones are not repeated unless an attempt is proven
	// unsent, and no backup is started for those and SheddablePlus ones.
	Criticality Criticality
	// Deadline is when the caller stops waiting, on the clock that Step is told. 0 means never.
	Deadline time.Duration
	// MinRemaining is how much time must be left for another attempt to make sense. Less than 1 ms counts
	// as 1 ms. The first attempt is made in any case.
	MinRemaining time.Duration
	// Backup is how long an attempt may run before another one joins it. 0 means for ever.
	Backup time.Duration
	// Backoff is the pause before a retry.
	Backoff BackoffConfig
	// Budget pays for retries and backups. nil means no limit.
	Budget *Budget
}

// EventKind says what happened to a call.
type EventKind uint8

const (
	// Begin is the first event of every call.
	Begin EventKind = iota
	// Done is the end of attempt Event.Attempt, with Event.Verdict.
	Done
	// Rejected says that attempt Event.Attempt could not be made at all: there is no endpoint for it, or the client itself
	// refused it.
	Rejected
	// Tick says that the time of Call.Wake has come. It may come late, early or needlessly.
	Tick
	// Cancel says that the caller went away or his deadline passed.
	Cancel
)

// Event is something that happened to a call.
type Event struct {
	Kind EventKind
	// Elsewhere says that an endpoint is ready that the call has not tried. The pause that Verdict asks for
	// concerns the one that was, and is not kept. Used by Done.
	Elsewhere bool
	// Nowhere says that the call has tried every endpoint, so that another attempt goes to one that has failed. Such
	// attempts follow each other with a pause, even if they were not sent. Used by Done.
	Nowhere bool
	// Unrepeatable says that what would have to be sent again is not there any more. Used by Done and Rejected.
	Unrepeatable bool
	// Refused says that the client refused the attempt. Used by Rejected.
	Refused bool
	Attempt int
	Verdict Verdict
	// Random is a random word for the jitter of the next pause. Used by Done.
	Random uint64
}

// ActionKind says what a driver has to do.
type ActionKind uint8

const (
	// Wait for the next event, and send Tick at Call.Wake unless that is zero.
	Wait ActionKind = iota
	// Launch attempt Action.Attempt, then wait like Wait.
	Launch
	// Finish the call with the answer of attempt Action.Attempt, -1 if there is none, for Action.Reason.
	// Attempts still running are to be cancelled and their answers discarded.
	Finish
)

// Reason says why a call ended the way it did.
type Reason uint8

const (
	// Answered calls end with a success, or with a failure that no retry is known to help against.
	Answered Reason = iota
	// Exhausted calls have used all their attempts.
	Exhausted
	// Unsafe calls failed in a way worth repeating, but must not be executed twice.
	Unsafe
	// OverBudget calls would have been repeated, had the service not failed too much already.
	OverBudget
	// OutOfTime calls have too little time left for another attempt, or the server asked for a pause
	// longer than that.
	OutOfTime
	// Unroutable calls found no endpoint for their attempt.
	Unroutable
	// Canceled calls were ended by their caller.
	Canceled
	// Declined calls would have been repeated, had the server not asked for that not to happen.
	Declined
	// Nested calls would have been repeated, were they not made for a request that is a repetition itself.
	Nested
	// Unrepeatable calls would have been repeated, were what they sent still there to be sent again.
	Unrepeatable
	// Refused calls were refused by the client itself, or would have been repeated, had it not refused that.
	Refused
	// Uncritical calls would have been repeated, were they not Sheddable.
	Uncritical
)

// String returns the reason in words.
func (r Reason) String() string {
	switch r {
	case Answered:
		return "answered"
	case Exhausted:
		return "attempts exhausted"
	case Unsafe:
		return "not safe to repeat"
	case OverBudget:
		return "retry budget empty"
	case OutOfTime:
		return "no time left to retry"
	case Unroutable:
		return "no endpoint"
	case Canceled:
		return "canceled"
	case Declined:
		return "server wants no retry"
	case Nested:
		return "made for a repeated request"
	case Unrepeatable:
		return "cannot be sent again"
	case Refused:
		return "refused by the client"
	case Uncritical:
		return "not critical enough to repeat"
	default:
		return "unknown"
	}
}

// Cause says why an attempt is made.
type Cause uint8

const (
	// First is the first attempt of a call.
	First Cause = iota
	// Repeat follows an attempt that failed.
	Repeat
	// Resend follows an attempt that the server has provably not begun to work on.
	Resend
	// Backup joins an attempt that takes long.
	Backup
)

// String returns the cause in a word.
func (c Cause) String() string {
	switch c {
	case First:
		return "first"
	case Repeat:
		return "retry"
	case Resend:
		return "resend"
	case Backup:
		return "backup"
	default:
		return "unknown"
	}
}

// Action is what a driver has to do next.
type Action struct {
	Kind    ActionKind
	Cause   Cause  // of Launch
	Reason  Reason // of Finish
	Attempt int
}

// Call is the state machine of one logical call. The zero value, with Config set, is ready. It is not safe
// for concurrent use and must not be copied after the first event.
type Call struct {
	// Config is what the call may do. It must not change after the first event.
	Config CallConfig

	launched  int8  // attempts ever launched
	rejected  int8  // attempts that could not be made; no other endpoint is left for a backup then
	last      int8  // the attempt that failed last, -1 if none
	running   uint8 // one bit for each attempt now running
	paid      uint8 // one bit for each attempt paid by Budget.Take
	finished  bool  // Finish was returned
	refused   bool  // the server wants no other attempt
	gone      bool  // what would have to be sent again
	misled    bool  // a success was repeated
	pending   bool  // what follows from the failure of last is yet to be decided
	elsewhere bool  // of the event that told of it
	nowhere   bool
	random    uint64
	verdict   Verdict
	wake      time.Duration // when the newest attempt deserves a backup; if none runs, the end of the pause before a retry
}

// Step takes an event, which it only reads, and returns what to do. Events after Finish return Wait. Times are
// readings of one clock that never goes back, such as what has passed since some moment; none is negative.
func (c *Call) Step(now time.Duration, ev *Event) Action {
	if c.finished {
		return Action{Kind: Wait}
	}
	switch ev.Kind {
	case Begin:
		if c.launched > 0 {
			return c.wait()
		}
		c.last = -1
		return c.launch(now, First)
	case Done:
		return c.done(now, ev)
	case Rejected:
		return c.reject(now, ev)
	case Tick:
		return c.tick(now)
	default:
		return c.finish(-1, Canceled)
	}
}

// Wake returns when Tick is due, 0 if that is never. Every step may change it.
func (c *Call) Wake() time.Duration { return c.wake }

// Running reports whether the attempt was launched and has not ended.
func (c *Call) Running(attempt int) bool { return c.running>>attempt&1 == 1 }

// Active returns the number of attempts that are running.
func (c *Call) Active() int { return bits.OnesCount8(c.running) }

// Launched returns the number of attempts launched so far.
func (c *Call) Launched() int { return int(c.launched) }

// spent reports whether no attempt is left. One that was rejected did not use any up, save its place.
func (c *Call) spent() bool {
	return c.made() >= max(c.Config.Attempts, 1) || c.launched >= MaxAttempts
}

func (c *Call) made() int { return int(c.launched - c.rejected) }

func (c *Call) launch(now time.Duration, why Cause) Action {
	i := int(c.launched)
	c.running |= 1 << i
	c.launched++
	c.wake = 0
	if c.Config.Backup > 0 && c.Config.Idempotent && !c.Config.Nested && c.Config.Criticality.Or(Critical) >= Critical && !c.spent() {
		c.wake = after(now, c.Config.Backup)
	}
	return Action{Kind: Launch, Cause: why, Attempt: i}
}

// repeat launches an attempt after a failure.
func (c *Call) repeat(now time.Duration) Action {
	if c.verdict.Unsent {
		return c.launch(now, Resend)
	}
	return c.launch(now, Repeat)
}

func (c *Call) done(now time.Duration, ev *Event) Action {
	i, v := ev.Attempt, &ev.Verdict
	if i < 0 || i >= int(c.launched) || !c.Running(i) {
		return c.wait()
	}
	c.running &^= 1 << i
	if v.Outcome == Success {
		if !v.Retry || c.misled {
			c.Config.Budget.Success()
			return c.finish(i, Answered)
		}
		c.misled = true
	} else if v.Retry && !v.Unsent {
		c.Config.Budget.Failure()
	}
	c.refused, c.gone = c.refused || v.After < 0, c.gone || ev.Unrepeatable
	c.last, c.pending = int8(i), true
	c.verdict, c.elsewhere, c.nowhere, c.random = *v, ev.Elsewhere, ev.Nowhere, ev.Random
	if c.running > 0 {
		// A failure that is early does not end a call that may yet succeed.
		return c.wait()
	}
	return c.again(now)
}

// again decides what follows when every attempt made so far has failed, the last one with c.verdict.
func (c *Call) again(now time.Duration) Action {
	v := &c.verdict
	c.pending = false
	switch {
	case !v.Retry:
		return c.giveUp(Answered)
	case c.refused:
		return c.giveUp(Declined)
	case c.Config.NoRetry || c.spent():
		return c.giveUp(Exhausted)
	case !v.Unsent && !c.Config.Idempotent:
		return c.giveUp(Unsafe)
	case !v.Unsent && c.Config.Nested:
		return c.giveUp(Nested)
	case !v.Unsent && c.Config.Criticality == Sheddable:
		return c.giveUp(Uncritical)
	case c.gone:
		return c.giveUp(Unrepeatable)
	case !v.Unsent && !c.Config.Budget.Allow():
		return c.giveUp(OverBudget)
	}
	pause := min(v.After, maxAfter)
	if c.elsewhere || v.After == AtOnce {
		pause = 0
	}
	if pause > patience && c.Config.Deadline == 0 {
		return c.giveUp(OutOfTime)
	}
	if pause == 0 && v.After != AtOnce && (!v.Unsent || c.nowhere && c.made() > 1) {
		// What was never sent has put no load on anybody, and goes elsewhere at once. A connection that was lost in
		// the wrong moment is made anew at once, too, but not again and again.
		pause = c.Config.Backoff.pause(c.made(), c.random)
	}
	if !c.fits(after(now, pause)) {
		return c.giveUp(OutOfTime)
	}
	if pause == 0 {
		return c.repeat(now)
	}
	c.wake = after(now, pause)
	return c.wait()
}

func (c *Call) reject(now time.Duration, ev *Event) Action {
	i := ev.Attempt
	if i < 0 || i >= int(c.launched) || !c.Running(i) {
		return c.wait()
	}
	c.running &^= 1 << i
	c.rejected++
	c.gone = c.gone || ev.Unrepeatable
	if c.paid>>i&1 == 1 {
		c.Config.Budget.refund()
	}
	switch {
	case c.running > 0:
		return c.wait()
	case c.pending:
		// The other attempt failed while this one was looking for an endpoint, and waited for it.
		return c.again(now)
	case ev.Unrepeatable:
		return c.giveUp(Unrepeatable)
	case ev.Refused:
		return c.giveUp(Refused)
	default:
		return c.giveUp(Unroutable)
	}
}

func (c *Call) tick(now time.Duration) Action {
	switch {
	case c.wake == 0 || now < c.wake:
		return c.wait()
	case c.running == 0:
		if !c.fits(now) {
			return c.giveUp(OutOfTime)
		}
		return c.repeat(now)
	}
	// One decision an attempt: a backup refused now is not asked for again.
	c.wake = 0
	if c.rejected == 0 && !c.refused && !c.spent() && c.fits(now) && c.Config.Budget.Take() {
		c.paid |= 1 << c.launched
		return c.launch(now, Backup)
	}
	return c.wait()
}

// after returns the time d after now, or the last there is.
func after(now, d time.Duration) time.Duration { return now + min(d, math.MaxInt64-now) }

// fits reports whether an attempt that starts at the given time can be answered before the deadline.
func (c *Call) fits(start time.Duration) bool {
	d := c.Config.Deadline
	return d == 0 || d-start >= max(time.Millisecond, c.Config.MinRemaining)
}

func (c *Call) wait() Action { return Action{Kind: Wait} }

// giveUp ends the call with the failure that came last.
func (c *Call) giveUp(why Reason) Action { return c.finish(int(c.last), why) }

func (c *Call) finish(i int, why Reason) Action {
	c.finished, c.wake = true, 0
	return Action{Kind: Finish, Attempt: i, Reason: why}
}

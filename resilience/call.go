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

// askAgain is the least time after which the budget is asked again for a backup. Thousands of calls may do so at a time.
const askAgain = 100 * time.Millisecond

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
	// as 1 ms. The first attempt is made as long as any time is left: on one host an answer takes microseconds, and
	// what is learned from answers, as MinRemaining may be, would never change if it kept all calls from being made.
	MinRemaining time.Duration
	// Backup is how long an attempt may run before another one joins it. 0 means for ever. If there is no endpoint for
	// that one, it is asked for again after so long; if the budget refuses it, after a quarter of that or 100 ms, and so on
	// as long as there is time.
	Backup time.Duration
	// Backoff is the pause before a retry.
	Backoff BackoffConfig
	// Budget pays for retries and backups. nil means no limit.
	Budget *Budget
}

// Call is the state machine of one logical call. The zero value, with Config set, is ready. It is not safe
// for concurrent use and must not be copied after the first event.
type Call struct {
	// Config is what the call may do. It must not change after the first event.
	Config CallConfig

	launched  int8  // attempts ever launched
	rejected  int8  // attempts that could not be made; no other endpoint is left for a backup then
	best      int8  // the failed attempt that is the answer if all fail, -1 if none
	running   uint8 // one bit for each attempt now running
	paid      uint8 // one bit for each attempt that the budget was asked for, and charged
	held      bool  // the budget was charged for the attempt that follows the pause
	owed      bool  // the budget is to be asked for it again
	answered  bool  // best was
	finished  bool  // Finish was returned
	refused   bool  // the server wants no other attempt
	gone      bool  // what would have to be sent again
	misled    bool  // a success was repeated
	paused    bool  // no other attempt is wanted, by the last event that could tell
	pending   bool  // what follows from the last failure is yet to be decided
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
		c.best = -1
		c.Config.Budget.request(now)
		if d := c.Config.Deadline; d > 0 && d <= now {
			return c.giveUp(OutOfTime)
		}
		return c.launch(now, First)
	case Done:
		return c.done(now, ev)
	case Rejected:
		return c.reject(now, ev)
	case Tick:
		return c.tick(now, ev.Paused)
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
	if why == Backup || c.held {
		c.paid |= 1 << i
	}
	c.launched++
	c.held, c.owed = false, false
	c.Config.Budget.started()
	c.alarm(now)
	return Action{Kind: Launch, Cause: why, Attempt: i}
}

// alarm sets the time at which a backup may be due, now that an attempt has begun or a backup did not.
func (c *Call) alarm(now time.Duration) {
	c.wake = 0
	if c.backed() && !c.refused && !c.spent() && c.roomy() {
		c.wake = after(now, c.Config.Backup)
	}
}

// backed reports whether slow attempts of the call are joined by others.
func (c *Call) backed() bool {
	g := &c.Config
	return g.Backup > 0 && g.Idempotent && !g.Nested && g.Criticality.Or(Critical) >= Critical
}

// roomy reports whether a backup that is rejected would leave places enough for the attempts that the call may yet
// make, or none was rejected yet.
func (c *Call) roomy() bool {
	return c.rejected == 0 || MaxAttempts-int(c.launched) > c.Config.Attempts-c.made()
}

// ended notes that an attempt runs no more.
func (c *Call) ended(i int) {
	c.running &^= 1 << i
	c.Config.Budget.ended(c.paid>>i&1 == 1)
}

// free reports whether an attempt that ended with a verdict worth repeating may be repeated at no cost: it was no load
// to anybody. To refuse an attempt because of overload, though, is work for the server.
func (v *Verdict) free() bool { return v.Unsent && v.Outcome != Overload }

// repeat launches an attempt after a failure.
func (c *Call) repeat(now time.Duration) Action {
	if c.verdict.free() {
		return c.launch(now, Resend)
	}
	return c.launch(now, Repeat)
}

func (c *Call) done(now time.Duration, ev *Event) Action {
	i, v := ev.Attempt, &ev.Verdict
	if i < 0 || i >= int(c.launched) || !c.Running(i) {
		return c.wait()
	}
	c.ended(i)
	if v.Outcome == Success {
		if !v.Retry || c.misled {
			return c.succeed(now, i)
		}
		c.misled = true
	} else if v.Retry && !v.free() {
		c.Config.Budget.failure(now)
	}
	c.refused, c.gone = c.refused || v.After < 0, c.gone || ev.Unrepeatable
	c.paused = ev.Paused
	if ev.Answer || !c.answered {
		c.best, c.answered = int8(i), ev.Answer
	}
	c.pending = true
	c.verdict, c.elsewhere, c.nowhere, c.random = *v, ev.Elsewhere, ev.Nowhere, ev.Random
	if c.running > 0 {
		// A failure that is early does not end a call that may yet succeed.
		return c.wait()
	}
	return c.again(now)
}

// succeed ends the call with the answer of attempt i.
func (c *Call) succeed(now time.Duration, i int) Action {
	b := c.Config.Budget
	b.success(now)
	if c.paid>>i&1 == 1 {
		b.won()
	}
	for n := bits.OnesCount8(c.running & c.paid); n > 0; n-- {
		b.lost()
	}
	return c.finish(i, Answered)
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
	case !v.free() && c.Config.Nested:
		return c.giveUp(Nested)
	case !v.free() && c.Config.Criticality == Sheddable:
		return c.giveUp(Uncritical)
	case !v.Unsent && c.Config.Criticality == Sheddable:
		return c.giveUp(Uncritical)
	case c.gone:
		return c.giveUp(Unrepeatable)
	case c.paused:
		return c.giveUp(Paused)
	}
	pause := min(v.After, maxAfter)
	if c.elsewhere || v.After == AtOnce {
		pause = 0
	}
	if pause > patience && c.Config.Deadline == 0 {
		return c.giveUp(OutOfTime)
	}
	// What was never sent has put no load on anybody, and goes elsewhere at once. A connection that was lost in the wrong
	// moment is made anew at once, too, but not again and again.
	hasty := v.free() && !(c.nowhere && c.made() > 1)
	if pause == 0 && v.After != AtOnce && !hasty {
		pause = c.jitter()
	}
	if !c.fits(after(now, pause)) {
		return c.giveUp(OutOfTime)
	}
	switch {
	case v.free():
		if c.owed = !c.Config.Budget.resend(now); c.owed { // many calls fail together: others may pay meanwhile
			pause = max(pause, c.jitter(), 1)
		}
	case !c.Config.Budget.repeat(now):
		return c.giveUp(OverBudget)
	default:
		c.held = c.Config.Budget.charges()
	}
	if pause == 0 {
		return c.repeat(now)
	}
	c.wake = after(now, pause)
	return c.wait()
}

func (c *Call) jitter() time.Duration { return c.Config.Backoff.pause(c.made(), c.random) }

func (c *Call) reject(now time.Duration, ev *Event) Action {
	i := ev.Attempt
	if i < 0 || i >= int(c.launched) || !c.Running(i) {
		return c.wait()
	}
	c.running &^= 1 << i
	c.rejected++
	c.gone, c.paused = c.gone || ev.Unrepeatable, ev.Paused
	c.Config.Budget.ended(false)
	if c.paid>>i&1 == 1 {
		c.Config.Budget.giveBack()
	}
	switch {
	case c.running > 0:
		c.alarm(now)
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

func (c *Call) tick(now time.Duration, paused bool) Action {
	switch {
	case c.wake == 0 || now < c.wake:
		return c.wait()
	case c.running == 0:
		if !c.fits(now) {
			return c.giveUp(OutOfTime)
		}
		if paused {
			return c.giveUp(Paused)
		}
		if c.owed && !c.Config.Budget.resend(now) {
			return c.giveUp(OverBudget)
		}
		return c.repeat(now)
	}
	c.wake = 0
	if c.refused || c.spent() || !c.roomy() || !c.fits(now) {
		return c.wait()
	}
	if paused || !c.Config.Budget.take(now) {
		// What others give back goes to whoever asks first, and those who hang have waited long enough.
		c.wake = after(now, max(c.Config.Backup/4, askAgain))
		return c.wait()
	}
	return c.launch(now, Backup)
}

// after returns the time d after now, or the last there is.
func after(now, d time.Duration) time.Duration { return now + min(d, math.MaxInt64-now) }

// fits reports whether an attempt that starts at the given time can be answered before the deadline.
func (c *Call) fits(start time.Duration) bool {
	d := c.Config.Deadline
	return d == 0 || d-start >= max(time.Millisecond, c.Config.MinRemaining)
}

func (c *Call) wait() Action { return Action{Kind: Wait} }

// giveUp ends the call with the best failure.
func (c *Call) giveUp(why Reason) Action { return c.finish(int(c.best), why) }

func (c *Call) finish(i int, why Reason) Action {
	c.finished, c.wake = true, 0
	if c.held {
		c.Config.Budget.giveBack()
		c.held = false
	}
	for running := c.running; running > 0; running &= running - 1 {
		c.Config.Budget.ended(c.paid>>bits.TrailingZeros8(running)&1 == 1)
	}
	return Action{Kind: Finish, Attempt: i, Reason: why}
}

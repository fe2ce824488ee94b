package resilience

import (
	"fmt"
	"time"
)

func (w *world) running() (n int) {
	for _, e := range w.log {
		if e.state == running {
			n++
		}
	}
	return n
}

func (w *world) made() (n int) {
	for _, e := range w.log {
		if e.state == running || e.state == failed {
			n++
		}
	}
	return n
}

// refused reports whether a server asked for no further attempt.
func (w *world) refused() bool {
	for _, e := range w.log {
		if e.state == failed && verdicts[e.kind].After < 0 {
			return true
		}
	}
	return false
}

// failed returns the verdict on the attempt that ended last, without a pause that there is no reason to keep.
func (w *world) failed() Verdict {
	v := verdicts[w.log[w.latest].kind]
	if v.elsewhere {
		v.After = 0
	}
	return v.Verdict
}

// misled reports whether a success was worth repeating.
func (w *world) misled() bool {
	for _, e := range w.log {
		if e.state == failed && verdicts[e.kind].Outcome == Success {
			return true
		}
	}
	return false
}

func (x *explorer) attempts() int { return min(max(x.config.Attempts, 1), MaxAttempts) }

func (x *explorer) fits(at time.Duration) bool {
	d := x.config.Deadline
	return d == 0 || d-at >= max(time.Millisecond, x.config.MinRemaining)
}

// ended counts the attempts that ended with a verdict.
func (w *world) ended() (n int8) {
	for _, e := range w.log {
		if e.state == failed {
			n++
		}
	}
	return n
}

// best returns the attempt that is to be the answer if all have failed.
func (w *world) best() int {
	best := -1
	for i, e := range w.log {
		if e.state != failed {
			continue
		}
		if best >= 0 {
			b := w.log[best]
			if answer, other := verdicts[e.kind].answer, verdicts[b.kind].answer; other && !answer || answer == other && b.end > e.end {
				continue
			}
		}
		best = i
	}
	return best
}

// free reports whether a verdict can be followed by another attempt that needs no grant.
func free(v Verdict) bool { return v.Unsent && v.Outcome != Overload }

// held counts the grants that attempts run on, or will after the present pause.
func (x *explorer) held(w *world) (n int64) {
	if w.over {
		return 0
	}
	for _, e := range w.log {
		if e.state == running && (e.cause == Backup || e.cause == Repeat) {
			n++
		}
	}
	return n + w.promised()
}

// promised counts the grant for the attempt that follows the present pause.
func (w *world) promised() int64 {
	if w.running() == 0 && !w.over && w.latest >= 0 && !free(w.failed()) {
		return 1
	}
	return 0
}

// granted reports whether the budget lets an attempt be repeated that was paid for, or joined.
func (x *explorer) granted(f funds) bool {
	b := x.budget
	switch {
	case b == nil:
		return true
	case b.kind == kindRatio:
		return f.calls+b.floor >= milli
	case b.kind == kindConcurrent:
		return (f.extra+1)*milli <= max(b.floor, f.active*b.ratio)
	default:
		return f.tokens > b.half
	}
}

func (x *explorer) checkLaunch(before, w *world, m move, act Action) error {
	switch {
	case act.Attempt != before.call.Launched():
		return fmt.Errorf("attempt %d follows %d others", act.Attempt, before.call.launched)
	case act.Attempt >= MaxAttempts || w.made() >= x.attempts():
		return fmt.Errorf("more than %d attempts", x.attempts())
	case m.ev.Kind == Begin:
		if act.Cause != First {
			return fmt.Errorf("wrong cause")
		}
		return nil
	case !x.fits(m.at):
		return fmt.Errorf("launch with %v left", x.config.Deadline-m.at)
	case w.refused():
		return fmt.Errorf("launch against the will of the server")
	}
	for i, e := range w.log {
		if e.state == idle || e.state == rejected || x.config.Idempotent && !x.config.Nested {
			continue
		}
		if v := verdicts[e.kind].Verdict; e.state != failed || !v.Unsent || x.config.Nested && !free(v) {
			return fmt.Errorf("second execution: attempt %d may have been sent", i)
		}
	}
	if before.running() > 0 && m.ev.Kind == Tick {
		if act.Cause != Backup || x.config.Criticality.Or(Critical) < Critical || x.config.Backup == 0 || m.at < before.wake || !x.granted(before.funds) || before.rejected() && !before.roomy(x) {
			return fmt.Errorf("illegal backup")
		}
		return nil
	}
	v := w.failed()
	if x.config.Criticality == Sheddable && !free(v) {
		return fmt.Errorf("retry of what is sheddable")
	}
	switch {
	case free(v) && act.Cause != Resend, !free(v) && act.Cause != Repeat:
		return fmt.Errorf("wrong cause")
	case w.running() > 0:
		return fmt.Errorf("retry beside a running attempt")
	case x.config.NoRetry || !v.Retry:
		return fmt.Errorf("useless retry")
	case free(v) && before.funds.resends == 0 && x.budget != nil:
		return fmt.Errorf("free for ever")
	case !free(v) && m.ev.Kind != Tick && !x.granted(x.asked(before, w, m)):
		return fmt.Errorf("retry over budget")
	case m.ev.Kind == Tick && m.at < before.wake:
		return fmt.Errorf("retry before the end of the pause")
	case v.After > 0 && m.ev.Kind != Tick:
		return fmt.Errorf("no pause although the server asked for %v", v.After)
	}
	return nil
}

// asked returns the funds as they were when a retry was asked for in a step that may have spent some since.
func (x *explorer) asked(before, w *world, m move) funds {
	if x.budget == nil || x.budget.funded() {
		return w.funds
	}
	f, c := before.funds, before.log[m.ev.Attempt].cause
	f.active--
	if c == Repeat || c == Backup {
		f.extra--
		if m.ev.Kind == Rejected {
			f.calls += milli
		}
	}
	return f
}

// roomy reports whether there is a place for another backup that may be rejected, without taking that of a retry.
func (w *world) roomy(x *explorer) bool {
	return MaxAttempts-w.call.Launched() > x.config.Attempts-w.made()
}

func (w *world) rejected() bool {
	for _, e := range w.log {
		if e.state == rejected {
			return true
		}
	}
	return false
}

func (x *explorer) checkFinish(before, w *world, m move, act Action) error {
	if (act.Reason == Canceled) != (m.ev.Kind == Cancel) {
		return fmt.Errorf("wrong reason")
	}
	if m.ev.Kind == Cancel {
		if act.Attempt != -1 {
			return fmt.Errorf("answer for a caller that went away")
		}
		return nil
	}
	won := m.ev.Kind == Done && m.ev.Verdict.Outcome == Success && act.Reason == Answered
	if want := w.best(); !won && act.Attempt != want || won && act.Attempt != m.ev.Attempt {
		return fmt.Errorf("attempt %d is the best failure, not %d", want, act.Attempt)
	}
	if w.running() > 0 && !won {
		return fmt.Errorf("gives up although %d attempts run", w.running())
	}
	if w.latest < 0 && m.ev.Kind == Begin {
		if act.Reason != OutOfTime || x.config.Deadline == 0 || m.at < x.config.Deadline {
			return fmt.Errorf("no attempt although there is time")
		}
		return nil
	}
	if w.latest < 0 {
		if want := map[bool]Reason{false: Unroutable, true: Unrepeatable}[m.ev.Unrepeatable]; act.Reason != want {
			return fmt.Errorf("wrong reason")
		}
		return nil
	}
	v := w.failed()
	var right bool
	switch act.Reason {
	case Answered:
		right = won || !v.Retry
	case Declined:
		right = v.Retry && w.refused()
	case Nested:
		right = x.config.Nested && !free(v)
	case Uncritical:
		right = x.config.Criticality == Sheddable && !free(v)
	case Exhausted:
		right = x.config.NoRetry || w.made() >= x.attempts() || w.call.launched == MaxAttempts
	case Unsafe:
		right = !x.config.Idempotent && !v.Unsent
	case OverBudget:
		right = free(v) && w.funds.resends == 0 || !free(v) && !x.granted(x.asked(before, w, m))
	case OutOfTime:
		right = !x.fits(m.at+max(min(v.After, maxAfter), 250*time.Millisecond)) ||
			v.After > patience && x.config.Deadline == 0
	case Unroutable:
		right = m.ev.Kind == Rejected && !m.ev.Unrepeatable
	case Unrepeatable:
		right = w.call.gone
	case Paused:
		right = m.ev.Paused
	}
	if !right {
		return fmt.Errorf("wrong reason: %v", act.Reason)
	}
	return nil
}

func (x *explorer) checkWait(before, w *world, m move) error {
	if w.running() == 0 && w.wake == 0 {
		return fmt.Errorf("stuck")
	}
	if v := m.ev.Verdict; m.ev.Kind == Done && v.Outcome == Success && (!v.Retry || before.misled()) {
		return fmt.Errorf("a success does not end the call")
	}
	if m.ev.Kind == Tick && before.wake > 0 && m.at >= before.wake && w.call == before.call {
		return fmt.Errorf("a tick in time changes nothing")
	}
	if w.running() > 0 || before.running() == 0 {
		return nil
	}
	v, pause := w.failed(), w.wake-m.at
	interval := 25 * time.Millisecond << (w.made() - 1)
	switch {
	case v.After > 0 && pause != min(v.After, maxAfter):
		return fmt.Errorf("pause of %v, not the %v that the server asked for", pause, v.After)
	case v.After == 0 && (pause <= 0 || pause > min(interval, 250*time.Millisecond)):
		return fmt.Errorf("pause of %v, not up to %v", pause, interval)
	case !x.fits(w.wake):
		return fmt.Errorf("pause beyond the deadline")
	}
	return nil
}

// checkState checks what holds after every step: the counters agree with the log, and the budget was paid.
func (x *explorer) checkState(before, w *world, m move, valid bool, act Action) error {
	if w.call.Active() != w.running() {
		return fmt.Errorf("%d attempts run, not %d", w.running(), w.call.Active())
	}
	for i, e := range w.log {
		if w.call.Running(i) != (e.state == running) {
			return fmt.Errorf("attempt %d: Running() = %v", i, w.call.Running(i))
		}
	}
	if x.budget == nil {
		return nil
	}
	if want := x.account(before, w, m, valid, act); w.funds != want {
		return fmt.Errorf("%+v left of %+v, want %+v", w.funds, before.funds, want)
	}
	return nil
}

// account returns what is to be left of the budget after a step.
func (x *explorer) account(before, w *world, m move, valid bool, act Action) funds {
	b, f, v := x.budget, before.funds, m.ev.Verdict
	won := valid && m.ev.Kind == Done && v.Outcome == Success && (!v.Retry || before.misled())
	if won {
		f.resends = min(b.resendLimit.Load(), f.resends+resendRatio)
	} else if act.Kind == Launch && act.Cause == Resend {
		f.resends -= milli
	}
	switch {
	case b.kind == kindRatio:
		if m.ev.Kind == Begin && before.call.launched == 0 && !before.over {
			f.calls += b.ratio
		}
		f.calls -= milli * (x.held(w) - x.held(before))
		if !before.over { // what ended has used its grant up
			for i, e := range before.log {
				if e.state == running && (e.cause == Backup || e.cause == Repeat) && (w.over && w.log[i].state == running || w.log[i].state == failed) {
					f.calls -= milli
				}
			}
		}
		return f
	case b.kind == kindConcurrent:
		f.extra, f.active = x.held(w), int64(w.running())
		if w.over {
			f.active = 0
		}
		return f
	case before.over:
	case won:
		f.tokens = min(b.limit.Load(), f.tokens+b.ratio)
		if b.kind == kindGRPC {
			break
		}
		if before.log[m.ev.Attempt].cause == Backup {
			f.tokens = min(b.limit.Load(), f.tokens+milli)
		}
		for i, e := range before.log {
			if i != m.ev.Attempt && e.state == running && e.cause == Backup {
				f.tokens = max(0, f.tokens-milli)
			}
		}
	case valid && m.ev.Kind == Done && v.Outcome != Success && v.Retry && !free(v):
		f.tokens = max(0, f.tokens-milli)
	case valid && m.ev.Kind == Rejected && before.log[m.ev.Attempt].cause == Backup:
		f.tokens = min(b.limit.Load(), f.tokens+milli)
	case act.Kind == Launch && act.Cause == Backup:
		f.tokens = max(0, f.tokens-milli)
	}
	return f
}

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

// granted reports whether the budget lets an attempt be repeated at the given level.
func (x *explorer) granted(tokens int64) bool { return x.budget == nil || tokens > x.budget.size/2 }

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
		if (!x.config.Idempotent || x.config.Nested) && e.state != idle && (e.state != failed || !verdicts[e.kind].Unsent) {
			return fmt.Errorf("second execution: attempt %d may have been sent", i)
		}
	}
	if before.running() > 0 && m.ev.Kind == Tick {
		if act.Cause != Backup || x.config.Backup == 0 || m.at < before.wake || !x.granted(before.tokens) || before.rejected() {
			return fmt.Errorf("illegal backup")
		}
		return nil
	}
	v := w.failed()
	switch {
	case v.Unsent && act.Cause != Resend, !v.Unsent && act.Cause != Repeat:
		return fmt.Errorf("wrong cause")
	case w.running() > 0:
		return fmt.Errorf("retry beside a running attempt")
	case x.config.NoRetry || !v.Retry:
		return fmt.Errorf("useless retry")
	case !v.Unsent && m.ev.Kind == Done && !x.granted(w.tokens):
		return fmt.Errorf("retry over budget")
	case m.ev.Kind == Tick && m.at < before.wake:
		return fmt.Errorf("retry before the end of the pause")
	case v.After > 0 && m.ev.Kind != Tick:
		return fmt.Errorf("no pause although the server asked for %v", v.After)
	}
	return nil
}

func (w *world) rejected() bool {
	for _, e := range w.log {
		if e.state == rejected {
			return true
		}
	}
	return false
}

func (x *explorer) checkFinish(w *world, m move, act Action) error {
	if (act.Reason == Canceled) != (m.ev.Kind == Cancel) {
		return fmt.Errorf("wrong reason")
	}
	if m.ev.Kind == Cancel {
		if act.Attempt != -1 {
			return fmt.Errorf("answer for a caller that went away")
		}
		return nil
	}
	if act.Attempt != int(w.latest) {
		return fmt.Errorf("attempt %d ended last, not %d", w.latest, act.Attempt)
	}
	won := m.ev.Kind == Done && m.ev.Verdict.Outcome == Success
	if w.running() > 0 && !won {
		return fmt.Errorf("gives up although %d attempts run", w.running())
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
		right = x.config.Nested && x.config.Idempotent && !v.Unsent
	case Exhausted:
		right = x.config.NoRetry || w.made() >= x.attempts() || w.call.launched == MaxAttempts
	case Unsafe:
		right = !x.config.Idempotent && !v.Unsent
	case OverBudget:
		right = !x.granted(w.tokens)
	case OutOfTime:
		right = !x.fits(m.at+max(min(v.After, maxAfter), 250*time.Millisecond)) ||
			v.After > patience && x.config.Deadline == 0
	case Unroutable:
		right = m.ev.Kind == Rejected && !m.ev.Unrepeatable
	case Unrepeatable:
		right = w.call.gone
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
	want := before.tokens
	switch v := m.ev.Verdict; {
	case before.over:
	case valid && m.ev.Kind == Done && v.Outcome == Success && (!v.Retry || before.misled()):
		want = min(x.budget.size, want+x.budget.ratio)
	case valid && m.ev.Kind == Done && v.Outcome != Success && v.Retry && !v.Unsent:
		want = max(0, want-milli)
	case valid && m.ev.Kind == Rejected && before.log[m.ev.Attempt].backup:
		want = min(x.budget.size, want+milli)
	case m.ev.Kind == Tick && act.Kind == Launch && before.running() > 0:
		want = max(0, want-milli)
	}
	if w.tokens != want {
		return fmt.Errorf("%d tokens left of %d, want %d", w.tokens, before.tokens, want)
	}
	return nil
}

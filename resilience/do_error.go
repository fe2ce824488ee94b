package resilience

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Error is the error of a call by Do that failed. errors.Is and errors.As find the cause.
type Error struct {
	// Reason says what ended the attempts. It is Refused if a stage refused the call or its last attempt.
	Reason Reason
	// Attempts are those made, in the order in which they began.
	Attempts []AttemptRecord
	// After is when a stage that refused the call is likely to let one pass, counted from the error. 0 means that it is not
	// known.
	After time.Duration
	// Err is the error of the last attempt, why none was made (ErrRateLimited, ErrLimited, ErrThrottled, ErrBreakerOpen), or that of the
	// caller's context.
	Err error
}

// AttemptRecord is what became of one attempt, or what had when the call ended.
type AttemptRecord struct {
	// Cause says why the attempt was made.
	Cause Cause
	// Outcome is its class: Neutral while it runs.
	Outcome Outcome
	// Running says that it had not returned when the call ended.
	Running bool
	// Start is when it began, counted from the start of the call.
	Start time.Duration
	// Duration is how long it took, or had taken when the call ended.
	Duration time.Duration
	// Err is its error.
	Err error
}

// Error says why the call failed, after how many attempts.
func (e *Error) Error() string {
	if len(e.Attempts) == 0 && e.Err != nil {
		return e.Err.Error()
	}
	var b strings.Builder
	b.WriteString("resilience: ")
	switch {
	case e.Reason == Answered, e.Reason == Exhausted && len(e.Attempts) == 1:
		b.WriteString("failed")
	case e.Reason == Refused:
		b.WriteString("refused")
	case e.Reason == Canceled && len(e.Attempts) < 2 && e.Err != nil: // it says so itself
		return b.String() + bare(e.Err)
	default:
		b.WriteString(e.Reason.String())
	}
	if n := len(e.Attempts); n > 1 {
		fmt.Fprintf(&b, " after %d attempts", n)
	}
	if e.Err != nil {
		b.WriteString(": " + bare(e.Err))
	}
	return b.String()
}

// bare returns the text of an error without the prefix of this package, which it has once.
func bare(err error) string { return strings.TrimPrefix(err.Error(), "resilience: ") }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the cause is a timeout, as net.Error has it.
func (e *Error) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

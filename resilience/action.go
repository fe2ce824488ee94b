package resilience

// ActionKind says what a driver has to do.
type ActionKind uint8

const (
	// Wait for the next event, and send Tick at Call.Wake unless that is zero.
	Wait ActionKind = iota
	// Launch attempt Action.Attempt, then wait like Wait.
	Launch
	// Finish the call with the answer of attempt Action.Attempt, -1 if there is none, for Action.Reason.
	// Attempts still running are to be cancelled and their answers discarded. The first success is the answer. If all
	// attempts failed, it is the last one that was answered by the service: what that said, be it that it is broken,
	// tells a caller more than that a connection broke. If none was, it is the last of all.
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
	// longer than that. Those that have none left when they begin make no attempt at all.
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
	// Injected calls were made to fail on purpose, before their first attempt.
	Injected
	// Fixed calls got an answer that their route has for all of them, and made no attempt.
	Fixed
	// Paused calls would have been repeated, had somebody not wanted first attempts only; see Event.Paused.
	Paused
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
	case Injected:
		return "fault injected"
	case Fixed:
		return "fixed response"
	case Paused:
		return "retries paused"
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
	// Resend follows an attempt that the server has provably not begun to work on, for another reason than overload.
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

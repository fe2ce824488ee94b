package resilience

import "time"

// Outcome is the class of one attempt. It is decided once and used by all: load balancing, breaker,
// budget and telemetry never disagree about what happened.
type Outcome uint8

const (
	// Success is an answer of the service, including answers that tell the caller that he is wrong (4xx).
	Success Outcome = iota
	// Failure is a broken endpoint: it could not be reached, did not answer in time or failed itself.
	Failure
	// Overload is an endpoint that says that it has too much to do (429, 503 with Retry-After,
	// RESOURCE_EXHAUSTED). Traffic goes elsewhere for a while, but nothing is broken.
	Overload
	// Neutral says nothing about the endpoint: the caller went away, a backup was faster, or the attempt
	// was rejected before it began.
	Neutral
)

// String returns the lower-case name of the outcome.
func (o Outcome) String() string {
	switch o {
	case Success:
		return "success"
	case Failure:
		return "failure"
	case Overload:
		return "overload"
	case Neutral:
		return "neutral"
	default:
		return "unknown"
	}
}

// Verdict is what the end of an attempt means for the rest of the call.
type Verdict struct {
	// Outcome is the class of the attempt.
	Outcome Outcome
	// Retry says that another attempt may do better. Whether it is also safe is decided by Call. A Success,
	// which is an answer after all, is repeated once at most.
	Retry bool
	// Unsent says that the server has provably not begun to work on the attempt: nothing was connected,
	// nothing was written, or the server said so. Repeating it is safe for every call. It costs none of the budget unless
	// the outcome is Overload: a server that refuses an attempt for that reason is not to get more of them.
	Unsent bool
	// After is the pause the server asked for before another attempt. 0 means that it did not say, AtOnce that it
	// asked for none, a negative value that it wants no other attempt. More than a minute counts as a minute.
	After time.Duration
}

// AtOnce is the Verdict.After of a server that lets another attempt follow without a pause.
const AtOnce = time.Nanosecond

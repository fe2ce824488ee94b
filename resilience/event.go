package resilience

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
	// Answer says that the service answered, be it with a failure, so that the caller can be given that. Without it the
	// attempt ended with an error. Used by Done.
	Answer bool
	// Unrepeatable says that what would have to be sent again is not there any more. Used by Done and Rejected.
	Unrepeatable bool
	// Refused says that the client refused the attempt. Used by Rejected.
	Refused bool
	// Paused says that nothing but first attempts is wanted at present: the call ends with what it has, and backups wait. Used by
	// Done, Rejected and Tick.
	Paused  bool
	Attempt int
	Verdict Verdict
	// Random is a random word for the jitter of the next pause. Used by Done.
	Random uint64
}

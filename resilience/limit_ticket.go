package resilience

import (
	"errors"
	"math"
	"time"
)

// ErrLimited says that a call was refused by a Limit. Errors of Limit are a *LimitedError, which says why.
var ErrLimited = errors.New("resilience: too much in flight")

// Admission is what becomes of a Ticket.
type Admission uint8

const (
	// Admitted tickets are in flight until they Leave.
	Admitted Admission = iota
	// Queued tickets wait, and are told.
	Queued
	// Full means that there was no place for the ticket, neither in flight nor in the queue.
	Full
	// Late means that too little time is left to the ticket: less than Expected, or less than that and the time that it
	// would probably have to wait.
	Late
	// Evicted means that the ticket was queued and gave its place to one that is more critical or, under pressure, newer.
	Evicted
	// Expired means that the ticket has waited for LimitConfig.MaxWait.
	Expired
)

// Refused reports whether the ticket is neither in flight nor queued.
func (a Admission) Refused() bool { return a > Queued }

// String returns the admission in words.
func (a Admission) String() string {
	switch a {
	case Admitted:
		return "admitted"
	case Queued:
		return "queued"
	case Full:
		return "no place left"
	case Late:
		return "too little time left"
	case Evicted:
		return "gave way to others"
	case Expired:
		return "waited too long"
	}
	return "unknown"
}

// LimitedError is the error of a call that a Limit refused. errors.Is finds ErrLimited.
type LimitedError struct {
	// Admission says why.
	Admission Admission
	// After is when a place is likely to be free, by how long calls take now; 0 if that is not known.
	After time.Duration
}

// Error returns the reason in words.
func (e *LimitedError) Error() string { return ErrLimited.Error() + ": " + e.Admission.String() }

// Is reports whether target is ErrLimited.
func (e *LimitedError) Is(target error) bool { return target == ErrLimited }

// Ticket is one call under a Limit. The exported fields are set before Enter, and not changed before the ticket has left
// or was refused; then the ticket may be used again, with the same Limit or another one. It must not be copied meanwhile.
type Ticket struct {
	// Criticality decides who waits, who goes first, and who gives way. Unspecified counts as Critical.
	Criticality Criticality
	// Deadline is when nobody waits for the answer any more, on the clock of now. 0 means never.
	Deadline time.Duration
	// Expected is how long the call is likely to take, such as the median of calls like it: with less time left it is not
	// worth to begin. 0 means that nothing is known; it is worth it then while any time is left.
	Expected time.Duration
	// Told is called once when a ticket that was Queued is Admitted or refused, unless Cancel returned true. It is called
	// outside the lock of the Limit, by whoever made room or noticed that time is up, and must neither block nor panic. A
	// ticket whose Cancel returned false must not be entered again before. It may be nil: then somebody has to Wait.
	Told func(now time.Duration, a Admission)

	signal   chan Admission // to Wait, nil if there is Told
	entered  time.Duration
	admitted time.Duration
	expiry   time.Duration // when it stops to wait
	prev     *Ticket       // in the queue of its level
	next     *Ticket
	place    int    // among the expiries, one more than the index; 0 if it is not there
	epoch    uint32 // of the limit when it was admitted
	level    level
	state    ticketState
	probe    bool      // of that epoch
	reason   Admission // at expiry
}

type ticketState uint8

const (
	outside ticketState = iota
	waiting
	inside
)

// Waited returns how long a ticket that was admitted had to wait for that.
func (t *Ticket) Waited() time.Duration { return t.admitted - t.entered }

// Expiry returns when a ticket that was Queued is refused if it still waits then, 0 if never.
func (t *Ticket) Expiry() time.Duration {
	if t.expiry == math.MaxInt64 {
		return 0
	}
	return max(t.expiry, 1)
}

// late reports whether too little time is left after waiting for d.
func (t *Ticket) late(now, d time.Duration) bool {
	return t.Deadline != 0 && t.Deadline-now < max(t.Expected, 1)+d
}

// level is a Criticality as an index, from the least critical on.
type level uint8

const levels = 4

func levelOf(c Criticality) level {
	return level(min(c.Or(Critical), CriticalPlus) - Sheddable)
}

package loadbalance

import "time"

// EventKind is what has happened to a node, or to all of a service.
type EventKind uint8

const (
	// Ejected nodes are out of service until Event.Until, for Event.Cause.
	Ejected EventKind = iota + 1
	// Spared nodes would have been ejected, had not too many been already.
	Spared
	// Returned nodes are back: a probe succeeded, an ejection was cut short, or nobody ejects any more. With Operator as the Cause
	// an operator has taken them out meanwhile.
	Returned
	// PanicBegan says that so many nodes are out of service that picks take no account of it.
	PanicBegan
	// PanicEnded says that they do again.
	PanicEnded
	// BreakerOpened, BreakerHalfOpened and BreakerClosed are the changes of the circuit breaker of a node.
	BreakerOpened
	BreakerHalfOpened
	BreakerClosed
	// TakenOut nodes get no more picks until Event.Until because an operator said so.
	TakenOut
	// PutBack nodes are no longer taken out.
	PutBack
	// SpillBegan and SpillEnded say that calls leave the first zone or priority because it cannot carry them, Event.Value of them from 0
	// to 1, and that they stay again.
	SpillBegan
	SpillEnded
)

// Cause is why a node was ejected.
type Cause uint8

const (
	// NoCause is that of other events.
	NoCause Cause = iota
	// Consecutive failures in a row: Event.Value of them, the bound is Event.Bound.
	Consecutive
	// FailureShare of the responses within the window: Event.Value, more than Event.Bound.
	FailureShare
	// Deviation of the success rate Event.Value, below Event.Bound, which the siblings set.
	Deviation
	// SlowResponses of Event.Value seconds on average, more than Event.Bound.
	SlowResponses
	// Silence: attempts in a row that were given up after a long time without an answer. Value and Bound as for Consecutive.
	Silence
	// ProbeFailed says that the probe of an ejected node failed. Event.Value is how many ejections there were in a row.
	ProbeFailed
	// Operator says that somebody wanted it so.
	Operator
)

// Event tells of a change in what picks take into account.
type Event struct {
	Kind  EventKind
	Cause Cause
	// Addr and Zone are those of the node; empty if the event is about the service.
	Addr, Zone string
	// Time is when it happened, and Until when it is to end by itself, zero if that is not known.
	Time, Until time.Time
	// Value is what was found, and Bound what it was held against; see Cause.
	Value, Bound float64
	// Out is how many of the Nodes of the service are out of service when it is told.
	Out, Nodes int
	// Lost is how many events before this one were not told, because more than 1,024 waited for an observer that took its time.
	Lost int
}

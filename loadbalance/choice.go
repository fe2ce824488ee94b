package loadbalance

import "time"

// MaxCompared is how many endpoints a Choice can name: those that a picker compared, and the one it came to if that is another.
const MaxCompared = 4

// Removal says why an endpoint was out of the question for a pick.
type Removal uint8

const (
	// NotRemoved endpoints could have been picked.
	NotRemoved Removal = iota
	// LeftOut endpoints belong to the part of the service that Subset keeps this client away from.
	LeftOut
	// NotSelected endpoints have not the metadata, or are not in the lane, that the call asks for.
	NotSelected
	// NotConnected endpoints had no connection that was ready.
	NotConnected
	// NotHealthy endpoints are draining, degraded and so on by their source, which calls others healthy, or have just left it.
	NotHealthy
	// OtherLevel endpoints have another priority or are in another zone than the one that the pick was for.
	OtherLevel
	// OutEjected endpoints were ejected.
	OutEjected
	// OutFailing endpoints failed their active health checks.
	OutFailing
	// OutByHand endpoints were taken out by an operator.
	OutByHand
	// BreakerRejects endpoints have an open circuit breaker.
	BreakerRejects
	// AtLimit endpoints had as many attempts in flight as they may.
	AtLimit
	// Tried endpoints were tried by the call before.
	Tried
	// UnderPenalty endpoints had just failed or asked for a pause, and the pick was to pass over such.
	UnderPenalty

	// What follows is found only among Choice.Compared.

	// Busiest endpoints have so much in flight that Prequal takes none of them, or more than HashConfig.Bound allows.
	Busiest
	// WarmingUp endpoints are in their slow start, and were not yet due so many calls.
	WarmingUp

	// Removals is the number of the above.
	Removals
)

// How says which rule of a pick had the last word.
type How uint8

const (
	// HowNone is that of a pick that failed.
	HowNone How = iota
	// HowCompared is the best of the endpoints that were compared.
	HowCompared
	// HowDrawn was drawn at random, was next in order, or was the only one.
	HowDrawn
	// HowHashed follows from the key of the call.
	HowHashed
	// HowBound is the endpoint that the call is bound to: its session, or CallOptions.Node.
	HowBound
	// HowProbe is the probe of an endpoint whose ejection is over.
	HowProbe
	// HowElsewhere was found when the pick of the algorithm could take no attempt.
	HowElsewhere
	// HowLastResort was taken although nothing was usable.
	HowLastResort
)

// Candidate is an endpoint that a pick looked at.
type Candidate struct {
	// Addr and Zone are those of the endpoint.
	Addr, Zone string
	// Score is what was compared: the least wins of those that were not Removed. It is that of the algorithm: for PeakEWMA the
	// seconds that what is in flight is expected to take, by weight; for Prequal the latency that the endpoint reports, in seconds;
	// for LeastRequest the attempts in flight with this one, by weight; for UtilizationRoundRobin the part of a turn that it was
	// short of. 0 where nothing is compared.
	Score float64
	// Cost is the learned latency, 0 if there is none.
	Cost time.Duration
	// InFlight is how many attempts were in flight, before this one; for Prequal as the endpoint reports it.
	InFlight int32
	// Weight is the endpoint's share; 0 counts as 1.
	Weight uint32
	// Removed says why it could not be picked.
	Removed Removal
	// Picked says that the attempt goes there.
	Picked bool
}

// Choice is how a pick came about. It is of a fixed size and holds on to no Node.
type Choice struct {
	// Nodes is how many endpoints the service had, and Removed how many of them were out of the question, each counted under the
	// first reason of the list that applies. Under NotRemoved are the others, so that all together are Nodes.
	Nodes   int32
	Removed [Removals]int32
	// Compared are the endpoints that the picker compared, in the order in which it looked at them, with the one it came to at
	// the end if that is another; N is how many. Of more than there is room for they are the best. Seen is how many were compared.
	Compared [MaxCompared]Candidate
	N, Seen  uint8
	// How says which rule had the last word.
	How How
	// Level is the rank, from 0, of the priority and zone that the pick was for, of so many Levels that have endpoints.
	Level, Levels uint8
	// Panicking says that ejections and failed checks were ignored, because too few endpoints were left.
	Panicking bool
	// Random and Draw are the random words by which the picker and the level chose, 0 if they drew none: a Balancer whose Config.Rand
	// returns them, in this order, chooses the same in the same state. Schedules, as of WeightedRoundRobin, have none: where one begins
	// was drawn before, for all picks.
	Random, Draw uint64
}

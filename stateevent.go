package zerohop

import (
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// StateKind is what a StateEvent tells of. The values are fixed words, fit for labels.
type StateKind string

const (
	// What happens to endpoints, and to all endpoints of a service together: see the loadbalance.EventKind of the same name.
	StateEjected           StateKind = "ejected"
	StateSpared            StateKind = "spared"
	StateReturned          StateKind = "returned"
	StatePanicBegan        StateKind = "panic_began"
	StatePanicEnded        StateKind = "panic_ended"
	StateBreakerOpened     StateKind = "breaker_opened"
	StateBreakerHalfOpened StateKind = "breaker_half_opened"
	StateBreakerClosed     StateKind = "breaker_closed"
	StateSpillBegan        StateKind = "spill_began"
	StateSpillEnded        StateKind = "spill_ended"
	// StateBudgetEmpty tells that the retry budget of a service refused a retry, StateBudgetRestored that it pays again for half.
	StateBudgetEmpty    StateKind = "budget_empty"
	StateBudgetRestored StateKind = "budget_restored"
	// StateShedding tells that a stage of the client began to refuse calls or attempts of the service, StateShedEnded that it has
	// refused none for ten seconds. Cause is the Stage.
	StateShedding  StateKind = "shedding"
	StateShedEnded StateKind = "shedding_ended"
	// What an operator did, and what ended because its time was up: By says who.
	StateOperator      StateKind = "operator"
	StateOperatorEnded StateKind = "operator_ended"
)

// StateEvent tells of a change of what calls depend on. As JSON it is as State is.
type StateEvent struct {
	Kind StateKind `json:"kind"`
	// Addr and Zone are those of the endpoint, empty if it is about the service.
	Addr string `json:"addr,omitempty"`
	Zone string `json:"zone,omitempty"`
	// Cause is why, in fixed words: of ejections "consecutive", "failure share", "deviation", "slow", "silence", "probe failed",
	// "operator"; of StateShedding the Stage; of operators the Action.
	Cause string `json:"cause,omitempty"`
	// To is the state that a breaker was forced to, empty for other events.
	To resilience.BreakerState `json:"to,omitempty"`
	// Time is when it happened and Until when it ends by itself, zero if that is not known.
	Time  time.Time `json:"time"`
	Until time.Time `json:"until,omitzero"`
	// Value is what was found and Bound what it was held against, as loadbalance.Event has them.
	Value float64 `json:"value,omitempty"`
	Bound float64 `json:"bound,omitempty"`
	// Out is how many of the Endpoints of the service are out of service now: ejected, taken out, failing their checks, or with an open
	// breaker.
	Out       int `json:"out,omitempty"`
	Endpoints int `json:"endpoints,omitempty"`
	// By is who did it, empty if nobody but the mesh did, and Why what they said: see Operation.
	By  string `json:"by,omitempty"`
	Why string `json:"why,omitempty"`
	// Lost is how many events of the service before this one were not told, because about 1,000 waited for a hook that took its time.
	Lost int `json:"lost,omitempty"`
}

// causeOf returns the words of a loadbalance.Cause.
func causeOf(c loadbalance.Cause) string {
	switch c {
	case loadbalance.Consecutive:
		return "consecutive"
	case loadbalance.FailureShare:
		return "failure share"
	case loadbalance.Deviation:
		return "deviation"
	case loadbalance.SlowResponses:
		return "slow"
	case loadbalance.Silence:
		return "silence"
	case loadbalance.ProbeFailed:
		return "probe failed"
	case loadbalance.Operator:
		return "operator"
	default:
		return ""
	}
}

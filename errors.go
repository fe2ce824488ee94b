package zerohop

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// ErrClosed is returned for calls on a Mesh that was closed.
var ErrClosed = errors.New("zerohop: mesh is closed")

// Reason says why a call failed.
type Reason string

const (
	// NoEndpoints means that the service is unknown, has no endpoints, or none that the call may go to
	// (loadbalance.ErrNoNode, ErrNoMatch), or that its source could not be asked; Err says which.
	NoEndpoints Reason = "no endpoints"
	// Unavailable means that all endpoints are rejected by their circuit breakers.
	Unavailable Reason = "all endpoints unavailable"
	// RateLimited means that more calls began than Policy.RateLimit allows.
	RateLimited Reason = "rate limited"
	// Limited means that as many calls are in flight as may be.
	Limited Reason = "limited"
	// Throttled means that the service refuses so many attempts that this one was not even sent.
	Throttled Reason = "throttled"
	// BreakerOpen means that the circuit breaker of the service is open.
	BreakerOpen Reason = "breaker open"
	// Failed means that the last attempt failed and no other was made, because it would not have helped, the
	// call is not safe to repeat, or no attempts, budget or time were left; Detail says which.
	Failed Reason = "failed"
	// Injected means that a fault of the route (routing.Fault.Abort) made the call fail before anything was sent; Err is a
	// *RouteError.
	Injected Reason = "fault injected"
	// Fixed means that the route has a fixed response for the call, which Do has no use for; Err is a *RouteError.
	Fixed Reason = "fixed response"
	// Unrewritable means that what the route makes of the request cannot be sent, such as an ambiguous path; Err says why.
	Unrewritable Reason = "cannot be rewritten"
	// Closed means that the mesh was closed.
	Closed Reason = "mesh closed"
	// Ended means that the caller cancelled the call, or that its deadline or the Policy.Timeout passed; Err says which.
	Ended Reason = "ended by caller"
)

// Error is the error of every call that failed in zerohop or below it. Use errors.As to get at it; errors.Is
// finds the cause, context errors included.
type Error struct {
	// Service is the service the call went to.
	Service string
	// Reason says why the call failed, and Detail what ended the attempts.
	Reason Reason
	Detail resilience.Reason
	// Attempts are all attempts in the order in which they began.
	Attempts []AttemptRecord
	// Sent is false if the service provably has not begun to work on the call.
	Sent bool
	// After is when to come again, counted from the error, if the call was refused by a limit, by throttling or by circuit
	// breakers. 0 means that it is not known.
	After time.Duration
	// Err is the cause: the error of the last attempt, or what prevented one.
	Err error
	// Explanation is the record of how it came about, nil if the call is not explained; see Policy.Explain.
	Explanation *Explanation
}

// AttemptRecord is what became of one attempt, or what has so far.
type AttemptRecord struct {
	// Addr is the endpoint, empty if none was chosen or the client refused the call itself.
	Addr string
	// Cause says why the attempt was made.
	Cause resilience.Cause
	// Running says that the attempt has neither an answer nor an error yet. One that was given up may go on for a
	// moment.
	Running bool
	// Start is when the attempt began, counted from the start of the call.
	Start time.Duration
	// Duration is the time until the answer or the error, or the time so far.
	Duration time.Duration
	// Outcome is the class of the attempt: Neutral while it runs.
	Outcome resilience.Outcome
	// Status is the HTTP status or the gRPC code of the answer, -1 if there is none.
	Status int
	// Resends is how often the base transport of an HTTP client sent the request again by itself.
	Resends int
	// Network is over what the endpoint was reached.
	Network Network
	// Err is the error of the attempt, nil if there was an answer.
	Err error
}

// Error describes the failure with every attempt and its endpoint.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "zerohop: %s: %s", e.Service, e.Reason)
	if e.Reason == Failed && e.Detail != resilience.Answered { // the error may be the caller's own
		fmt.Fprintf(&b, " (%s)", e.Detail)
	}
	sep := " after "
	for _, a := range e.Attempts {
		if a.Addr != "" {
			fmt.Fprintf(&b, "%s%s in %v", sep, a.Addr, a.Duration.Round(time.Microsecond))
			sep = ", "
		}
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.After > 0 {
		fmt.Fprintf(&b, " (again in %v)", e.After.Round(time.Microsecond))
	}
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the cause is a timeout, as net.Error has it.
func (e *Error) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// DialFailed reports whether the error says that no connection could be made, so that nothing was sent.
func DialFailed(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

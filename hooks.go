package zerohop

import (
	"context"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// Hooks observe calls. Every field may be nil. They run in the goroutine of the call, of a backup or of whoever ends
// the answer, and must neither block nor panic. Attempts of one call may run at the same time, so they must be safe for
// concurrent use.
type Hooks struct {
	// CallStart is called when a call begins, after its route was chosen. The call goes on with the context
	// it returns, which must be derived from ctx.
	CallStart func(ctx context.Context, call CallInfo) context.Context
	// CallDone is called when a call is over: when it failed, or when its answer was read to the end. It
	// gets the context that CallStart returned. It is called once for every CallStart, unless the caller
	// never closes a body.
	CallDone func(ctx context.Context, call CallInfo, result CallResult)
	// AttemptStart is called before each attempt, when its endpoint is known (for gRPC: before it is known,
	// with a nil Node). The attempt goes on with the context it returns.
	AttemptStart func(ctx context.Context, call CallInfo, attempt AttemptInfo) context.Context
	// AttemptDone is called once after each AttemptStart, with the context that it returned.
	AttemptDone func(ctx context.Context, call CallInfo, attempt AttemptInfo, result AttemptResult)
	// Refused is called when a limit, throttling or the circuit breaker of a service refuses a call or an attempt, and also
	// when it would, if its policy lets it only observe. It gets the context that CallStart returned.
	Refused func(ctx context.Context, call CallInfo, refusal Refusal)
	// FellBack is called when something else has answered for a call that failed: another service by Policy.Fallback, which by
	// names, or if that is empty a function of a transport or of DoOr. err is the error of the call, nil if there was an
	// answer that is a failure.
	FellBack func(ctx context.Context, call CallInfo, by string, err error)
	// Propagate is called once for each attempt, with the context of the attempt, to set headers (HTTP) or
	// metadata (gRPC) such as traceparent. set is to be called before it returns.
	Propagate func(ctx context.Context, set func(key, value string))
	// Lane returns the lane that a call made with the context is in, empty if none, where neither WithLane nor the request that
	// it is made for says so, and Policy.Lane or a route asks: that in the baggage of OpenTelemetry, for example.
	Lane func(ctx context.Context) string
	// Discovery is called for everything that happens to the endpoint set of a service. Calls for one
	// service are sequential.
	Discovery func(service string, ev discovery.Event)
	// Health is called when an endpoint begins to fail its active health checks or passes them again; see
	// Policy.HealthCheck. Calls for one endpoint are sequential.
	Health func(service string, ev HealthEvent)
	// State is called when something changes that calls depend on: an endpoint is ejected, a breaker opens, a budget is empty, an
	// operator acts. It is called with no lock held, soon after, in the goroutine of whoever caused it or in one of the mesh, and may
	// act on the mesh but not close it. Calls for one service are sequential. If it takes its time events are lost: see StateEvent.Lost.
	State func(service string, ev StateEvent)
	// Connection is called when a transport has connected to an endpoint, or has failed to, in the goroutine that did it, which is
	// none of a call. Over HTTP it is called after the handshake of TLS, with gRPC before it, and there only for connections that the
	// dialer of the mesh makes. Handlers in the same process are called without one. Mesh.Close waits for the hook, which must not close
	// the mesh, and afterwards it is not called.
	Connection func(service string, ev ConnectionEvent)
	// Explained is called once a call that is explained is over, before CallDone and with the same context. The Explanation may be
	// kept, and must not be changed. Of calls that fail before they begin, because their service cannot be or the mesh is closed, it
	// alone tells.
	Explained func(ctx context.Context, e *Explanation)
	// Opened is called by New with the Mesh, before it is returned, and Closed at the end of Mesh.Close: for those who read State.
	Opened, Closed func(m *Mesh)
	// Update is called when Mesh.Update has put another Spec in force, or has refused one. It runs in the goroutine of that.
	Update func(ev UpdateEvent)
}

// CallInfo describes a call. It is the same in all hooks of the call.
type CallInfo struct {
	// Service is the service the call goes to, Host the one it named.
	Service, Host string
	// Instead names the service that failed, if the call is made as the fallback for it. Empty for other calls.
	Instead string
	// Mirror says that the call is a copy of another one, which a route wants to be made, and whose answer is thrown away.
	Mirror bool
	// Route is the name of the route that matched, empty if none did.
	Route string
	// Rule and Backend are the positions of that route in Spec.Routes, and of the backend within it that the call goes to; -1 if none
	// matched, or if it has no backends.
	Rule, Backend int16
	// Lane is the lane of the call, empty if it is in none. It may have come from anybody: it is at most MaxLane bytes of a
	// token, but no label of a metric.
	Lane string
	// Protocol is "http", "grpc" or, for Do, empty.
	Protocol string
	// Method is the HTTP method or the full gRPC method.
	Method string
	// Criticality is how bad it is if the call fails; it is never Unspecified.
	Criticality resilience.Criticality
	// Start is when the call began.
	Start time.Time
}

// CallResult is how a call ended.
type CallResult struct {
	// Attempts is the number of attempts made.
	Attempts int
	// Status is the HTTP status or gRPC code of the answer, -1 if there was none.
	Status int
	// Outcome is the class of the answer; Neutral if the caller went away.
	Outcome resilience.Outcome
	// Detail says what ended the attempts. It is resilience.Injected or Fixed if the answer is one that the route has, and
	// there were no attempts.
	Detail resilience.Reason
	// Err is the error of the call, nil if there was an answer. Where a fault is the answer there are both.
	Err error
	// Duration is the time from the start to now.
	Duration time.Duration
	// Delayed is how long of that a fault of the route held the call up.
	Delayed time.Duration

	flag Flag // as far as the call knows more than the above
}

// AttemptInfo describes an attempt.
type AttemptInfo struct {
	// Number counts from 0.
	Number int
	// Backup says that another attempt of the call was under way.
	Backup bool
	// Node is the endpoint, nil if it is not known yet or none was found.
	Node *loadbalance.Node
}

// AttemptResult is how an attempt ended.
type AttemptResult struct {
	// Status is the HTTP status or gRPC code of the answer, -1 if there was none.
	Status int
	// Outcome is its class.
	Outcome resilience.Outcome
	// Err is its error, nil if there was an answer.
	Err error
	// Latency is the time until the answer or the error, Duration that until its end: for HTTP the end of
	// the body.
	Latency, Duration time.Duration
	// Resends is how often the base transport of an HTTP client sent the request again by itself, as net/http does
	// with idempotent requests on connections that break.
	Resends int
	// Network is over what the endpoint was reached.
	Network Network

	flag Flag // as far as the call knows more than the above
}

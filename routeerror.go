package zerohop

import (
	"errors"
	"fmt"

	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// RouteError is what a route answers a call with instead of sending it anywhere. It is the Err of an *Error whose Reason is
// Injected or Fixed. Transports make an answer of their protocol of it; Do, which has none, returns it.
type RouteError struct {
	// Route is the name of the route, empty if it has none.
	Route string
	// Injected says that the answer is a fault (routing.Fault.Abort), and not a routing.Response.
	Injected bool
	// Status is the HTTP status, and Code the gRPC code: 2 (UNKNOWN) where a Response means success, which RPCs cannot have.
	Status int
	Code   uint32
	// Headers and Body are those of a Response. They must not be changed.
	Headers map[string]string
	Body    string

	outcome resilience.Outcome
}

// Error says what the answer is and which route has it.
func (e *RouteError) Error() string {
	text := fmt.Sprintf("status %d", e.Status)
	if e.Route != "" {
		text += fmt.Sprintf(" by route %q", e.Route)
	}
	return text
}

// routeError returns what aborts a call if there is an injection, and else the fixed response of its rule.
func routeError(r *routing.Rule, in injection, protocol string) *RouteError {
	e := &RouteError{Route: r.Name, Injected: in.status > 0, Status: in.status, Code: in.code}
	if !e.Injected {
		p := r.Response
		e.Status, e.Headers, e.Body = pick(p.Status, 200), p.Headers, p.Body
		e.Code = pick(p.Code, codeOf(e.Status))
	}
	if protocol == protocolGRPC {
		e.outcome = resilience.GRPCStatus(e.Code, 0).Outcome
	} else {
		e.outcome = resilience.HTTPStatus(e.Status, 0).Outcome
	}
	return e
}

// protocolGRPC is Request.Protocol where codes count and not statuses.
const protocolGRPC = "grpc"

// answer ends the call with what its route has for it.
func (c *Call) answer(e *RouteError, protocol string) error {
	failure := &Error{Service: c.target.service.name, Reason: Fixed, Detail: resilience.Fixed, Err: e}
	var told error
	if e.Injected {
		failure.Reason, failure.Detail, told = Injected, resilience.Injected, failure
	}
	status := e.Status
	if protocol == protocolGRPC {
		status = int(e.Code)
	}
	c.mu.Lock()
	c.over, c.next.reason = true, failure.Detail
	c.mu.Unlock()
	if told == nil && protocol == "" && c.explain == explainFailures { // Do has no other use for it than to fail
		c.explain = explainEnd
	}
	c.close(status, e.outcome, told)
	if failure.Explanation == nil {
		failure.Explanation = c.Explanation()
	}
	return failure
}

// Answer returns what the route of a call answers it with, if that is why the call failed with err, and else nil.
func Answer(err error) *RouteError {
	e, _ := errors.AsType[*RouteError](err)
	return e
}

// codeOf returns the gRPC code that belongs to an HTTP status where nothing else says one.
// See https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md.
func codeOf(status int) uint32 {
	switch status {
	case 400:
		return 13
	case 401:
		return 16
	case 403:
		return 7
	case 404:
		return 12
	case 429, 502, 503, 504:
		return 14
	default:
		return 2
	}
}

// statusOf returns the HTTP status that belongs to a gRPC code, as google.rpc.Code has it.
func statusOf(code uint32) int {
	switch code {
	case 1:
		return 499
	case 3, 9, 11:
		return 400
	case 4:
		return 504
	case 5:
		return 404
	case 6, 10:
		return 409
	case 7:
		return 403
	case 8:
		return 429
	case 12:
		return 501
	case 14:
		return 503
	case 16:
		return 401
	default:
		return 500
	}
}

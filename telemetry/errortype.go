package telemetry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"syscall"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// typeOf returns what error.type says of an error: one of a fixed list, as types and texts of errors have no
// end. It is empty if err is nil.
func typeOf(err error) string {
	if err == nil {
		return "" // before the variables below cost allocations
	}
	var timeout interface{ Timeout() bool }
	var call *zerohop.Error
	switch {
	case errors.As(err, &call) && call.Reason == zerohop.NoEndpoints:
		return "no_endpoints"
	case errors.As(err, &call) && call.Reason == zerohop.Unavailable:
		return "unavailable"
	case errors.As(err, &call) && call.Reason == zerohop.RateLimited:
		return "rate_limited"
	case errors.As(err, &call) && call.Reason == zerohop.Limited:
		return "limited"
	case errors.As(err, &call) && call.Reason == zerohop.Throttled:
		return "throttled"
	case errors.As(err, &call) && call.Reason == zerohop.BreakerOpen:
		return "breaker_open"
	case errors.As(err, &call) && call.Reason == zerohop.Injected:
		return "fault_injected"
	case errors.Is(err, zerohop.ErrClosed):
		return "closed"
	case errors.Is(err, discovery.ErrUnknownService):
		return "unknown_service"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case zerohop.DialFailed(err):
		return "connect"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection_lost"
	default:
		return other
	}
}

// typeOfAnswer returns what error.type says of the end of an attempt. By the conventions every answer of HTTP from
// 400 and every gRPC code but OK is an error of the client, with the code as its type.
func typeOfAnswer(protocol string, status int, err error) string {
	switch {
	case protocol == protocolGRPC && status > 0:
		return codeName(status)
	case protocol == protocolHTTP && status >= http.StatusBadRequest:
		if knownStatus(protocol, status) < 0 {
			return other
		}
		return errorCodes[status-http.StatusBadRequest]
	default:
		return typeOf(err)
	}
}

// typeOfCall returns what error.type says of the end of a call. Here the mesh's own view counts: that a service
// answered 404 is a success.
func typeOfCall(call *zerohop.CallInfo, r *zerohop.CallResult) string {
	if r.Err == nil && (r.Outcome == resilience.Success || r.Outcome == resilience.Neutral) {
		return ""
	}
	return typeOfAnswer(call.Protocol, r.Status, r.Err)
}

// errorCodes are the texts of HTTP statuses from 400, made once: they are needed for each failed attempt.
var errorCodes = func() (list [200]string) {
	for i := range list {
		list[i] = strconv.Itoa(http.StatusBadRequest + i)
	}
	return list
}()

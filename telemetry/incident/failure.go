package incident

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// Failure is how an attempt failed.
type Failure string

const (
	// FailedRefused: nobody listens at the address.
	FailedRefused Failure = "connection refused"
	// FailedConnect: it could not connect for another reason.
	FailedConnect Failure = "cannot connect"
	// FailedTLS: the endpoint could not prove who it is, or the handshake failed.
	FailedTLS Failure = "tls"
	// FailedDNS: a name could not be resolved.
	FailedDNS Failure = "dns"
	// FailedTimeout: there was no answer in time.
	FailedTimeout Failure = "timeout"
	// FailedReset: the endpoint reset the connection.
	FailedReset Failure = "reset"
	// FailedClosed: the connection ended early.
	FailedClosed Failure = "connection closed"
	// FailedStatus: the answer was a failure.
	FailedStatus Failure = "error status"
	// FailedOverload: the endpoint said that it has too much to do.
	FailedOverload Failure = "overloaded"
	// FailedOther is all else.
	FailedOther Failure = "other"
)

// failures are the above in the order of their numbers.
var failures = [...]Failure{
	FailedRefused, FailedConnect, FailedTLS, FailedDNS, FailedTimeout, FailedReset, FailedClosed, FailedStatus, FailedOverload, FailedOther,
}

// flags are those of zerohop in the order of their numbers; the first is that of calls without.
var flags = [...]zerohop.Flag{
	"-", zerohop.FlagNoHealthy, zerohop.FlagConnect, zerohop.FlagOverflow, zerohop.FlagTimeout, zerohop.FlagReset, zerohop.FlagTerminated,
	zerohop.FlagRetries, zerohop.FlagNoRoute, zerohop.FlagNoService, zerohop.FlagRateLimited, zerohop.FlagDelayInjected,
	zerohop.FlagFaultInjected, zerohop.FlagCallerGone, zerohop.FlagDeadline, zerohop.FlagProtocol, zerohop.FlagShed,
	zerohop.FlagLocalReset, zerohop.FlagStatus,
}

// indexOf returns the position of v in list, and or if it is not in it.
func indexOf[T comparable](list []T, v T, or int) int {
	for i, x := range list {
		if x == v {
			return i
		}
	}
	return or
}

// gaveUp reports whether the caller ended the call.
func gaveUp(r *zerohop.CallResult) bool {
	return r.Detail == resilience.Canceled && errors.Is(r.Err, context.Canceled)
}

// flagOf says why a call failed that was not explained.
func flagOf(r *zerohop.CallResult) zerohop.Flag {
	if r.Err == nil {
		if r.Outcome == resilience.Overload {
			return zerohop.FlagShed
		}
		return zerohop.FlagStatus
	}
	var e *zerohop.Error
	if errors.As(r.Err, &e) {
		switch e.Reason {
		case zerohop.NoEndpoints:
			if errors.Is(r.Err, discovery.ErrUnknownService) {
				return zerohop.FlagNoService
			}
			return zerohop.FlagNoHealthy
		case zerohop.Unavailable, zerohop.Limited, zerohop.BreakerOpen:
			return zerohop.FlagOverflow
		case zerohop.RateLimited:
			return zerohop.FlagRateLimited
		case zerohop.Throttled:
			return zerohop.FlagShed
		case zerohop.Injected:
			return zerohop.FlagFaultInjected
		case zerohop.Ended:
			return zerohop.FlagDeadline
		}
	}
	switch failureOfError(r.Err, r.Status) {
	case FailedRefused, FailedConnect, FailedTLS, FailedDNS:
		return zerohop.FlagConnect
	case FailedTimeout:
		return zerohop.FlagTimeout
	case FailedReset:
		return zerohop.FlagReset
	case FailedClosed:
		return zerohop.FlagTerminated
	case FailedStatus:
		return zerohop.FlagStatus
	}
	return flags[0]
}

// failureOf says how an attempt failed that did.
func failureOf(r *zerohop.AttemptResult) Failure {
	switch {
	case r.Outcome == resilience.Overload:
		return FailedOverload
	case r.Err == nil:
		return FailedStatus
	}
	return failureOfError(r.Err, r.Status)
}

func failureOfError(err error, status int) Failure {
	var dns *net.DNSError
	var op *net.OpError
	var timeout interface{ Timeout() bool }
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return FailedRefused
	case errors.As(err, &verify), errors.As(err, &alert), errors.As(err, &record), errors.As(err, &host), errors.As(err, &authority), errors.As(err, &invalid):
		return FailedTLS
	case errors.As(err, &dns):
		return FailedDNS
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return FailedReset
	case errors.As(err, &op) && op.Op == "dial":
		return FailedConnect
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return FailedTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return FailedClosed
	}
	// gRPC hands on no errors, only their texts.
	text := err.Error()
	switch {
	case strings.Contains(text, "connection refused"):
		return FailedRefused
	case strings.Contains(text, "connection reset"), strings.Contains(text, "broken pipe"):
		return FailedReset
	case strings.Contains(text, "tls: "), strings.Contains(text, "x509: "):
		return FailedTLS
	case strings.Contains(text, "error while dialing"), strings.Contains(text, "Error while dialing"):
		return FailedConnect
	case strings.Contains(text, "deadline exceeded"):
		return FailedTimeout
	case status > 0:
		return FailedStatus
	}
	return FailedOther
}

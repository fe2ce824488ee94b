package resilience

import (
	"strconv"
	"time"
)

// HTTPStatus returns the verdict on an HTTP response with the given status code. retryAfter is the pause
// the response asks for: 0 if it does not say, negative if it wants no retry; the budget pays for such a
// failure, too. Only 421, 429, 502, 503 and 504 are worth repeating: other 5xx come from the application, which
// would most likely fail again.
func HTTPStatus(code int, retryAfter time.Duration) Verdict {
	switch code {
	case 421: // The connection, not the service, is wrong for this request, which was not looked at.
		return Verdict{Outcome: Success, Retry: true, Unsent: true, After: min(retryAfter, 0)}
	case 429:
		return Verdict{Outcome: Overload, Retry: true, After: retryAfter}
	case 503:
		if retryAfter > 0 {
			return Verdict{Outcome: Overload, Retry: true, After: retryAfter}
		}
		return Verdict{Outcome: Failure, Retry: true, After: retryAfter}
	case 502, 504: // Retry-After has no meaning there.
		return Verdict{Outcome: Failure, Retry: true, After: min(retryAfter, 0)}
	case 501: // The method is unknown everywhere, not broken here.
		return Verdict{Outcome: Success}
	}
	if code >= 500 {
		return Verdict{Outcome: Failure}
	}
	return Verdict{Outcome: Success}
}

// The gRPC status codes that GRPCStatus tells apart, as numbers, so that callers of HTTP services need no gRPC.
const (
	grpcCanceled          = 1
	grpcDeadlineExceeded  = 4
	grpcResourceExhausted = 8
	grpcInternal          = 13
	grpcUnavailable       = 14
	grpcDataLoss          = 15
)

// Pushback returns what a gRPC server says in the values of grpc-retry-pushback-ms about when to come again (gRFC A6): 0
// if it says nothing, AtOnce if it asks for no pause, and a negative value if it wants no retry or says it in a way that
// is not understood.
func Pushback(values []string) time.Duration {
	if len(values) == 0 {
		return 0
	}
	ms, err := strconv.ParseInt(values[0], 10, 32)
	switch {
	case err != nil || ms < 0 || len(values) > 1:
		return -1
	case ms == 0:
		return AtOnce
	}
	return time.Duration(ms) * time.Millisecond
}

// GRPCStatus returns the verdict on a gRPC status code (codes.Code of google.golang.org/grpc). pushback is
// the pause the server asked for, as Pushback returns it; where the server wants no retry, the budget pays for such a failure, too. Codes that an application returns on purpose, UNIMPLEMENTED
// and UNKNOWN among them, are successes: they say nothing about the endpoint.
func GRPCStatus(code uint32, pushback time.Duration) Verdict {
	switch code {
	case grpcCanceled:
		return Verdict{Outcome: Neutral}
	case grpcUnavailable:
		return Verdict{Outcome: Failure, Retry: true, After: pushback}
	case grpcResourceExhausted:
		return Verdict{Outcome: Overload, Retry: pushback != 0, After: pushback}
	case grpcDeadlineExceeded, grpcInternal, grpcDataLoss:
		return Verdict{Outcome: Failure}
	default:
		return Verdict{Outcome: Success}
	}
}

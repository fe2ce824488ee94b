package httpmesh

import (
	"net/http"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// The headers that zerohop speaks between its clients and its servers. They go to services only, never to other hosts,
// and not where Policy.Propagate is off.
const (
	// TimeoutHeader of a request is the time left to its caller, in whole milliseconds: "Zerohop-Timeout: 250".
	TimeoutHeader = "Zerohop-Timeout"
	// AttemptTimeoutHeader of a request is how long the caller waits for the answer of this attempt to begin, in whole
	// milliseconds, if that is less than TimeoutHeader says. It does not end the work, for the body of an answer may take
	// longer, but a server need not begin if it will not be ready.
	AttemptTimeoutHeader = "Zerohop-Attempt-Timeout"
	// AttemptHeader of a request is how often the call was sent before, or one that it is made for. A first attempt has
	// none.
	AttemptHeader = "Zerohop-Attempt"
	// CriticalityHeader of a request is how bad it is if the call fails: "Zerohop-Criticality: sheddable", and alike
	// sheddable-plus and critical-plus. Critical calls, which most are, have none.
	CriticalityHeader = "Zerohop-Criticality"
	// BaggageHeader of a request is W3C baggage (https://www.w3.org/TR/baggage/), with the lane of the call among what others
	// put there: "Baggage: zerohop-lane=feature-x". See zerohop.Lane.
	BaggageHeader = "Baggage"
	// NoRetryHeader of a response, if not empty, asks the caller not to repeat the call: below, it was repeated
	// already, all servers probably have too much to do, or, if the value is "deadline", there is no time for it. Then the
	// server has done nothing, and is not to blame.
	NoRetryHeader = "Zerohop-No-Retry"
	// RefusedHeader of a response with the status 503, if not empty, says that the server has too much to do and has not
	// begun with the request, which may be sent elsewhere whatever it is. A Handler whose service hands on such an answer
	// makes that "below": it has begun itself.
	RefusedHeader = "Zerohop-Refused"
	// FaultHeader of a response says that it comes from no service but from a fault of a route (routing.Fault.Abort):
	// "Zerohop-Fault: abort".
	FaultHeader = "Zerohop-Fault"
	// MirrorHeader of a request says that it is a copy (routing.Mirror), whose answer nobody reads: "Zerohop-Mirror: 1".
	MirrorHeader = "Zerohop-Mirror"
	// LoadHeader of a response is the load of the server, in the format of ORCA that Envoy and others read, too:
	// "Endpoint-Load-Metrics: TEXT cpu_utilization=0.7".
	LoadHeader = "Endpoint-Load-Metrics"
	// WantLoadHeader of a request asks the server for what it has measured of its load, in the LoadHeader of the answer.
	// Clients send it whose endpoints are picked by that: "Zerohop-Load: 1".
	WantLoadHeader = "Zerohop-Load"
)

// LoadPath is where a Handler answers requests that ask for nothing but its load: GET with a WantLoadHeader. The answer is 204
// with a LoadHeader. All other requests of that path are for the handler of the service.
const LoadPath = "/.well-known/zerohop/load"

const (
	// loadMessage is LoadHeader in gRPC: the message in base64.
	loadMessage = "Endpoint-Load-Metrics-Bin"
	// noTime is the NoRetryHeader of a server that did not begin because its caller has too little time.
	noTime = "deadline"
	// below is the RefusedHeader of a server that hands on what another one said.
	below = "below"
	// grpcAttempts is what gRPC calls AttemptHeader.
	grpcAttempts = "Grpc-Previous-Rpc-Attempts"
	// maxTimeLeft bounds a TimeoutHeader. Nobody waits longer, and ten digits more would overflow a time.Duration.
	maxTimeLeft = 24 * time.Hour
	// maxAttempt bounds an AttemptHeader. Only whether it is 0 matters to us; others may count with it.
	maxAttempt = 1000
)

// timeLeft returns what TimeoutHeader says. ok is false if there is none, or none that makes sense.
func timeLeft(h http.Header) (left time.Duration, ok bool) { return span(h[TimeoutHeader]) }

// span returns the only value of a header as a time.
func span(values []string) (d time.Duration, ok bool) {
	ms, ok := whole(values, int64(maxTimeLeft/time.Millisecond))
	return time.Duration(ms) * time.Millisecond, ok
}

// sentBefore returns how often a request was sent before, as far as its headers say.
func sentBefore(h http.Header) int {
	n, _ := whole(h[AttemptHeader], maxAttempt)
	m, _ := whole(h[grpcAttempts], maxAttempt)
	return int(max(n, m))
}

// whole returns the only value of a header as a whole number that is at most most. ok is false if it is anything but
// digits.
func whole(values []string, most int64) (n int64, ok bool) {
	if len(values) != 1 || values[0] == "" {
		return 0, false
	}
	for _, c := range []byte(values[0]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(10*n+int64(c-'0'), most)
	}
	return n, true
}

// criticalityOf returns the level that a request asks for, as far as the server lets it: Unspecified if it has none, or
// none that makes sense.
func criticalityOf(h http.Header, most resilience.Criticality) resilience.Criticality {
	v := h[CriticalityHeader]
	if len(v) != 1 {
		return resilience.Unspecified
	}
	c, _ := resilience.ParseCriticality(v[0])
	return min(c, most.Or(resilience.Critical))
}

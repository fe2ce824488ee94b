package grpcmesh

import (
	"math"
	"time"
)

// The metadata that zerohop speaks between its clients and its servers: where gRPC has a key of its own that one, else
// the header of package httpmesh.
const (
	// attemptsKey of a request is how often the call was sent before, or one that it is made for.
	attemptsKey = "grpc-previous-rpc-attempts"
	// httpAttemptsKey is the same from a gateway that got it over HTTP.
	httpAttemptsKey = "zerohop-attempt"
	// criticalityKey of a request is how bad it is if the call fails. Critical calls, which most are, have none.
	criticalityKey = "zerohop-criticality"
	// attemptTimeoutKey of a request is how long the caller waits for this attempt, in whole milliseconds, if that is less
	// than its deadline. A deadline of the attempt's own would not tell the server whether the caller has time for another.
	attemptTimeoutKey = "zerohop-attempt-timeout"
	// refusedKey of a trailer says, if not empty, that the server has too much to do and has not begun with the call.
	refusedKey = "zerohop-refused"
	// pushbackKey of a trailer is the pause, in milliseconds, before the call may be repeated. A negative one asks the
	// caller not to.
	pushbackKey = "grpc-retry-pushback-ms"
	// noRetryKey of a trailer says, if it is tooLate, that the server did not begin because the caller has too little
	// time. Then it has done nothing, and is not to blame.
	noRetryKey = "zerohop-no-retry"
	tooLate    = "deadline"
	// loadKey of a trailer is the load of the server, an OrcaLoadReport.
	loadKey = "endpoint-load-metrics-bin"
	// wantLoadKey of a request asks for what the server has measured of its load.
	wantLoadKey = "zerohop-load"
)

// noTime is the pushback of a server that did not begin because the caller has too little time.
const noTime time.Duration = math.MinInt64

// maxAttempts bounds attemptsKey. Only whether it is 0 matters to us; others may count with it.
const maxAttempts = 1000

// maxMilliseconds bounds attemptTimeoutKey by a day. Nobody waits longer.
const maxMilliseconds = 24 * 60 * 60 * 1000

package telemetry

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"

	"github.com/zerohop/zerohop"
)

// Names of the semantic conventions.
const (
	httpMethod         = attribute.Key("http.request.method")
	httpMethodOriginal = attribute.Key("http.request.method_original")
	httpResendCount    = attribute.Key("http.request.resend_count")
	httpStatus         = attribute.Key("http.response.status_code")
	rpcSystem          = attribute.Key("rpc.system.name")
	rpcMethod          = attribute.Key("rpc.method")
	rpcMethodOriginal  = attribute.Key("rpc.method_original")
	rpcStatus          = attribute.Key("rpc.response.status_code")
	serverAddress      = attribute.Key("server.address")
	serverPort         = attribute.Key("server.port")
	peerAddress        = attribute.Key("network.peer.address")
	peerPort           = attribute.Key("network.peer.port")
	transport          = attribute.Key("network.transport")
	errorType          = attribute.Key("error.type")
)

// Names of our own.
const (
	service        = attribute.Key("zerohop.service")
	route          = attribute.Key("zerohop.route")
	outcome        = attribute.Key("zerohop.outcome")
	detail         = attribute.Key("zerohop.detail")
	callAttempts   = attribute.Key("zerohop.call.attempts")
	attemptNumber  = attribute.Key("zerohop.attempt.number")
	attemptBackup  = attribute.Key("zerohop.attempt.backup")
	attemptKind    = attribute.Key("zerohop.attempt.kind")
	discoveryEvent = attribute.Key("zerohop.discovery.event")
	attemptZone    = attribute.Key("zerohop.attempt.zone")
	attemptResends = attribute.Key("zerohop.attempt.resends")
	backupResult   = attribute.Key("zerohop.backup.result")
	breakerScope   = attribute.Key("zerohop.breaker.scope")
	breakerState   = attribute.Key("zerohop.breaker.state")
	cause          = attribute.Key("zerohop.cause")
	criticality    = attribute.Key("zerohop.criticality")
	delay          = attribute.Key("zerohop.delay")
	endpointState  = attribute.Key("zerohop.endpoint.state")
	enforced       = attribute.Key("zerohop.enforced")
	explained      = attribute.Key("zerohop.explained")
	explanation    = attribute.Key("zerohop.explanation")
	fallback       = attribute.Key("zerohop.fallback")
	fallbackBy     = attribute.Key("zerohop.fallback.service")
	responseFlag   = attribute.Key("zerohop.flag")
	generation     = attribute.Key("zerohop.spec.generation")
	healthState    = attribute.Key("zerohop.health.state")
	instead        = attribute.Key("zerohop.instead")
	lane           = attribute.Key("zerohop.lane")
	mirror         = attribute.Key("zerohop.mirror")
	pickHow        = attribute.Key("zerohop.pick.how")
	reason         = attribute.Key("zerohop.reason")
	socketReason   = attribute.Key("zerohop.socket.reason")
	stage          = attribute.Key("zerohop.stage")
	stateChange    = attribute.Key("zerohop.state.change")
	updateState    = attribute.Key("zerohop.spec.update")
)

// transportOf returns a network in the words of the semantic conventions.
func transportOf(n zerohop.Network) string {
	switch n {
	case zerohop.NetworkUnix:
		return "unix"
	case zerohop.NetworkInProcess:
		return "inproc"
	default:
		return "tcp"
	}
}

// Words of attributes that are not those of others.
const (
	kindFirst  = "first"
	kindRetry  = "retry"
	kindBackup = "backup"
	kindMirror = "mirror"

	backupWon    = "won"    // its answer is that of the call
	backupWasted = "wasted" // another attempt was faster, or it failed

	zoneSame  = "same"
	zoneOther = "other"

	scopeEndpoint = "endpoint"
	scopeService  = "service"

	statePassing = "passing"
	stateFailing = "failing"

	updateApplied = "applied"
	updateRefused = "refused"
)

// Protocols of zerohop.CallInfo.
const (
	protocolHTTP = "http"
	protocolGRPC = "grpc"
)

// appendName appends a name unless it is empty.
func appendName(list []attribute.KeyValue, k attribute.Key, name string) []attribute.KeyValue {
	if name == "" {
		return list
	}
	return append(list, k.String(name))
}

// appendHost appends an address, "host:port" or a host alone.
func appendHost(list []attribute.KeyValue, address, port attribute.Key, hostport string) []attribute.KeyValue {
	host, p, err := net.SplitHostPort(hostport)
	if err != nil {
		return appendName(list, address, strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")) // of IPv6
	}
	list = append(list, address.String(host))
	if n, err := strconv.ParseUint(p, 10, 16); err == nil {
		list = append(list, port.Int(int(n)))
	}
	return list
}

// appendStatus appends the status of an answer and what kind of error it or its lack was.
func appendStatus(list []attribute.KeyValue, protocol string, status int, errType string) []attribute.KeyValue {
	switch {
	case status < 0:
	case protocol == protocolHTTP:
		list = append(list, httpStatus.Int(status))
	case protocol == protocolGRPC:
		list = append(list, rpcStatus.String(codeName(status)))
	}
	return appendName(list, errorType, errType)
}

// method returns the method of a call as metrics and spans have it: one of the known or "_OTHER".
func (n *names) method(protocol, method string) string {
	switch protocol {
	case protocolHTTP:
		return knownMethod(method)
	case protocolGRPC:
		return n.methods.bound(strings.TrimPrefix(method, "/"))
	default:
		return ""
	}
}

// knownMethod returns an HTTP method if it is one of RFC 9110, PATCH or QUERY.
func knownMethod(method string) string {
	switch method {
	case "":
		return http.MethodGet
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace, "QUERY":
		return method
	default:
		return other
	}
}

// knownStatus returns a status if the protocol has such one, and -1 or else the code that stands for all others.
func knownStatus(protocol string, status int) int {
	switch {
	case status < 0:
		return -1
	case protocol == protocolGRPC && status >= len(codeNames):
		return 2 // UNKNOWN, as gRPC wants it
	case protocol == protocolHTTP && (status < 100 || status > 599):
		return -1
	}
	return status
}

// codeNames are the names of gRPC codes. They are written down here because the package does without gRPC.
var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
	"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

func codeName(code int) string { return codeNames[knownStatus(protocolGRPC, code)] }

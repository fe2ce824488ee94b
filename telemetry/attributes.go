package telemetry

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
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
	healthState    = attribute.Key("zerohop.health.state")
	updateState    = attribute.Key("zerohop.spec.update")
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
		return appendName(list, address, hostport)
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

// callKey is the key of zerohop.call.duration.
type callKey struct {
	service, route string
	outcome        resilience.Outcome
	detail         resilience.Reason
	errType        string
}

func (k callKey) canonical(n *names) callKey {
	k.service, k.route = n.hosts.bound(k.service), clean(k.route)
	return k
}

func (k callKey) attributes() []attribute.KeyValue {
	list := []attribute.KeyValue{service.String(k.service), outcome.String(k.outcome.String()), detail.String(k.detail.String())}
	return appendName(appendName(list, route, k.route), errorType, k.errType)
}

// attemptKey is the key of zerohop.attempts.
type attemptKey struct {
	service, route, kind string
	outcome              resilience.Outcome
}

func (k attemptKey) canonical(n *names) attemptKey {
	k.service, k.route = n.hosts.bound(k.service), clean(k.route)
	return k
}

func (k attemptKey) attributes() []attribute.KeyValue {
	list := []attribute.KeyValue{service.String(k.service), outcome.String(k.outcome.String()), attemptKind.String(k.kind)}
	return appendName(list, route, k.route)
}

// kindOf says why an attempt was made.
func kindOf(a *zerohop.AttemptInfo) string {
	switch {
	case a.Backup:
		return "backup"
	case a.Number > 0:
		return "retry"
	default:
		return "first"
	}
}

// clientKey is the key of http.client.request.duration and rpc.client.call.duration.
type clientKey struct {
	protocol, method, host string
	status                 int
	errType                string
}

func (k clientKey) canonical(n *names) clientKey {
	k.method, k.host = n.method(k.protocol, k.method), n.hosts.bound(k.host)
	k.status = knownStatus(k.protocol, k.status)
	return k
}

func (k clientKey) attributes() []attribute.KeyValue {
	var list []attribute.KeyValue
	if k.protocol == protocolGRPC {
		list = append(list, rpcSystem.String("grpc"), rpcMethod.String(k.method))
	} else {
		list = append(list, httpMethod.String(k.method))
	}
	return appendStatus(appendHost(list, serverAddress, serverPort, k.host), k.protocol, k.status, k.errType)
}

// discoveryKey is the key of instruments about discovery.
type discoveryKey struct{ service, event, errType string }

func (k discoveryKey) canonical(n *names) discoveryKey {
	k.service = n.hosts.bound(k.service)
	return k
}

func (k discoveryKey) attributes() []attribute.KeyValue {
	list := []attribute.KeyValue{service.String(k.service)}
	return appendName(appendName(list, discoveryEvent, k.event), errorType, k.errType)
}

// healthKey is the key of zerohop.health.changes.
type healthKey struct{ service, state, errType string }

func (k healthKey) canonical(n *names) healthKey {
	k.service = n.hosts.bound(k.service)
	return k
}

func (k healthKey) attributes() []attribute.KeyValue {
	return appendName([]attribute.KeyValue{service.String(k.service), healthState.String(k.state)}, errorType, k.errType)
}

// updateKey is the key of zerohop.spec.updates.
type updateKey struct{ state string }

func (k updateKey) canonical(*names) updateKey { return k }

func (k updateKey) attributes() []attribute.KeyValue {
	return []attribute.KeyValue{updateState.String(k.state)}
}

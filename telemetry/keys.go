package telemetry

import (
	"strings"

	"go.opentelemetry.io/otel/attribute"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// callKey is the key of zerohop.call.duration and zerohop.mirror.duration.
type callKey struct {
	service, route string
	outcome        resilience.Outcome
	detail         resilience.Reason
	errType        string
	flag           zerohop.Flag
}

func (k callKey) canonical(n *names) callKey {
	k.service, k.route = n.hosts.bound(k.service), n.routes.bound(k.route)
	return k
}

func (k callKey) attributes() []attribute.KeyValue {
	list := []attribute.KeyValue{service.String(k.service), outcome.String(k.outcome.String()), detail.String(word(k.detail.String()))}
	return appendName(appendName(appendName(list, route, k.route), errorType, k.errType), responseFlag, string(k.flag))
}

// attemptKey is the key of zerohop.attempts.
type attemptKey struct {
	service, route string
	kind           attemptCause // numbers, as each text would be hashed for each attempt
	zone           nearness
	outcome        resilience.Outcome
}

// attemptCause is why an attempt was made.
type attemptCause uint8

const (
	first attemptCause = iota
	retry
	backup
	copied
)

var kinds = [...]string{first: kindFirst, retry: kindRetry, backup: kindBackup, copied: kindMirror}

// nearness says whether an endpoint is in the zone of the process.
type nearness uint8

const (
	unknown nearness = iota
	sameZone
	otherZone
)

var zones = [...]string{unknown: "", sameZone: zoneSame, otherZone: zoneOther}

func (k attemptKey) canonical(n *names) attemptKey {
	k.service, k.route = n.hosts.bound(k.service), n.routes.bound(k.route)
	return k
}

func (k attemptKey) attributes() []attribute.KeyValue {
	list := []attribute.KeyValue{service.String(k.service), outcome.String(k.outcome.String()), attemptKind.String(kinds[k.kind])}
	return appendName(appendName(list, route, k.route), attemptZone, zones[k.zone])
}

// kindOf says why an attempt was made.
func kindOf(call *zerohop.CallInfo, a *zerohop.AttemptInfo) attemptCause {
	switch {
	case call.Mirror:
		return copied
	case a.Backup:
		return backup
	case a.Number > 0:
		return retry
	default:
		return first
	}
}

// clientKey is the key of http.client.request.duration and rpc.client.call.duration.
type clientKey struct {
	method, host string
	status       int
	errType      string
	rpc, mirror  bool
}

func (k clientKey) canonical(n *names) clientKey {
	k.method, k.host = n.method(k.protocol(), k.method), n.hosts.bound(k.host)
	k.status = knownStatus(k.protocol(), k.status)
	return k
}

func (k clientKey) protocol() string {
	if k.rpc {
		return protocolGRPC
	}
	return protocolHTTP
}

func (k clientKey) attributes() []attribute.KeyValue {
	var list []attribute.KeyValue
	if k.rpc {
		list = append(list, rpcSystem.String("grpc"), rpcMethod.String(k.method))
	} else {
		list = append(list, httpMethod.String(k.method))
	}
	if k.mirror {
		list = append(list, mirror.Bool(true))
	}
	return appendStatus(appendHost(list, serverAddress, serverPort, k.host), k.protocol(), k.status, k.errType)
}

// eventKey is the key of counters whose attributes, but for the service, are fixed words: kind says which attributes they are.
type eventKey struct {
	kind    *eventKind
	service string
	words   [3]string
	yes     bool
}

// eventKind names the attributes of an eventKey. Words without a key are none; switched is empty if there is no claim.
type eventKind struct {
	words    [3]attribute.Key
	switched attribute.Key
}

func (k eventKey) canonical(n *names) eventKey {
	k.service = n.hosts.bound(k.service)
	for i, w := range k.words {
		k.words[i] = word(w)
	}
	return k
}

func (k eventKey) attributes() []attribute.KeyValue {
	list := appendName(make([]attribute.KeyValue, 0, 5), service, k.service)
	for i, key := range k.kind.words {
		if key != "" {
			list = appendName(list, key, k.words[i])
		}
	}
	if k.kind.switched != "" {
		list = append(list, k.kind.switched.Bool(k.yes))
	}
	return list
}

// word makes one word of the fixed words that others have: "no place left" becomes "no_place_left".
func word(text string) string { return strings.ReplaceAll(clean(text), " ", "_") }

package telemetry

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// The attributes of the counters of events.
var (
	kindOfBackup      = &eventKind{words: [3]attribute.Key{backupResult}}
	kindOfResend      = &eventKind{}
	kindOfRefusal     = &eventKind{words: [3]attribute.Key{stage, criticality}, switched: enforced}
	kindOfFallback    = &eventKind{words: [3]attribute.Key{fallback}}
	kindOfExplanation = &eventKind{words: [3]attribute.Key{explained}}
	kindOfPick        = &eventKind{words: [3]attribute.Key{pickHow}}
	kindOfDiscovery   = &eventKind{words: [3]attribute.Key{discoveryEvent}}
	kindOfConnection  = &eventKind{words: [3]attribute.Key{transport}}
	kindOfMissed      = &eventKind{words: [3]attribute.Key{socketReason}}
	kindOfFailure     = &eventKind{words: [3]attribute.Key{errorType}}
	kindOfHealth      = &eventKind{words: [3]attribute.Key{healthState, errorType}}
	kindOfUpdate      = &eventKind{words: [3]attribute.Key{updateState}}
	kindOfEjection    = &eventKind{words: [3]attribute.Key{cause}, switched: enforced}
	kindOfBreaker     = &eventKind{words: [3]attribute.Key{breakerScope, breakerState}}
	kindOfState       = &eventKind{words: [3]attribute.Key{stateChange}}
)

// events are the counters of what seldom happens to calls, and of what changes around them.
type events struct {
	list []*counter[eventKey]

	backups, resends, refusals, fallbacks, explanations, picks *counter[eventKey]
	discovered, failures, health, updates                      *counter[eventKey]
	ejections, breakers, states                                *counter[eventKey]
	connections, missed                                        *counter[eventKey]
}

func newEvents(f *factory, n *names) *events {
	e := &events{}
	add := func(name, unit, text string) *counter[eventKey] {
		c := &counter[eventKey]{newSeries[eventKey](n), f.counter(name, unit, text)}
		e.list = append(e.list, c)
		return c
	}
	e.backups = add("zerohop.backups", "{attempt}", "Backups that gave a call its answer, and those that did not.")
	e.resends = add("zerohop.resends", "{request}", "Requests that the base transport of HTTP clients sent again by itself.")
	e.refusals = add("zerohop.refusals", "{refusal}", "Calls and attempts that stages of the client refused, or would have.")
	e.fallbacks = add("zerohop.fallbacks", "{call}", "Failed calls that something else has answered.")
	e.explanations = add("zerohop.explanations", "{call}", "Calls that were explained.")
	e.picks = add("zerohop.picks", "{attempt}", "Attempts of sampled calls by what chose their endpoint.")
	e.discovered = add("zerohop.discovery.events", "{event}", "What happened to the endpoint sets of services.")
	e.failures = add("zerohop.discovery.failures", "{failure}", "Watches that broke and answers that were rejected.")
	e.health = add("zerohop.health.changes", "{change}", "Endpoints that began to fail their active health checks or pass them again.")
	e.updates = add("zerohop.spec.updates", "{update}", "Updates of the spec that changed something or were refused.")
	e.ejections = add("zerohop.ejections", "{ejection}", "Endpoints that were ejected, or spared because too many were.")
	e.breakers = add("zerohop.breaker.changes", "{change}", "Changes of the circuit breakers of endpoints and services.")
	e.states = add("zerohop.state.changes", "{change}", "Changes of what calls depend on.")
	e.connections = add("zerohop.connections", "{connection}", "Connections that were made to endpoints.")
	e.missed = add("zerohop.socket.fallbacks", "{connection}", "Connections, made or tried, to addresses of endpoints whose Unix sockets did not work.")
	for _, state := range []string{updateApplied, updateRefused} { // from the start, so that the first one is a rise and no beginning
		e.updates.add(eventKey{kind: kindOfUpdate, words: [3]string{state}}, 0)
	}
	return e
}

func (e *events) collect(o metric.Observer) {
	for _, c := range e.list {
		c.collect(o)
	}
}

// attemptDone counts what is not so with most attempts.
func (e *events) attemptDone(call *zerohop.CallInfo, a *zerohop.AttemptInfo, r *zerohop.AttemptResult) {
	if a.Backup {
		result := backupWasted
		if won(r) {
			result = backupWon
		}
		e.backups.add(eventKey{kind: kindOfBackup, service: call.Service, words: [3]string{result}}, 1)
	}
	if r.Resends > 0 {
		e.resends.add(eventKey{kind: kindOfResend, service: call.Service}, r.Resends)
	}
}

func (e *events) refused(call *zerohop.CallInfo, r *zerohop.Refusal) {
	e.refusals.add(eventKey{
		kind: kindOfRefusal, service: call.Service, words: [3]string{string(r.Stage), call.Criticality.String()}, yes: r.Enforced,
	}, 1)
}

func (e *events) fellBack(call *zerohop.CallInfo, by string) {
	e.fallbacks.add(eventKey{kind: kindOfFallback, service: call.Service, words: [3]string{kindOfAnswer(by)}}, 1)
}

// kindOfAnswer says what has answered for a call, given the service that did.
func kindOfAnswer(by string) string {
	if by == "" {
		return "function"
	}
	return "service"
}

func (e *events) explained(x *zerohop.Explanation) {
	e.explanations.add(eventKey{kind: kindOfExplanation, service: x.Service, words: [3]string{whyExplained(x)}}, 1)
	if !x.Sampled { // failures would say more of endpoints that fail than of picks
		return
	}
	for i := range x.Tries[:x.N] {
		e.picks.add(eventKey{kind: kindOfPick, service: x.Service, words: [3]string{howPicked(x.Tries[i].Choice.How)}}, 1)
	}
}

func whyExplained(x *zerohop.Explanation) string {
	if x.Sampled {
		return "sampled"
	}
	return "failed"
}

// howPicked names what has chosen an endpoint.
func howPicked(h loadbalance.How) string {
	switch h {
	case loadbalance.HowCompared:
		return "compared"
	case loadbalance.HowDrawn:
		return "drawn"
	case loadbalance.HowHashed:
		return "hashed"
	case loadbalance.HowBound:
		return "bound"
	case loadbalance.HowProbe:
		return "probe"
	case loadbalance.HowElsewhere:
		return "elsewhere"
	case loadbalance.HowLastResort:
		return "last_resort"
	default:
		return "none"
	}
}

func (e *events) discovery(name string, ev discovery.Event) {
	e.discovered.add(eventKey{kind: kindOfDiscovery, service: name, words: [3]string{ev.Kind.String()}}, 1)
	if ev.Kind == discovery.EventWatchFailed || ev.Kind == discovery.EventAnswerRejected {
		e.failures.add(eventKey{kind: kindOfFailure, service: name, words: [3]string{typeOf(ev.Err)}}, 1)
	}
}

func (e *events) healthChanged(name string, ev zerohop.HealthEvent) {
	k := eventKey{kind: kindOfHealth, service: name, words: [3]string{statePassing}}
	if !ev.Passing {
		k.words = [3]string{stateFailing, typeOf(ev.Err)}
	}
	e.health.add(k, 1)
}

func (e *events) connected(name string, ev zerohop.ConnectionEvent) {
	if ev.Err == nil {
		e.connections.add(eventKey{kind: kindOfConnection, service: name, words: [3]string{transportOf(ev.Network)}}, 1)
	}
	if ev.Fallback != "" {
		e.missed.add(eventKey{kind: kindOfMissed, service: name, words: [3]string{string(ev.Fallback)}}, 1)
	}
}

func (e *events) updated(ev zerohop.UpdateEvent) {
	k := eventKey{kind: kindOfUpdate, words: [3]string{updateApplied}}
	if ev.Err != nil {
		k.words[0] = updateRefused
	}
	e.updates.add(k, 1)
}

func (e *events) stateChanged(name string, ev zerohop.StateEvent) {
	e.states.add(eventKey{kind: kindOfState, service: name, words: [3]string{string(ev.Kind)}}, 1)
	switch ev.Kind {
	case zerohop.StateEjected, zerohop.StateSpared:
		e.ejections.add(eventKey{kind: kindOfEjection, service: name, words: [3]string{ev.Cause}, yes: ev.Kind == zerohop.StateEjected}, 1)
	case zerohop.StateBreakerOpened, zerohop.StateBreakerHalfOpened, zerohop.StateBreakerClosed:
		scope := scopeEndpoint
		if ev.Addr == "" {
			scope = scopeService
		}
		e.breakers.add(eventKey{kind: kindOfBreaker, service: name, words: [3]string{scope, brokenTo(ev.Kind)}}, 1)
	}
}

// brokenTo returns the state that a breaker has come to.
func brokenTo(k zerohop.StateKind) string {
	switch k {
	case zerohop.StateBreakerOpened:
		return "open"
	case zerohop.StateBreakerHalfOpened:
		return "half-open"
	default:
		return "closed"
	}
}

package telemetry

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel/metric"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// seconds are the bounds that the conventions advise for durations of HTTP and RPC clients.
var seconds = metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

// metrics are the instruments about calls and attempts, and their series.
type metrics struct {
	names    *names
	requests metric.Float64Histogram // HTTP; nil if others measure them
	rpcs     metric.Float64Histogram
	calls    metric.Float64Histogram
	copies   metric.Float64Histogram

	byRequest *series[clientKey]
	byRPC     *series[clientKey]
	byCall    *series[callKey]
	byCopy    *series[callKey]
	attempts  counter[attemptKey]
	events    *events
	gauges    *gauges

	zone atomic.Pointer[string] // of the process, nil until it is known
}

func newMetrics(meter metric.Meter, n *names, instrumented bool) (*metrics, error) {
	m := &metrics{
		names:     n,
		byRequest: newSeries[clientKey](n),
		byRPC:     newSeries[clientKey](n),
		byCall:    newSeries[callKey](n),
		byCopy:    newSeries[callKey](n),
		attempts:  counter[attemptKey]{series: newSeries[attemptKey](n)},
	}
	f := &factory{meter: meter}
	if !instrumented {
		m.requests = f.histogram("http.client.request.duration", "Duration of HTTP client requests.")
		m.rpcs = f.histogram("rpc.client.call.duration", "Measures the duration of an outgoing Remote Procedure Call (RPC).")
	}
	m.calls = f.histogram("zerohop.call.duration", "Duration of calls, with all their attempts and pauses.")
	m.copies = f.histogram("zerohop.mirror.duration", "Duration of the copies of calls that routes send to mirrors.")
	m.attempts.instrument = f.counter("zerohop.attempts", "{attempt}", "Attempts that had an endpoint.")
	m.events = newEvents(f, n)
	m.gauges = newGauges(f, n, &m.zone)
	if err := errors.Join(f.errs...); err != nil {
		return nil, err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		m.attempts.collect(o)
		m.events.collect(o)
		m.gauges.collect(o)
		return nil
	}, f.observed...)
	return m, err
}

// factory makes instruments and keeps what went wrong, and which of them are observed.
type factory struct {
	meter    metric.Meter
	observed []metric.Observable
	errs     []error
}

func (f *factory) histogram(name, text string) metric.Float64Histogram {
	h, err := f.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(text), seconds)
	f.errs = append(f.errs, err)
	return h
}

func (f *factory) counter(name, unit, text string) metric.Int64ObservableCounter {
	c, err := f.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
	f.observed, f.errs = append(f.observed, c), append(f.errs, err)
	return c
}

func (f *factory) upDown(name, unit, text string) metric.Int64ObservableUpDownCounter {
	c, err := f.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
	f.observed, f.errs = append(f.observed, c), append(f.errs, err)
	return c
}

func (f *factory) gauge(name, unit, text string) metric.Float64ObservableGauge {
	g, err := f.meter.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
	f.observed, f.errs = append(f.observed, g), append(f.errs, err)
	return g
}

func (m *metrics) callDone(ctx context.Context, call *zerohop.CallInfo, r *zerohop.CallResult) {
	h, by := m.calls, m.byCall
	if call.Mirror {
		h, by = m.copies, m.byCopy
	}
	if h.Enabled(ctx) {
		l := by.get(callKey{call.Service, call.Route, r.Outcome, r.Detail, typeOfCall(call, r), flagOf(call, r)})
		h.Record(ctx, r.Duration.Seconds(), l.record...)
	}
}

func (m *metrics) attemptDone(ctx context.Context, call *zerohop.CallInfo, a *zerohop.AttemptInfo, r *zerohop.AttemptResult) {
	if a.Node == nil { // none was found: nothing was attempted
		return
	}
	m.attempts.add(attemptKey{call.Service, call.Route, kindOf(call, a), m.zoneOf(a.Node), r.Outcome}, 1)
	if a.Backup || r.Resends > 0 {
		m.events.attemptDone(call, a, r)
	}
	h, by := m.requests, m.byRequest
	switch call.Protocol {
	case protocolHTTP:
	case protocolGRPC:
		h, by = m.rpcs, m.byRPC
	default:
		return
	}
	if h != nil && h.Enabled(ctx) {
		k := clientKey{
			method: call.Method, host: call.Host, status: r.Status, errType: typeOfAnswer(call.Protocol, r.Status, r.Err),
			rpc: call.Protocol == protocolGRPC, mirror: call.Mirror,
		}
		if k.rpc {
			k.method = strings.TrimPrefix(k.method, "/")
		}
		h.Record(ctx, r.Duration.Seconds(), by.get(k).record...)
	}
}

// zoneOf says whether an endpoint is in the zone of the process.
func (m *metrics) zoneOf(n *loadbalance.Node) nearness {
	own := m.zone.Load()
	if own == nil {
		return unknown
	}
	switch n.Endpoint().Zone {
	case "":
		return unknown
	case *own:
		return sameZone
	default:
		return otherZone
	}
}

// won reports whether a backup gave the call its answer: of several attempts under way the first success does, and the others
// are given up.
func won(r *zerohop.AttemptResult) bool { return r.Outcome == resilience.Success }

package telemetry

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/samehost"
)

// fixed is a mesh whose state is given.
type fixed zerohop.State

func (f *fixed) State() zerohop.State { return zerohop.State(*f) }

// open are the attributes whose values are names of the user's, numbers, or codes of protocols.
var open = []attribute.Key{
	service, route, serverAddress, serverPort, rpcMethod, httpStatus, rpcStatus, httpMethod,
}

// The list of instruments is part of the API: dashboards and alerts are built on it.
func TestInstruments(t *testing.T) {
	r := newRecorder(t)
	h, m, err := build(Config{MeterProvider: r.meter, TracerProvider: r.tracer})
	if err != nil {
		t.Fatal(err)
	}
	everything(t.Context(), &h, m)
	if _, err := WatchAccelerator(Config{MeterProvider: r.meter}); err != nil {
		t.Fatal(err)
	}
	instruments := r.instruments(t)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(instruments)) {
		i := instruments[name]
		fmt.Fprintf(&b, "%s: %s, %s\n", name, kindOfData(i.Data), i.Unit)
		values := map[attribute.Key][]string{}
		for _, p := range points(t, i) {
			for _, kv := range p.labels.ToSlice() {
				values[kv.Key] = append(values[kv.Key], kv.Value.String())
			}
		}
		for _, k := range slices.Sorted(maps.Keys(values)) {
			list := values[k]
			slices.Sort(list)
			list = slices.Compact(list)
			if slices.Contains(open, k) {
				list = []string{"*"}
			}
			if n := len(list); k == errorType {
				if list = slices.DeleteFunc(list, func(s string) bool { _, err := strconv.Atoi(s); return err == nil }); len(list) < n {
					list = append([]string{"<status>"}, list...)
				}
			}
			fmt.Fprintf(&b, "\t%s: %s\n", k, strings.Join(list, " "))
		}
	}
	const golden = "testdata/instruments.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.String(), string(want)); diff != "" {
		t.Errorf("instruments differ from %s (-got +want):\n%s", golden, diff)
	}
}

// everything has happened once when it returns.
func everything(ctx context.Context, h *zerohop.Hooks, m *metrics) {
	zone := "here"
	m.zone.Store(&zone)
	nodes := zoned("here", "there", "")
	for _, row := range errorTypes {
		for i, node := range nodes {
			for _, mirrored := range []bool{false, true} {
				call := zerohop.CallInfo{Service: "orders", Host: "orders.example:80", Route: "canary", Protocol: row.protocol, Method: "GET", Mirror: mirrored}
				a := zerohop.AttemptInfo{Number: i, Backup: i == 2, Node: node}
				drive(h, ctx, call, a, zerohop.AttemptResult{Status: row.status, Outcome: resilience.Failure, Err: row.err, Resends: 1})
			}
		}
	}
	call := zerohop.CallInfo{Service: "orders", Host: "orders", Protocol: "grpc", Method: "/p.S/M"}
	for code := range codeNames {
		drive(h, ctx, call, zerohop.AttemptInfo{Number: 1, Backup: true, Node: nodes[0]}, zerohop.AttemptResult{Status: code, Outcome: resilience.Outcome(code % 4)})
	}
	for d := resilience.Answered; d <= resilience.Fixed; d++ {
		h.CallDone(ctx, call, zerohop.CallResult{Detail: d, Status: -1, Outcome: resilience.Outcome(d % 4)})
		call.Mirror = true
		h.CallDone(ctx, call, zerohop.CallResult{Detail: d, Status: -1, Outcome: resilience.Outcome(d % 4)})
		call.Mirror = false
	}
	for _, s := range []zerohop.Stage{zerohop.StageRateLimit, zerohop.StageLimit, zerohop.StageThrottle, zerohop.StageEndpointLimit, zerohop.StageBreaker} {
		for c := resilience.Sheddable; c <= resilience.CriticalPlus; c++ {
			call.Criticality = c
			h.Refused(ctx, call, zerohop.Refusal{Stage: s, Enforced: c > resilience.Sheddable, Attempt: -1})
		}
	}
	h.FellBack(ctx, call, "", nil)
	h.FellBack(ctx, call, "archive", nil)
	for how := loadbalance.HowNone; how <= loadbalance.HowLastResort; how++ {
		e := &zerohop.Explanation{CallInfo: call, Sampled: true, N: 1}
		e.Tries[0].Choice.How = how
		h.Explained(ctx, e)
	}
	h.Explained(ctx, &zerohop.Explanation{CallInfo: call, N: 1})
	for k := discovery.EventPublished; k <= discovery.EventSnapshotRejected; k++ {
		for _, row := range errorTypes {
			if row.protocol == protocolHTTP && row.status < 0 {
				h.Discovery("orders", discovery.Event{Kind: k, Err: row.err})
			}
		}
	}
	h.Health("orders", zerohop.HealthEvent{Err: context.DeadlineExceeded})
	h.Health("orders", zerohop.HealthEvent{Err: io.EOF})
	h.Health("orders", zerohop.HealthEvent{Err: refusedDial})
	h.Health("orders", zerohop.HealthEvent{Passing: true})
	for n := zerohop.NetworkTCP; n <= zerohop.NetworkInProcess; n++ {
		h.Connection("orders", zerohop.ConnectionEvent{Network: n})
	}
	for _, r := range []samehost.Reason{
		samehost.ReasonGone, samehost.ReasonRefused, samehost.ReasonBusy, samehost.ReasonForbidden, samehost.ReasonReplaced,
		samehost.ReasonSilent, samehost.ReasonOther,
	} {
		h.Connection("orders", zerohop.ConnectionEvent{Fallback: r})
	}
	h.Update(zerohop.UpdateEvent{Generation: 2})
	h.Update(zerohop.UpdateEvent{Generation: 2, Err: io.EOF})
	for _, k := range []zerohop.StateKind{
		zerohop.StateEjected, zerohop.StateSpared, zerohop.StateReturned, zerohop.StatePanicBegan, zerohop.StatePanicEnded,
		zerohop.StateBreakerOpened, zerohop.StateBreakerHalfOpened, zerohop.StateBreakerClosed, zerohop.StateSpillBegan, zerohop.StateSpillEnded,
		zerohop.StateBudgetEmpty, zerohop.StateBudgetRestored, zerohop.StateShedding, zerohop.StateShedEnded,
		zerohop.StateOperator, zerohop.StateOperatorEnded,
	} {
		for _, cause := range []string{"consecutive", "failure share", "deviation", "slow", "silence", "probe failed", "operator"} {
			h.State("orders", zerohop.StateEvent{Kind: k, Addr: "10.0.0.1:80", Cause: cause})
			h.State("orders", zerohop.StateEvent{Kind: k, Cause: cause})
		}
	}
	m.gauges.opened(&fixed{Generation: 2, Services: []zerohop.ServiceState{{
		Name: "orders", Discovery: zerohop.DiscoveryState{Known: true, Endpoints: 3},
		Endpoints: []zerohop.EndpointState{{Breaker: resilience.BreakerOpen}}, Budget: 0.5, Throttle: 0.5,
		Breaker: resilience.BreakerClosed, Limit: &resilience.LimitState{}, RetriesPaused: time.Now(),
	}}})
}

// zoned returns nodes in the given zones.
func zoned(zones ...string) []*loadbalance.Node {
	var eps []discovery.Endpoint
	for i, z := range zones {
		eps = append(eps, discovery.Endpoint{Addr: fmt.Sprintf("10.0.0.%d:80", i+1), Zone: z})
	}
	b := loadbalance.New(loadbalance.Config{})
	b.Update(eps)
	return b.Set().Nodes()
}

func kindOfData(data metricdata.Aggregation) string {
	switch data := data.(type) {
	case metricdata.Sum[int64]:
		if data.IsMonotonic {
			return "counter"
		}
		return "up-down counter"
	case metricdata.Gauge[int64], metricdata.Gauge[float64]:
		return "gauge"
	case metricdata.Histogram[float64]:
		return fmt.Sprint("histogram ", data.DataPoints[0].Bounds)
	default:
		return fmt.Sprintf("%T", data)
	}
}

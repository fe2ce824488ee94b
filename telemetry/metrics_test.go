package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// parallel makes n calls, eight at a time.
func parallel(n int, call func()) {
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				call()
			}
		})
	}
	wg.Wait()
}

// checkSums checks that what was counted is what servers and callers have seen.
func checkSums(t *testing.T, m map[string]metricdata.Metrics, duration string, executions, calls int64) {
	t.Helper()
	if executions <= calls {
		t.Errorf("%d executions of %d calls: nothing was retried", executions, calls)
	}
	for _, row := range []struct {
		what      string
		got, want int64
	}{
		{"attempts", total(t, m["zerohop.attempts"]), executions},
		{"first attempts", total(t, m["zerohop.attempts"], attemptKind.String("first")), calls},
		{"retries", total(t, m["zerohop.attempts"], attemptKind.String("retry")), executions - calls},
		{duration, total(t, m[duration]), executions},
		{"calls", total(t, m["zerohop.call.duration"]), calls},
	} {
		if row.got != row.want {
			t.Errorf("%s = %d, want %d", row.what, row.got, row.want)
		}
	}
}

// noBackups keeps a slow machine from adding attempts that are no retries.
var noBackups = zerohop.Spec{Defaults: zerohop.Policy{
	Backup: zerohop.Backup{Mode: zerohop.Off}, Budget: zerohop.Budget{Mode: zerohop.Off},
}}

func TestSumsAreWhatHTTPServersSaw(t *testing.T) {
	b := &backends{answer: func(n int, w http.ResponseWriter, _ *http.Request) {
		if n%3 == 0 {
			w.WriteHeader(http.StatusBadGateway)
		}
		_, _ = io.WriteString(w, "answer")
	}}
	r := newRecorder(t)
	c := newClient(t, zerohop.Config{Resolver: b.start(t, 3), Spec: noBackups, Hooks: r.hooks(t)})
	parallel(200, func() { get(t, c, t.Context(), "http://orders/") })
	m := r.instruments(t)
	checkSums(t, m, "http.client.request.duration", int64(b.count()), 200)
	if got, want := total(t, m["http.client.request.duration"], errorType.String("502"), httpStatus.Int(502)), int64((b.count()+2)/3); got != want {
		t.Errorf("answers 502 = %d, want %d", got, want)
	}
	if got, want := len(r.ended(t)), b.count()+200; got != want {
		t.Errorf("%d spans, want %d", got, want)
	}
}

// Whatever has requests made, each is one attempt and one value of the histogram of the conventions, and calls are those of callers and
// fallbacks; copies for mirrors are in figures of their own.
func TestSumsHoldWithMirrorsAndFallbacks(t *testing.T) {
	orders := &backends{answer: func(_ int, w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "3") {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}}
	spare, copies := &backends{answer: noAnswer}, &backends{answer: noAnswer}
	resolver := orders.start(t, 2)
	resolver["spare"], resolver["copies"] = spare.start(t, 1)["orders"], copies.start(t, 1)["orders"]
	r := newRecorder(t)
	spec := noBackups
	spec.Services = map[string]zerohop.Policy{"orders": {
		Fallback: zerohop.Substitute{Service: "spare"}, Retry: zerohop.Retry{Attempts: 2}, Outlier: zerohop.Outlier{Mode: zerohop.Off},
	}}
	spec.Routes = []routing.Rule{{
		Name: "all", Match: routing.Match{Service: "orders"}, Mirrors: []routing.Mirror{{Service: "copies"}},
	}}
	const calls = 100
	copied := make(chan struct{}, calls) // copies end when they like
	hooks := zerohop.JoinHooks(r.hooks(t), zerohop.Hooks{CallDone: func(_ context.Context, call zerohop.CallInfo, _ zerohop.CallResult) {
		if call.Mirror {
			copied <- struct{}{}
		}
	}})
	c := newClient(t, zerohop.Config{Resolver: resolver, Spec: spec, Hooks: hooks})
	for i := range calls {
		if got, want := get(t, c, t.Context(), fmt.Sprintf("http://orders/%d", i)), http.StatusOK; got != want {
			t.Errorf("status = %d, want %d", got, want)
		}
		<-copied
	}
	m := r.instruments(t)
	requests := orders.count() + spare.count() + copies.count()
	if got, want := orders.count(), calls+calls/10; got != want {
		t.Errorf("%d requests for the service, want %d", got, want)
	}
	for what, row := range map[string]struct {
		got  int64
		want int
	}{
		"attempts":             {total(t, m["zerohop.attempts"]), requests},
		"values":               {total(t, m["http.client.request.duration"]), requests},
		"values of copies":     {total(t, m["http.client.request.duration"], mirror.Bool(true)), copies.count()},
		"attempts of copies":   {total(t, m["zerohop.attempts"], attemptKind.String(kindMirror)), calls},
		"copies":               {total(t, m["zerohop.mirror.duration"]), calls},
		"retries":              {total(t, m["zerohop.attempts"], attemptKind.String(kindRetry)), calls / 10},
		"calls":                {total(t, m["zerohop.call.duration"]), calls + calls/10},
		"calls of the service": {total(t, m["zerohop.call.duration"], service.String("orders")), calls},
		"failed calls":         {total(t, m["zerohop.call.duration"], outcome.String("failure")), calls / 10},
		"fallbacks":            {total(t, m["zerohop.fallbacks"], fallback.String("service")), spare.count()},
		"calls as fallbacks":   {total(t, m["zerohop.call.duration"], service.String("spare")), calls / 10},
	} {
		if row.got != int64(row.want) {
			t.Errorf("%s = %d, want %d", what, row.got, row.want)
		}
	}
	if got, want := len(r.ended(t)), requests+calls+calls/10+calls+spare.count(); got != want { // one tells of each fallback
		t.Errorf("%d spans, want %d", got, want)
	}
}

// What is thrown away for another attempt because it is too long to keep was an answer nevertheless.
func TestAnswersThatAreDiscardedHaveTheirStatus(t *testing.T) {
	b := &backends{answer: func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 0 {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write(make([]byte, 1<<20))
		}
	}}
	r := newRecorder(t)
	c := newClient(t, zerohop.Config{Resolver: b.start(t, 2), Spec: noBackups, Hooks: r.hooks(t)})
	if got, want := get(t, c, t.Context(), "http://orders/"), http.StatusOK; got != want {
		t.Fatalf("status = %d, want %d", got, want)
	}
	m := r.instruments(t)["http.client.request.duration"]
	if got, want := total(t, m, errorType.String("502"), httpStatus.Int(502)), int64(1); got != want {
		t.Errorf("answers 502 = %d, want %d", got, want)
	}
	spanHas(t, r.ended(t)[1], map[attribute.Key]string{httpStatus: "502", errorType: "502", outcome: "failure"})
}

func TestSumsAreWhatGRPCServersSaw(t *testing.T) {
	e := &echoes{answer: func(_ context.Context, n int) error {
		if n%3 == 0 {
			return status.Error(grpccodes.Unavailable, "come again")
		}
		return nil
	}}
	r := newRecorder(t)
	c := newEcho(t, zerohop.Config{Resolver: e.start(t, 3), Spec: noBackups, Hooks: r.hooks(t)})
	parallel(200, func() {
		_, _ = c.Say(t.Context(), &echopb.SayRequest{}, grpc.WaitForReady(true)) // a few fail three times
	})
	checkSums(t, r.instruments(t), "rpc.client.call.duration", int64(len(e.seen)), 200)
}

// drive reports one call with one attempt to the hooks.
func drive(h *zerohop.Hooks, ctx context.Context, call zerohop.CallInfo, a zerohop.AttemptInfo, r zerohop.AttemptResult) {
	ctx = h.CallStart(ctx, call)
	actx := h.AttemptStart(ctx, call, a)
	h.Propagate(actx, func(string, string) {})
	h.AttemptDone(actx, call, a, r)
	h.CallDone(ctx, call, zerohop.CallResult{Attempts: 1, Status: r.Status, Outcome: r.Outcome, Err: r.Err, Duration: r.Duration})
}

func TestSeriesAreBounded(t *testing.T) {
	r := newRecorder(t)
	h, err := New(Config{MeterProvider: r.meter, TracerProvider: tracenoop.NewTracerProvider()})
	if err != nil {
		t.Fatal(err)
	}
	a := zerohop.AttemptInfo{Node: newNode("10.0.0.1:80")}
	known := zerohop.CallInfo{Service: "orders", Host: "orders", Protocol: "http", Method: "GET"}
	ok := zerohop.AttemptResult{Status: 200}
	drive(&h, t.Context(), known, a, ok)
	n := 100_000
	if raced {
		n /= 5
	}
	for i := range n {
		name := fmt.Sprintf("host-%d", i)
		call := zerohop.CallInfo{Service: name, Host: fmt.Sprint("host-", i%701), Route: fmt.Sprint(i % 50), Protocol: "http", Method: name}
		if i%2 == 0 {
			call.Protocol, call.Method = "grpc", "/evil.Service/"+name
		}
		drive(&h, t.Context(), call, a, zerohop.AttemptResult{Status: i%1100 - 1, Outcome: resilience.Outcome(i % 5)})
		h.Discovery(name, discovery.Event{Kind: discovery.EventKind(i%5 + 1), Err: errors.New(name), Endpoints: i})
	}
	drive(&h, t.Context(), known, a, ok)
	m := r.instruments(t)
	for name, want := range map[string]int{
		"http.client.request.duration": n/2 + 2, "rpc.client.call.duration": n / 2, "zerohop.call.duration": n + 2,
		"zerohop.attempts": n + 2, "zerohop.discovery.events": n, "zerohop.discovery.failures": 2 * n / 5,
	} {
		list := points(t, m[name])
		if len(list) == 0 || len(list) > maxSeries {
			t.Errorf("%s has %d series, want at most %d", name, len(list), maxSeries)
		}
		if got := total(t, m[name]); got != int64(want) {
			t.Errorf("%s sums up to %d, want %d", name, got, want)
		}
	}
	full := total(t, m["http.client.request.duration"], attribute.Bool("otel.metric.overflow", true))
	if full == 0 {
		t.Error("nothing was counted as overflow: the test is too small")
	}
	if got, want := total(t, m["http.client.request.duration"], serverAddress.String("orders"), httpMethod.String("GET")), int64(2); got != want {
		t.Errorf("requests to the service known before = %d, want %d", got, want)
	}
}

// Specs that are updated for months, with names of their own each time, leave place for services that come later, and lose no count.
func TestRoutesThatComeAndGoLeavePlaceForOthers(t *testing.T) {
	r := newRecorder(t)
	h, err := New(Config{MeterProvider: r.meter, TracerProvider: tracenoop.NewTracerProvider()})
	if err != nil {
		t.Fatal(err)
	}
	a := zerohop.AttemptInfo{Node: newNode("10.0.0.1:80")}
	const n = 20_000
	for i := range n {
		call := zerohop.CallInfo{Service: "orders", Host: "orders", Route: fmt.Sprint("canary-", i), Protocol: "http", Method: "GET"}
		drive(&h, t.Context(), call, a, zerohop.AttemptResult{Status: 200})
	}
	later := zerohop.CallInfo{Service: "stock", Host: "stock", Route: "canary-0", Protocol: "http", Method: "GET"}
	drive(&h, t.Context(), later, a, zerohop.AttemptResult{Status: 200})
	m := r.instruments(t)
	for _, name := range []string{"zerohop.call.duration", "zerohop.attempts"} {
		if got, want := len(points(t, m[name])), maxRoutes+2; got != want {
			t.Errorf("%s has %d series, want %d", name, got, want)
		}
		if got, want := total(t, m[name], service.String("orders"), route.String(other)), int64(n-maxRoutes); got != want {
			t.Errorf("%s of routes that are not told apart = %d, want %d", name, got, want)
		}
		if got, want := total(t, m[name], service.String("stock"), route.String("canary-0")), int64(1); got != want {
			t.Errorf("%s of a service that came later = %d, want %d", name, got, want)
		}
	}
}

// What exceeds the series of an instrument is counted all the same, and what was known before goes on as it was.
func TestOverflowIsCounted(t *testing.T) {
	r := newRecorder(t)
	h, err := New(Config{MeterProvider: r.meter, TracerProvider: tracenoop.NewTracerProvider()})
	if err != nil {
		t.Fatal(err)
	}
	a := zerohop.AttemptInfo{Node: newNode("10.0.0.1:80")}
	const services, routes, rounds = 50, 50, 2
	for range rounds {
		for i := range services * routes {
			name := fmt.Sprint("s", i%services)
			call := zerohop.CallInfo{Service: name, Host: name, Route: fmt.Sprint("r", i/services), Protocol: "http", Method: "GET"}
			drive(&h, t.Context(), call, a, zerohop.AttemptResult{Status: 200})
		}
	}
	m := r.instruments(t)
	for _, name := range []string{"zerohop.call.duration", "zerohop.attempts"} {
		if got, want := len(points(t, m[name])), maxSeries; got != want {
			t.Errorf("%s has %d series, want %d", name, got, want)
		}
		if got, want := total(t, m[name], attribute.Bool("otel.metric.overflow", true)), int64(rounds*(services*routes-maxSeries+1)); got != want {
			t.Errorf("%s has %d in overflow, want %d", name, got, want)
		}
		if got, want := total(t, m[name], service.String("s1"), route.String("r1")), int64(rounds); got != want {
			t.Errorf("%s of a route known before = %d, want %d", name, got, want)
		}
	}
}

func TestNamesUnfitForAttributesAreOther(t *testing.T) {
	n := newNames()
	for _, name := range []string{"bad\xffname", strings.Repeat("x", maxName+1)} {
		if got, want := n.hosts.bound(name), other; got != want {
			t.Errorf("bound(%.10q) = %q, want %q", name, got, want)
		}
	}
	if got, want := n.hosts.bound(""), ""; got != want {
		t.Errorf("bound of the empty name = %q, want %q", got, want)
	}
	if got := clean(strings.Repeat("é", maxName)); len(got) > maxName {
		t.Errorf("clean() left %d bytes, want at most %d", len(got), maxName)
	}
}

var refusedDial = &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}

// errorTypes are ends of attempts and what error.type says of them.
var errorTypes = []struct {
	protocol string
	status   int
	err      error
	want     string
}{
	{"http", 200, nil, ""},
	{"http", 404, nil, "404"},
	{"http", 999, nil, other},
	{"http", 200, io.ErrUnexpectedEOF, "connection_lost"},
	{"http", -1, fmt.Errorf("wrapped: %w", syscall.ECONNRESET), "connection_lost"},
	{"http", -1, refusedDial, "connect"},
	{"http", -1, context.DeadlineExceeded, "timeout"},
	{"http", -1, os.ErrDeadlineExceeded, "timeout"},
	{"http", -1, context.Canceled, "canceled"},
	{"http", -1, errors.New("anything"), other},
	{"http", -1, zerohop.ErrClosed, "closed"},
	{"http", -1, &zerohop.Error{Reason: zerohop.Unavailable}, "unavailable"},
	{"http", -1, &zerohop.Error{Reason: zerohop.RateLimited}, "rate_limited"},
	{"http", -1, &zerohop.Error{Reason: zerohop.Limited}, "limited"},
	{"http", -1, &zerohop.Error{Reason: zerohop.Throttled}, "throttled"},
	{"http", -1, &zerohop.Error{Reason: zerohop.BreakerOpen}, "breaker_open"},
	{"http", -1, &zerohop.Error{Reason: zerohop.NoEndpoints, Err: refusedDial}, "no_endpoints"},
	{"http", -1, &zerohop.Error{Reason: zerohop.Failed, Err: refusedDial}, "connect"},
	{"grpc", 0, nil, ""},
	{"grpc", 5, errors.New("not found"), "NOT_FOUND"},
	{"grpc", 4711, errors.New("odd"), "UNKNOWN"},
	{"", -1, io.EOF, "connection_lost"},
	{"", -1, fmt.Errorf("x: %w", discovery.ErrUnknownService), "unknown_service"},
}

func TestErrorTypesAreAFixedList(t *testing.T) {
	for _, row := range errorTypes {
		if got := typeOfAnswer(row.protocol, row.status, row.err); got != row.want {
			t.Errorf("typeOfAnswer(%q, %d, %v) = %q, want %q", row.protocol, row.status, row.err, got, row.want)
		}
	}
}

func TestUpdatesOfTheSpecAreCounted(t *testing.T) {
	r := newRecorder(t)
	mesh := newMesh(t, zerohop.Config{Resolver: discovery.Static{}, Hooks: r.hooks(t)})
	if got, want := total(t, r.instruments(t)["zerohop.spec.generation"]), int64(1); got != want {
		t.Errorf("generation before an update = %d, want %d", got, want)
	}
	if got := len(points(t, r.instruments(t)["zerohop.spec.updates"])); got != 2 {
		t.Errorf("%d sets of attributes before an update, want 2 at 0: else the first one is no rise", got)
	}
	for i, attempts := range []int{2, 3, 3, 99, -1} { // the third changes nothing, the last two are invalid
		spec := zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Attempts: attempts}}}
		if _, err := mesh.Update(spec); (err != nil) != (i > 2) {
			t.Errorf("Update() with %d attempts = %v", attempts, err)
		}
	}
	m := r.instruments(t)
	for state, want := range map[string]int64{"applied": 2, "refused": 2} {
		if got := total(t, m["zerohop.spec.updates"], updateState.String(state)); got != want {
			t.Errorf("%d updates were %s, want %d", got, state, want)
		}
	}
	if got, want := total(t, m["zerohop.spec.generation"]), int64(3); got != want {
		t.Errorf("generation = %d, want %d", got, want)
	}
}

func TestAgeOfEndpointsGrowsWhileTheSourceIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t)
		var source discoverytest.Memory
		source.Set("orders", eight()...)
		mesh, err := zerohop.New(zerohop.Config{
			Resolver: &source, Hooks: r.hooks(t), Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer mesh.Close()
		check := func(when string, endpoints, held, age int64) {
			t.Helper()
			m := r.instruments(t)
			for name, want := range map[string]int64{
				"zerohop.discovery.endpoints": endpoints, "zerohop.discovery.held": held, "zerohop.discovery.age": age,
			} {
				if got := total(t, m[name], service.String("orders")); got != want {
					t.Errorf("%s: %s = %d, want %d", when, name, got, want)
				}
			}
		}
		time.Sleep(time.Hour)
		check("source works", 8, 0, 0)
		source.Break(io.ErrUnexpectedEOF)
		time.Sleep(time.Hour)
		check("source broken", 8, 0, 3600)
		time.Sleep(10 * time.Hour)
		check("source broken for long", 8, 0, 3600*11)
		source.Break(nil)
		time.Sleep(2 * time.Second)
		check("source back", 8, 0, 0)
		source.Set("orders", eight()[:1]...)
		synctest.Wait()
		check("mass removal", 8, 7, 0)
		time.Sleep(7 * time.Second)
		check("mass removal confirmed", 1, 0, 0)
		m := r.instruments(t)
		for event, want := range map[string]int64{"published": 2, "removal_held": 1, "confirmed": 1} {
			if got := total(t, m["zerohop.discovery.events"], discoveryEvent.String(event)); got != want {
				t.Errorf("events of kind %q = %d, want %d", event, got, want)
			}
		}
		mesh.Close()
		if m := r.instruments(t); m["zerohop.discovery.age"].Data != nil && len(points(t, m["zerohop.discovery.age"])) > 0 {
			t.Error("there is an age of what is not watched any more")
		}
	})
}

// eight returns eight endpoints.
func eight() (eps []discovery.Endpoint) {
	for i := range 8 {
		eps = append(eps, discovery.Endpoint{Addr: fmt.Sprintf("10.0.0.%d:80", i+1)})
	}
	return eps
}

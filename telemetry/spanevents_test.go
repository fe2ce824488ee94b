package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// eventsOf returns the events of a span as "name key=value ...".
func eventsOf(s sdktrace.ReadOnlySpan) (list []string) {
	for _, e := range s.Events() {
		text := e.Name
		for _, kv := range e.Attributes {
			text += fmt.Sprintf(" %s=%s", strings.TrimPrefix(string(kv.Key), "zerohop."), kv.Value.String())
		}
		list = append(list, text)
	}
	return list
}

// hasEvents checks the events of a span, each by how its text begins.
func hasEvents(t *testing.T, s sdktrace.ReadOnlySpan, want ...string) {
	t.Helper()
	got := eventsOf(s)
	if len(got) != len(want) {
		t.Errorf("events of span %q = %q, want %q", s.Name(), got, want)
		return
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("event of span %q = %q, want %q", s.Name(), got[i], want[i])
		}
	}
}

func TestSpansTellOfWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t)
		h := r.hooks(t)
		call := ordersCall
		call.Start = time.Now()
		node := newNode("10.0.0.1:80")
		ctx := h.CallStart(t.Context(), call)
		time.Sleep(20 * time.Millisecond) // for endpoints
		first := h.AttemptStart(ctx, call, zerohop.AttemptInfo{})
		time.Sleep(30 * time.Millisecond) // for a connection
		time.Sleep(5 * time.Millisecond)  // for the answer
		h.AttemptDone(first, call, zerohop.AttemptInfo{Node: node}, zerohop.AttemptResult{Status: 503, Outcome: resilience.Failure, Duration: 5 * time.Millisecond})
		time.Sleep(40 * time.Millisecond)
		second := h.AttemptStart(ctx, call, zerohop.AttemptInfo{Number: 1, Node: node})
		time.Sleep(50 * time.Millisecond)
		third := h.AttemptStart(ctx, call, zerohop.AttemptInfo{Number: 2, Backup: true, Node: node})
		h.AttemptDone(third, call, zerohop.AttemptInfo{Number: 2, Backup: true, Node: node}, zerohop.AttemptResult{Status: 200, Resends: 2})
		h.AttemptDone(second, call, zerohop.AttemptInfo{Number: 1, Node: node}, zerohop.AttemptResult{Status: -1, Duration: 50 * time.Millisecond})
		h.CallDone(ctx, call, zerohop.CallResult{Attempts: 3, Status: 200, Delayed: time.Second})
		spans := r.ended(t)
		hasEvents(t, spans[0], "zerohop.call.delayed delay=0.02", "zerohop.retry attempt.number=1 delay=0.04", "zerohop.backup attempt.number=2")
		spanHas(t, spans[0], map[attribute.Key]string{delay: "1", criticality: "unspecified", mirror: "-"})
		hasEvents(t, spans[1], "zerohop.pick.delayed delay=0.03")
		if got, want := spans[1].Events()[0].Time.Sub(spans[1].StartTime()), 30*time.Millisecond; got != want {
			t.Errorf("the endpoint was chosen after %v, want %v", got, want)
		}
		hasEvents(t, spans[2])
		hasEvents(t, spans[3])
		spanHas(t, spans[3], map[attribute.Key]string{attemptResends: "2", httpResendCount: "2"})
		m := r.instruments(t)
		if got, want := total(t, m["zerohop.resends"], service.String("orders")), int64(2); got != want {
			t.Errorf("resends = %d, want %d", got, want)
		}
		if got, want := total(t, m["zerohop.backups"], backupResult.String(backupWon)), int64(1); got != want {
			t.Errorf("backups that won = %d, want %d", got, want)
		}
	})
}

func TestSpansTellOfRefusals(t *testing.T) {
	r := newRecorder(t)
	b := &backends{answer: noAnswer}
	c := newClient(t, zerohop.Config{Resolver: b.start(t, 1), Hooks: r.hooks(t), Spec: zerohop.Spec{Services: map[string]zerohop.Policy{
		"orders": {RateLimit: zerohop.RateLimit{Mode: zerohop.On, Rate: 0.001, Burst: 1}},
	}}})
	get(t, c, t.Context(), "http://orders/")
	if resp, err := c.Get("http://orders/"); err == nil {
		resp.Body.Close()
		t.Error("the second call was not refused")
	}
	spans := r.ended(t)
	hasEvents(t, spans[2], "zerohop.refused stage=rate-limit enforced=true delay=", "zerohop.explanation explanation=GET orders: rate limited")
	spanHas(t, spans[2], map[attribute.Key]string{responseFlag: "RL"})
	labels := []attribute.KeyValue{service.String("orders"), stage.String("rate-limit"), criticality.String("critical"), enforced.Bool(true)}
	if got, want := total(t, r.instruments(t)["zerohop.refusals"], labels...), int64(1); got != want {
		t.Errorf("refusals = %d, want %d", got, want)
	}
}

func TestSpansTellOfEjections(t *testing.T) {
	r := newRecorder(t)
	b := &backends{answer: func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }}
	spec := zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Attempts: 1}, Outlier: zerohop.Outlier{Consecutive: 2}}}
	mesh := newMesh(t, zerohop.Config{Resolver: b.start(t, 2), Hooks: r.hooks(t), Spec: spec})
	tr := httpmesh.NewTransport(mesh, &http.Transport{})
	defer tr.CloseIdleConnections()
	for range 10 {
		get(t, &http.Client{Transport: tr}, t.Context(), "http://orders/")
	}
	n := 0
	for _, s := range r.ended(t) {
		for _, e := range eventsOf(s) {
			if e == eventEjected && s.SpanKind() == trace.SpanKindClient {
				n++
			}
		}
	}
	if n == 0 {
		t.Error("no span tells of an ejection")
	}
	mesh.Close()
	m := r.instruments(t)
	ejected := total(t, m["zerohop.ejections"], service.String("orders"), cause.String("consecutive"), enforced.Bool(true))
	if ejected == 0 {
		t.Error("no ejection was counted")
	}
	if got := total(t, m["zerohop.state.changes"], stateChange.String("ejected")); got != ejected {
		t.Errorf("changes of state = %d, want %d as ejections", got, ejected)
	}
}

func TestSpansTellOfFallbacks(t *testing.T) {
	r := newRecorder(t)
	mesh := newMesh(t, zerohop.Config{Resolver: discovery.Static{}, Hooks: r.hooks(t)})
	tr := httpmesh.NewTransport(mesh, &http.Transport{})
	tr.Fallback = func(*http.Request, *http.Response, error) *http.Response { return &http.Response{StatusCode: 200} }
	if got, want := get(t, &http.Client{Transport: tr}, t.Context(), "http://orders/"), 200; got != want {
		t.Fatalf("status = %d, want %d", got, want)
	}
	if got, want := total(t, r.instruments(t)["zerohop.fallbacks"], fallback.String("function")), int64(1); got != want {
		t.Errorf("fallbacks = %d, want %d", got, want)
	}
	var told string
	for _, s := range r.ended(t) {
		if s.Name() == eventFallback {
			told = s.Parent().SpanID().String()
		}
		for _, e := range eventsOf(s) {
			if strings.HasPrefix(e, eventFallback) {
				told = s.SpanContext().SpanID().String()
			}
		}
	}
	if want := r.ended(t)[0].SpanContext().SpanID().String(); told != want {
		t.Errorf("the fallback is told of at span %q, want %q, that of the call", told, want)
	}
	h := r.hooks(t)
	h.FellBack(h.CallStart(t.Context(), ordersCall), ordersCall, "archive", nil)
	started := r.spans.Started()
	hasEvents(t, started[len(started)-1], "zerohop.fallback fallback.service=archive fallback=service")
}

func TestSpansHaveTheExplanation(t *testing.T) {
	r := newRecorder(t)
	h := r.hooks(t)
	ctx := h.CallStart(t.Context(), ordersCall)
	e := &zerohop.Explanation{CallInfo: ordersCall, Error: strings.Repeat("\xff", maxExplanation), Reason: zerohop.NoEndpoints, Generation: 7, N: 1}
	h.Explained(ctx, e)
	h.CallDone(ctx, ordersCall, zerohop.CallResult{Status: -1})
	s := r.ended(t)[0]
	hasEvents(t, s, "zerohop.explanation explanation=")
	spanHas(t, s, map[attribute.Key]string{explained: "failed", generation: "7", reason: string(zerohop.NoEndpoints)})
	if got := len(s.Events()[0].Attributes[0].Value.AsString()); got > 2*maxExplanation {
		t.Errorf("the explanation has %d bytes, want about %d", got, maxExplanation)
	}
	if got, want := total(t, r.instruments(t)["zerohop.explanations"], explained.String("failed")), int64(1); got != want {
		t.Errorf("explanations = %d, want %d", got, want)
	}
	h.Explained(t.Context(), &zerohop.Explanation{CallInfo: ordersCall, Sampled: true, N: 1, Tries: [resilience.MaxAttempts]zerohop.Try{
		{Choice: loadbalance.Choice{How: loadbalance.HowCompared}},
	}})
	if got, want := total(t, r.instruments(t)["zerohop.picks"], pickHow.String("compared")), int64(1); got != want {
		t.Errorf("picks = %d, want %d", got, want)
	}
}

// Queries, users, passwords and headers are on no span and in no metric.
func TestSpansHaveNoSecrets(t *testing.T) {
	r := newRecorder(t)
	b := &backends{answer: func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }}
	c := newClient(t, zerohop.Config{Resolver: b.start(t, 2), Hooks: r.hooks(t)})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://user:sesame@orders/sesame?token=sesame#sesame", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer sesame")
	req.Header.Set("Cookie", "sesame=sesame")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	h := r.hooks(t)
	for _, text := range []string{
		`Get "http://user:sesame@orders/v1?token=sesame": refused`, "dial https://a:ses@ame/sesame@host:80/x#sesame",
		"x" + strings.Repeat("y", maxRedacted-20) + "http://user:sesame@orders",
	} {
		drive(&h, t.Context(), ordersCall, zerohop.AttemptInfo{Node: newNode("10.0.0.1:80")}, zerohop.AttemptResult{Status: -1, Err: errors.New(text)})
	}
	for _, s := range r.ended(t) {
		if text := fmt.Sprint(s.Name(), s.Attributes(), s.Events(), s.Status()); strings.Contains(text, "sesame") {
			t.Errorf("there is a secret in %s", text)
		}
	}
	if text := fmt.Sprint(r.instruments(t)); strings.Contains(text, "sesame") {
		t.Errorf("there is a secret in %s", text)
	}
}

// Back ends link an example of each bucket to its trace.
func TestDurationsHaveExemplarsOfTheirSpans(t *testing.T) {
	r := newRecorder(t)
	b := &backends{answer: noAnswer}
	c := newClient(t, zerohop.Config{Resolver: b.start(t, 1), Hooks: r.hooks(t)})
	get(t, c, t.Context(), "http://orders/")
	spans, m := r.ended(t), r.instruments(t)
	for i, name := range []string{"zerohop.call.duration", "http.client.request.duration"} {
		var got []string
		data, _ := m[name].Data.(metricdata.Histogram[float64])
		for _, p := range data.DataPoints {
			for _, e := range p.Exemplars {
				got = append(got, fmt.Sprintf("%x %x", e.TraceID, e.SpanID))
			}
		}
		sc := spans[i].SpanContext()
		if want := sc.TraceID().String() + " " + sc.SpanID().String(); len(got) != 1 || got[0] != want {
			t.Errorf("exemplars of %s = %q, want %q, that of %s", name, got, want, spans[i].Name())
		}
	}
	never := newRecorder(t, sdktrace.WithSampler(sdktrace.NeverSample()))
	c = newClient(t, zerohop.Config{Resolver: b.start(t, 1), Hooks: never.hooks(t)})
	get(t, c, t.Context(), "http://orders/")
	data, _ := never.instruments(t)["zerohop.call.duration"].Data.(metricdata.Histogram[float64])
	for _, p := range data.DataPoints {
		if len(p.Exemplars) > 0 {
			t.Error("a call that is not sampled has an exemplar")
		}
	}
}

func TestInstrumentedLeavesConventionsToOthers(t *testing.T) {
	r := newRecorder(t)
	b := &backends{answer: noAnswer}
	h, err := New(Config{MeterProvider: r.meter, TracerProvider: r.tracer, Propagator: propagator, Instrumented: true})
	if err != nil {
		t.Fatal(err)
	}
	get(t, newClient(t, zerohop.Config{Resolver: b.start(t, 1), Hooks: h}), t.Context(), "http://orders/")
	drive(&h, t.Context(), ordersCall, zerohop.AttemptInfo{Node: newNode("10.0.0.1:80")}, zerohop.AttemptResult{Status: 500, Err: io.EOF})
	spans, m := r.ended(t), r.instruments(t)
	for _, s := range spans {
		if got, want := s.SpanKind(), trace.SpanKindInternal; got != want {
			t.Errorf("span %q is %v, want %v", s.Name(), got, want)
		}
		spanHas(t, s, map[attribute.Key]string{httpMethod: "-", httpStatus: "-", serverAddress: "-"})
	}
	if got, want := b.seen[0], traceparent(spans[1]); got != want {
		t.Errorf("traceparent = %q, want %q", got, want)
	}
	spanHas(t, spans[3], map[attribute.Key]string{errorType: "500"})
	checkStatus(t, spans[3], codes.Error)
	for _, name := range []string{"http.client.request.duration", "rpc.client.call.duration"} {
		if _, ok := m[name]; ok {
			t.Errorf("there is an instrument %s", name)
		}
	}
	if got, want := total(t, m["zerohop.attempts"]), int64(2); got != want {
		t.Errorf("attempts = %d, want %d", got, want)
	}
}

func TestCopiesForMirrorsAreToldApart(t *testing.T) {
	r := newRecorder(t)
	h := r.hooks(t)
	call := ordersCall
	call.Mirror, call.Lane, call.Instead = true, "blue", "archive"
	drive(&h, context.Background(), call, zerohop.AttemptInfo{Node: newNode("10.0.0.1:80")}, zerohop.AttemptResult{Status: 200})
	m := r.instruments(t)
	for name, want := range map[string]int64{"zerohop.call.duration": 0, "zerohop.mirror.duration": 1, "http.client.request.duration": 1} {
		if got := total(t, m[name]); got != want {
			t.Errorf("%s counts %d, want %d", name, got, want)
		}
	}
	if got, want := total(t, m["http.client.request.duration"], mirror.Bool(true)), int64(1); got != want {
		t.Errorf("requests that are copies = %d, want %d", got, want)
	}
	if got, want := total(t, m["zerohop.attempts"], attemptKind.String(kindMirror)), int64(1); got != want {
		t.Errorf("attempts of copies = %d, want %d", got, want)
	}
	spanHas(t, r.ended(t)[0], map[attribute.Key]string{mirror: "true", lane: "blue", instead: "archive"})
}

package telemetry

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/resilience"
)

func TestServerReportsWhatItRefuses(t *testing.T) {
	r := newRecorder(t)
	reports, err := NewAdmission(Config{MeterProvider: r.meter})
	if err != nil {
		t.Fatal(err)
	}
	admission, err := zerohop.NewAdmission(zerohop.AdmissionConfig{
		Policy: zerohop.AdmissionPolicy{Mode: zerohop.On, Algorithm: "fixed", Max: 1, Queue: -1}, Refused: reports.Refused,
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := reports.Watch("api", admission)
	begun, release := make(chan struct{}), make(chan struct{})
	h := httpmesh.NewHandler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-release
	}), httpmesh.HandlerOptions{Admission: admission})
	done := make(chan struct{})
	go func() { // ends with release
		defer close(done)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	}()
	<-begun
	ctx, span := r.tracer.Tracer("test").Start(t.Context(), "server")
	for _, level := range []string{"sheddable", "critical", "sheddable", "\xff"} {
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		req.Header.Set(httpmesh.CriticalityHeader, level)
		h.ServeHTTP(httptest.NewRecorder(), req)
	}
	span.End()
	m := r.instruments(t)
	for level, want := range map[string]int64{"sheddable": 2, "critical": 1, "unspecified": 1} {
		labels := []attribute.KeyValue{criticality.String(level), serverReason.String("no_place_left"), enforced.Bool(true)}
		if got := total(t, m["zerohop.server.refusals"], labels...); got != want {
			t.Errorf("refused %s requests = %d, want %d", level, got, want)
		}
	}
	for _, name := range []string{"zerohop.server.in_flight", "zerohop.server.limit"} {
		if got, want := total(t, m[name], serverName.String("api")), int64(1); got != want {
			t.Errorf("%s = %d, want %d", name, got, want)
		}
	}
	if got, want := len(r.ended(t)[0].Events()), 4; got != want {
		t.Errorf("%d events on the span of the server, want %d", got, want)
	}
	stop()
	stop()
	if m := r.instruments(t)["zerohop.server.limit"]; m.Data != nil && len(points(t, m)) > 0 {
		t.Error("a server that is not watched any more is told of")
	}
	close(release)
	<-done
	reports.Refused(t.Context(), zerohop.AdmissionRefusal{})
	reports.Refused(t.Context(), zerohop.AdmissionRefusal{Err: &zerohop.AdmissionError{NoTime: true}, Arrival: zerohop.Arrival{Criticality: resilience.Critical}})
	if got, want := total(t, r.instruments(t)["zerohop.server.refusals"], serverReason.String("caller_has_no_time")), int64(1); got != want {
		t.Errorf("requests without time = %d, want %d", got, want)
	}
}

func TestAdmissionsThatAreWatchedAreBounded(t *testing.T) {
	r := newRecorder(t)
	reports, err := NewAdmission(Config{MeterProvider: r.meter})
	if err != nil {
		t.Fatal(err)
	}
	admission, err := zerohop.NewAdmission(zerohop.AdmissionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * maxWatched {
		defer reports.Watch(string(rune('a'+i)), admission)()
	}
	if got, want := len(points(t, r.instruments(t)["zerohop.server.limit"])), maxWatched; got != want {
		t.Errorf("%d servers, want %d", got, want)
	}
}

func TestNewAdmissionReportsWhatTheProviderRefuses(t *testing.T) {
	if _, err := NewAdmission(Config{MeterProvider: refusing{callbackOnly: true}}); !errors.Is(err, errRefused) {
		t.Errorf("NewAdmission() = %v, want %v", err, errRefused)
	}
	a, err := NewAdmission(Config{MeterProvider: noop.NewMeterProvider()})
	if err != nil {
		t.Fatal(err)
	}
	a.Refused(context.Background(), zerohop.AdmissionRefusal{})
}

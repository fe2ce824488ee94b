// Package telemetrytest runs a real OpenTelemetry Collector and a real Prometheus for integration tests, on free ports of loopback,
// killed when the test ends. It works on Unix only.
//
//	c := telemetrytest.StartCollector(t, telemetrytest.Options{})
//	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(c.URL()+"/v1/traces"))
//	p := telemetrytest.StartPrometheus(t, telemetrytest.Scrape(c.MetricsAddr()))
//	samples := p.Query(t, "sum(zerohop_attempts_total)")
package telemetrytest

// Package pipeline sends metrics and spans to an OpenTelemetry Collector so that no Collector can harm the program, be it away,
// frozen, slow or hostile. Copy it: it is the set-up that docs/observability.md advises.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// Limits of what a Collector can cost. Each is a promise of its own; together they bound time, memory and work.
const (
	// exportTimeout is how long one request may take. It bounds a Collector that is frozen or drips, for which the default of 10 s
	// would let the queue of spans run full five times over.
	exportTimeout = 2 * time.Second
	// maxAnswer is how much of an answer is read. True ones have a few hundred bytes; the default is 4 MiB.
	maxAnswer = 64 << 10
	// maxQueue spans wait at most, about 6 MB; more are dropped, not waited for.
	maxQueue = 2048
	maxBatch = 512
)

// Config says what is sent where.
type Config struct {
	// URL is where the Collector takes OTLP over HTTP, "http://127.0.0.1:4318".
	URL string
	// Service and Instance name the program and this process of it: service.name and service.instance.id, in Prometheus job and
	// instance.
	Service, Instance string
	// Every is how often metrics are sent; 0 means every 10 s. Spans are sent twice as often, or when a batch is full.
	Every time.Duration
	// Sample is the share of the calls that have spans, from 0 to 1, where the caller has no span that decides; 0 means all.
	Sample float64
}

// Pipeline are the providers of an SDK. Errors of their exporters go to otel.Handle.
type Pipeline struct {
	Metrics *metric.MeterProvider
	Traces  *trace.TracerProvider

	connections *http.Transport
}

// New returns a pipeline. It connects to nobody yet; that there is no Collector is no error.
func New(ctx context.Context, cfg Config) (*Pipeline, error) {
	if cfg.Every == 0 {
		cfg.Every = 10 * time.Second
	}
	if cfg.Sample == 0 {
		cfg.Sample = 1
	}
	// A client of its own: not the mesh, whose calls would then be measured and sent by calls that are measured, and no more than two
	// connections.
	connections := &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     (&net.Dialer{Timeout: time.Second}).DialContext,
		MaxConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout:    time.Second,
		MaxResponseHeaderBytes: 16 << 10,
		ForceAttemptHTTP2:      true,
	}
	client := &http.Client{Transport: connections, Timeout: exportTimeout, CheckRedirect: refuse}

	spans, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(cfg.URL+"/v1/traces"), otlptracehttp.WithHTTPClient(client),
		otlptracehttp.WithTimeout(exportTimeout), otlptracehttp.WithMaxResponseSize(maxAnswer),
		// A batch of spans that could not be sent is dropped: while it is tried again, the queue runs full behind it.
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false}))
	if err != nil {
		return nil, fmt.Errorf("pipeline: spans: %w", err)
	}
	numbers, err := otlpmetrichttp.New(ctx,
		otlpmetrichttp.WithEndpointURL(cfg.URL+"/v1/metrics"), otlpmetrichttp.WithHTTPClient(client),
		otlpmetrichttp.WithTimeout(exportTimeout), otlpmetrichttp.WithMaxResponseSize(maxAnswer),
		// Metrics are cumulative: the next ones, seconds later, say all that these did.
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: false}))
	if err != nil {
		return nil, fmt.Errorf("pipeline: metrics: %w", err)
	}
	about := resource.NewSchemaless(
		attribute.String("service.name", cfg.Service), attribute.String("service.instance.id", cfg.Instance))
	return &Pipeline{
		Metrics: metric.NewMeterProvider(metric.WithResource(about),
			metric.WithReader(metric.NewPeriodicReader(numbers, metric.WithInterval(cfg.Every), metric.WithTimeout(exportTimeout)))),
		Traces: trace.NewTracerProvider(trace.WithResource(about),
			trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(cfg.Sample))),
			trace.WithBatcher(spans, trace.WithBatchTimeout(cfg.Every/2), trace.WithExportTimeout(exportTimeout),
				trace.WithMaxQueueSize(maxQueue), trace.WithMaxExportBatchSize(maxBatch))),
		connections: connections,
	}, nil
}

// refuse keeps what is sent from going where a Collector says.
func refuse(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Flush sends what there is now.
func (p *Pipeline) Flush(ctx context.Context) error {
	return errors.Join(p.Traces.ForceFlush(ctx), p.Metrics.ForceFlush(ctx))
}

// Shutdown sends what there is and ends, at the latest when ctx does: then the rest is lost. Close the mesh before.
func (p *Pipeline) Shutdown(ctx context.Context) error {
	// At the same time, so that each has all the time there is.
	spans := make(chan error, 1)
	go func() { spans <- p.Traces.Shutdown(ctx) }()
	err := p.Metrics.Shutdown(ctx)
	err = errors.Join(<-spans, err)
	p.connections.CloseIdleConnections()
	return err
}

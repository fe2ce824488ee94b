package telemetry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/zerohop/zerohop/ebpfaccel"
)

var (
	acceleratorPath   = attribute.Key("zerohop.accelerator.path")
	acceleratorReason = attribute.Key("zerohop.accelerator.reason")
)

// WatchAccelerator reports the [ebpfaccel.Stats] of this process to cfg.MeterProvider; the rest of cfg is not used. What the
// accelerator does for the whole host tells "zerohop accel status". A program calls it once. After stop, which may be called more
// than once, nothing is observed any more. The error is one of the MeterProvider, which refused an instrument.
func WatchAccelerator(cfg Config) (stop func() error, err error) {
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	meter := cfg.MeterProvider.Meter(scope, metric.WithSchemaURL(schema))
	f := &factory{meter: meter}
	connections := f.counter("zerohop.accelerator.connections", "{connection}", "Ends of connections that sent anything past TCP.")
	io := f.counter("zerohop.accelerator.io", "By", "Bytes that connections which opted in have sent.")
	fallbacks := f.counter("zerohop.accelerator.fallbacks", "{fallback}", "How often connections that opted in went over to TCP.")
	if err := errors.Join(f.errs...); err != nil {
		return nil, err
	}
	redirected, tcp := newLabels(acceleratorPath.String("redirected")), newLabels(acceleratorPath.String("tcp"))
	reasons := make(map[ebpfaccel.Reason]*labels)
	for reason := range ebpfaccel.ReadStats().Fallbacks {
		reasons[reason] = newLabels(acceleratorReason.String(string(reason)))
	}
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := ebpfaccel.ReadStats()
		o.ObserveInt64(connections, int64(s.Accelerated))
		o.ObserveInt64(io, int64(s.RedirectedBytes), redirected.observe...)
		o.ObserveInt64(io, int64(s.TCPBytes), tcp.observe...)
		for reason, l := range reasons {
			o.ObserveInt64(fallbacks, int64(s.Fallbacks[reason]), l.observe...)
		}
		return nil
	}, f.observed...)
	if err != nil {
		return nil, err
	}
	return registration.Unregister, nil
}

package telemetry

import (
	"context"
	"errors"
	"sync"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// Meshes come and go, and make calls, while two readers collect what is observed of them.
func TestMeshesComeAndGoWhileTheyAreObserved(t *testing.T) {
	readers := []*sdkmetric.ManualReader{sdkmetric.NewManualReader(), sdkmetric.NewManualReader()}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(readers[0]), sdkmetric.WithReader(readers[1]))
	h, err := New(Config{MeterProvider: provider, TracerProvider: tracenoop.NewTracerProvider()})
	if err != nil {
		t.Fatal(err)
	}
	collect := func(r *sdkmetric.ManualReader) map[string]metricdata.Metrics {
		return (&recorder{reader: r}).instruments(t)
	}
	const workers, meshes, calls = 4, 20, 5
	broken := errors.New("broken")
	done := make(chan struct{})
	var reading, working sync.WaitGroup
	for _, r := range readers {
		reading.Go(func() {
			for {
				collect(r)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for range workers {
		working.Go(func() {
			for range meshes {
				mesh, err := zerohop.New(zerohop.Config{
					Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}}, "stock": {{Addr: "10.0.0.3:80"}}}, Hooks: h,
					Spec: zerohop.Spec{Defaults: zerohop.Policy{Breaker: zerohop.Breaker{Mode: zerohop.On, Consecutive: 2}, Retry: zerohop.Retry{Attempts: 1}}},
				})
				if err != nil {
					t.Error(err)
					return
				}
				for i := range calls {
					_, _ = zerohop.Do(t.Context(), mesh, []string{"orders", "stock"}[i%2], func(context.Context, *loadbalance.Node) (int, error) { return 0, broken })
				}
				mesh.Close()
			}
		})
	}
	working.Wait()
	close(done)
	reading.Wait()
	for i, r := range readers {
		m := collect(r)
		if got, want := total(t, m["zerohop.call.duration"]), int64(workers*meshes*calls); got != want {
			t.Errorf("reader %d: %d calls, want %d", i, got, want)
		}
		for _, name := range []string{"zerohop.endpoints", "zerohop.discovery.endpoints", "zerohop.attempts.in_flight", "zerohop.spec.generation"} {
			if m[name].Data != nil && len(points(t, m[name])) > 0 {
				t.Errorf("reader %d: %s is observed of meshes that are closed", i, name)
			}
		}
	}
}

package telemetry_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/telemetry"
)

// printer is an exporter that prints spans as they end.
type printer struct{}

func (printer) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	for _, s := range spans {
		fmt.Println(s.SpanKind(), s.Name(), s.Status().Code)
	}
	return nil
}

func (printer) Shutdown(context.Context) error { return nil }

// The first answer is 503, so a second attempt is made on the other endpoint.
func ExampleNew() {
	first := true
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if first {
			first = false
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	a, b := httptest.NewServer(handler), httptest.NewServer(handler)
	defer a.Close()
	defer b.Close()

	spans := sdktrace.NewTracerProvider(sdktrace.WithSyncer(printer{}))
	hooks, err := telemetry.New(telemetry.Config{TracerProvider: spans})
	if err != nil {
		fmt.Println(err)
		return
	}
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": {{Addr: addr(a)}, {Addr: addr(b)}}},
		Hooks:    hooks,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer mesh.Close()

	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://orders/v1/orders/42")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	// Output:
	// client GET Error
	// client GET Unset
	// internal call orders Unset
}

func addr(s *httptest.Server) string { return s.Listener.Addr().(*net.TCPAddr).String() }

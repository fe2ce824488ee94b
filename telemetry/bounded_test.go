package telemetry

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/routing"
)

// A hundred thousand take ten seconds of a processor.
var hostile = flag.Int("hostile", 20_000, "how many hostile requests there are")

// anywhere is a source that knows every service.
type anywhere struct{}

func (anywhere) Watch(ctx context.Context, _ string, update func([]discovery.Endpoint)) error {
	update([]discovery.Endpoint{{Addr: "10.0.0.1:80"}})
	<-ctx.Done()
	return ctx.Err()
}

// odder answers as the request wants, or not at all.
type odder struct{ n atomic.Int64 }

func (o *odder) RoundTrip(req *http.Request) (*http.Response, error) {
	n := o.n.Add(1)
	if n%11 == 0 {
		return nil, errors.New(req.URL.Path)
	}
	return &http.Response{
		StatusCode: int(n/7%1000) + 100, Body: http.NoBody, Request: req, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"X-Odd": {req.URL.Path}},
	}, nil
}

// What callers and servers make up passes the real transports. The SDK has its own limit, as in programs.
func TestHostileRequestsLeaveFewSeries(t *testing.T) {
	n := *hostile
	if raced {
		n /= 4
	}
	r := &recorder{reader: sdkmetric.NewManualReader()}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.reader))
	h, err := New(Config{MeterProvider: provider, TracerProvider: tracenoop.NewTracerProvider(), Propagator: propagation.TraceContext{}})
	if err != nil {
		t.Fatal(err)
	}
	var routes []routing.Rule
	const named = maxRoutes + 100
	for i := range named {
		routes = append(routes, routing.Rule{
			Name: fmt.Sprint("route-", i), Match: routing.Match{Path: routing.Path{Prefix: fmt.Sprintf("/%d", i)}},
		})
	}
	mesh := newMesh(t, zerohop.Config{
		Resolver: anywhere{}, Hooks: h,
		Spec: zerohop.Spec{Defaults: zerohop.Policy{Outlier: zerohop.Outlier{Mode: zerohop.Off}, Retry: zerohop.Retry{Attempts: 1}}, Routes: routes},
	})
	servers := &odder{}
	tr := httpmesh.NewTransport(mesh, servers)
	const hosts = 600 // more than names are told apart
	var number atomic.Int64
	parallel(n, func() {
		i := number.Add(1)
		req, err := http.NewRequestWithContext(t.Context(), fmt.Sprintf("M%d", i), fmt.Sprintf("http://h%d/%d/%d?q=%d", i%hosts, i%named, i, i), nil)
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("X-Criticality", fmt.Sprint(i))
		req.Header.Set("Baggage", fmt.Sprintf("lane=l%d,k%d=v", i, i))
		req.Header.Set("Traceparent", fmt.Sprintf("00-%032x-%016x-01", i, i))
		if resp, err := tr.RoundTrip(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
	requests := servers.n.Load()
	rpcs := hostileRPCs(t, mesh, n/10)
	m := r.instruments(t)
	taken := 0
	for name, i := range m {
		list := points(t, i)
		if got := len(list); got > maxSeries {
			t.Errorf("%s has %d series, want at most %d", name, got, maxSeries)
		}
		taken = max(taken, checkValues(t, name, list))
	}
	if taken < 100 {
		t.Errorf("%d routes were taken, want most of those of the spec: the test is too small", taken)
	}
	for name, want := range map[string]int64{
		"zerohop.call.duration": int64(n) + rpcs, "zerohop.attempts": requests + rpcs,
		"http.client.request.duration": requests, "rpc.client.call.duration": rpcs,
	} {
		if got := total(t, m[name]); got != want {
			t.Errorf("%s sums up to %d, want %d", name, got, want)
		}
	}
	if got := len(points(t, m["http.client.request.duration"])); *hostile >= 100_000 && !raced && got < maxSeries-1 {
		t.Errorf("%d series of requests, want that they are cut off at %d: the test is too small", got, maxSeries)
	}
}

// checkValues checks that each attribute of an instrument has few values, and that names of routes are those of the spec. It returns
// how many of these there are.
func checkValues(t *testing.T, name string, list []point) (routes int) {
	t.Helper()
	values := map[attribute.Key]map[string]bool{}
	for _, p := range list {
		for _, kv := range p.labels.ToSlice() {
			if values[kv.Key] == nil {
				values[kv.Key] = map[string]bool{}
			}
			values[kv.Key][kv.Value.String()] = true
		}
	}
	most := map[attribute.Key]int{service: maxHosts + 1, serverAddress: maxHosts + 1, rpcMethod: maxMethods + 1, route: maxRoutes + 1, httpStatus: 500, errorType: 250}
	for key, v := range values {
		limit, named := most[key]
		if !named {
			limit = 20 // fixed words
		}
		if len(v) > limit {
			t.Errorf("%s of %s has %d values, want at most %d", key, name, len(v), limit)
		}
	}
	for r := range values[route] {
		if r != other && !strings.HasPrefix(r, "route-") {
			t.Errorf("%s has a route %q, want names of the spec", name, r)
		}
	}
	return len(values[route])
}

// hostileRPCs makes RPCs whose methods, metadata and answers are made up, and returns their number.
func hostileRPCs(t *testing.T, mesh *zerohop.Mesh, n int) int64 {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(grpccodes.Code(4711), "odd") }))
	done := make(chan struct{})
	go func() { // ends with Stop
		defer close(done)
		_ = server.Serve(l)
	}()
	defer func() { server.Stop(); <-done }()
	conn, err := grpc.NewClient(grpcmesh.Target("orders"), append(grpcmesh.DialOptions(mesh),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range n {
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{}, fmt.Sprintf("/evil.S%d/M%d", i, i), grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.CloseSend()
		if err := stream.RecvMsg(nil); err == nil {
			t.Fatal("an unknown method answered")
		}
	}
	return int64(n)
}

package telemetry

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

// backends are instances of a service that answer by the number of the request, whichever of them it goes to.
type backends struct {
	answer func(n int, w http.ResponseWriter, r *http.Request)

	mu    sync.Mutex
	seen  []string // traceparent of each request
	addrs []string // and who got it
}

func (b *backends) start(t testing.TB, n int) discovery.Static {
	var list []discovery.Endpoint
	for range n {
		s := httptest.NewUnstartedServer(nil)
		addr := s.Listener.Addr().String()
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.mu.Lock()
			i := len(b.seen)
			b.seen, b.addrs = append(b.seen, r.Header.Get("Traceparent")), append(b.addrs, addr)
			b.mu.Unlock()
			b.answer(i, w, r)
		})
		s.Start()
		t.Cleanup(s.Close)
		list = append(list, discovery.Endpoint{Addr: addr})
	}
	return discovery.Static{"orders": list}
}

func (b *backends) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.seen)
}

func newClient(t testing.TB, cfg zerohop.Config) *http.Client {
	tr := httpmesh.NewTransport(newMesh(t, cfg), &http.Transport{})
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func get(t testing.TB, c *http.Client, ctx context.Context, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	return resp.StatusCode
}

func traceparent(s sdktrace.ReadOnlySpan) string {
	return fmt.Sprintf("00-%s-%s-01", s.SpanContext().TraceID(), s.SpanContext().SpanID())
}

// checkFamily checks that the spans are one call, a child of parent, and its attempts, and that the servers continue the
// attempts.
func checkFamily(t *testing.T, spans []sdktrace.ReadOnlySpan, parent trace.SpanContext, attempts int, seen []string) {
	t.Helper()
	if got, want := len(spans), 1+attempts; got != want {
		t.Fatalf("%d spans, want %d", got, want)
	}
	call := spans[0]
	if got, want := call.SpanKind(), trace.SpanKindInternal; got != want {
		t.Errorf("span of the call is %v, want %v", got, want)
	}
	if got, want := call.Parent().SpanID(), parent.SpanID(); got != want {
		t.Errorf("parent of the call = %v, want %v", got, want)
	}
	for i, s := range spans[1:] {
		if got, want := s.Parent().SpanID(), call.SpanContext().SpanID(); got != want {
			t.Errorf("parent of attempt %d = %v, want the call, %v", i, got, want)
		}
		if got, want := s.SpanKind(), trace.SpanKindClient; got != want {
			t.Errorf("span of attempt %d is %v, want %v", i, got, want)
		}
		if got, want := seen[i], traceparent(s); got != want {
			t.Errorf("server of attempt %d saw traceparent %q, want %q", i, got, want)
		}
	}
}

func checkStatus(t *testing.T, s sdktrace.ReadOnlySpan, want codes.Code) {
	t.Helper()
	if got := s.Status().Code; got != want {
		t.Errorf("status of span %q = %v (%s), want %v", s.Name(), got, s.Status().Description, want)
	}
}

func TestHTTPRetryHasASpanForEachAttempt(t *testing.T) {
	b := &backends{answer: func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}}
	r := newRecorder(t)
	c := newClient(t, zerohop.Config{Resolver: b.start(t, 2), Hooks: r.hooks(t)})
	ctx, outer := r.tracer.Tracer("test").Start(t.Context(), "outer")
	if got, want := get(t, c, ctx, "http://orders/v1/orders/42?token=secret"), 200; got != want {
		t.Errorf("status = %d, want %d", got, want)
	}
	if !outer.IsRecording() {
		t.Error("the span of the caller was ended")
	}
	outer.End()
	spans := r.ended(t)[1:]
	checkFamily(t, spans, outer.SpanContext(), 2, b.seen)
	spanHas(t, spans[0], map[attribute.Key]string{
		service: "orders", route: "-", outcome: "success", detail: "answered", callAttempts: "2", errorType: "-",
	})
	checkStatus(t, spans[0], codes.Unset)
	for i, s := range spans[1:] {
		host, port, _ := net.SplitHostPort(b.addrs[i])
		want := map[attribute.Key]string{
			service: "orders", httpMethod: "GET", httpMethodOriginal: "-", serverAddress: "orders", serverPort: "-",
			peerAddress: host, peerPort: port, attemptNumber: fmt.Sprint(i), attemptBackup: "false",
			httpStatus: "503", errorType: "503", outcome: "failure", httpResendCount: "-",
		}
		status := codes.Error
		if i == 1 {
			want[httpStatus], want[errorType], want[outcome], want[httpResendCount] = "200", "-", "success", "1"
			status = codes.Unset
		}
		if got, want := s.Name(), "GET"; got != want {
			t.Errorf("name of span %d = %q, want %q", i, got, want)
		}
		spanHas(t, s, want)
		checkStatus(t, s, status)
	}
}

func TestHTTPBackupIsASecondAttemptAtTheSameTime(t *testing.T) {
	release := make(chan struct{})
	b := &backends{answer: func(n int, _ http.ResponseWriter, r *http.Request) {
		if n == 0 {
			select {
			case <-r.Context().Done():
			case <-release:
			}
		}
	}}
	r := newRecorder(t)
	c := newClient(t, zerohop.Config{Resolver: b.start(t, 2), Hooks: r.hooks(t)})
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // the backup comes after half of it at the latest
	defer cancel()
	if got, want := get(t, c, ctx, "http://orders/"), 200; got != want {
		t.Errorf("status = %d, want %d", got, want)
	}
	spans := r.ended(t)
	checkFamily(t, spans, trace.SpanContext{}, 2, b.seen)
	spanHas(t, spans[0], map[attribute.Key]string{outcome: "success", callAttempts: "2"})
	checkStatus(t, spans[0], codes.Unset)
	spanHas(t, spans[1], map[attribute.Key]string{
		attemptNumber: "0", attemptBackup: "false", outcome: "neutral", errorType: "canceled", httpStatus: "-",
	})
	checkStatus(t, spans[1], codes.Error)
	spanHas(t, spans[2], map[attribute.Key]string{
		attemptNumber: "1", attemptBackup: "true", outcome: "success", httpStatus: "200", httpResendCount: "1",
	})
	checkStatus(t, spans[2], codes.Unset)
	m := r.instruments(t)["zerohop.attempts"]
	for _, kind := range []string{"first", "backup"} {
		if got, want := total(t, m, attemptKind.String(kind)), int64(1); got != want {
			t.Errorf("attempts of kind %s = %d, want %d", kind, got, want)
		}
	}
}

func TestFailedCallSaysWhy(t *testing.T) {
	r := newRecorder(t)
	mesh := newMesh(t, zerohop.Config{Resolver: discovery.Static{}, Hooks: r.hooks(t)})
	c := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	if resp, err := c.Get("http://nowhere/"); err == nil {
		resp.Body.Close()
		t.Error("a call to an unknown service succeeded")
	}
	mesh.Close() // the call may end before the hook of the watch that failed
	spans := r.ended(t)
	if len(spans) != 1 {
		t.Fatalf("%d spans, want that of the call only", len(spans))
	}
	spanHas(t, spans[0], map[attribute.Key]string{outcome: "failure", errorType: "no_endpoints", callAttempts: "0"})
	checkStatus(t, spans[0], codes.Error)
	m := r.instruments(t)
	if got, want := total(t, m["zerohop.call.duration"], service.String("nowhere"), errorType.String("no_endpoints")), int64(1); got != want {
		t.Errorf("failed calls = %d, want %d", got, want)
	}
	if got := total(t, m["zerohop.discovery.failures"], service.String("nowhere"), errorType.String("unknown_service")); got < 1 {
		t.Errorf("failures of discovery = %d, want some", got)
	}
	if got := total(t, m["zerohop.attempts"]); got != 0 {
		t.Errorf("attempts = %d, want 0", got)
	}
}

func TestMethodsHostsAndRoutesOfSpans(t *testing.T) {
	r := newRecorder(t)
	h := r.hooks(t)
	for _, row := range []struct {
		call zerohop.CallInfo
		name string
		want map[attribute.Key]string
	}{
		{
			zerohop.CallInfo{Service: "s", Host: "shop.example:8080", Route: "canary", Protocol: "http", Method: "BREW\xff"}, "HTTP",
			map[attribute.Key]string{httpMethod: other, httpMethodOriginal: "BREW\uFFFD", serverAddress: "shop.example", serverPort: "8080", route: "canary"},
		},
		{
			zerohop.CallInfo{Service: "s", Host: "[::1]", Protocol: "http"}, "GET",
			map[attribute.Key]string{serverAddress: "::1", serverPort: "-"},
		},
		{
			zerohop.CallInfo{Service: "s", Host: "s", Protocol: "http"}, "GET",
			map[attribute.Key]string{httpMethod: "GET", httpMethodOriginal: "-"},
		},
		{
			zerohop.CallInfo{Service: "s", Host: "s", Protocol: "grpc", Method: "/p.S/\xff"}, "grpc",
			map[attribute.Key]string{rpcMethod: other, rpcMethodOriginal: "/p.S/\uFFFD", rpcSystem: "grpc"},
		},
		{
			zerohop.CallInfo{Service: "s"}, "attempt s",
			map[attribute.Key]string{httpMethod: "-", rpcSystem: "-", serverAddress: "-"},
		},
	} {
		ctx := h.CallStart(t.Context(), row.call)
		ctx2 := h.AttemptStart(ctx, row.call, zerohop.AttemptInfo{})
		h.AttemptDone(ctx2, row.call, zerohop.AttemptInfo{}, zerohop.AttemptResult{Status: -1})
		h.CallDone(ctx, row.call, zerohop.CallResult{Status: -1})
		ended := r.spans.Ended()
		s := ended[len(ended)-2]
		if got, want := s.Name(), row.name; got != want {
			t.Errorf("name of the attempt = %q, want %q", got, want)
		}
		spanHas(t, s, row.want)
	}
}

func noAnswer(int, http.ResponseWriter, *http.Request) {}

//go:build unix

package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/examples/observability/pipeline"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/internal/servertest"
	"github.com/zerohop/zerohop/internal/telemetrytest"
	"github.com/zerohop/zerohop/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// work is what instances do, and how often they did it. Every seventh execution fails and every 160th hangs for a while.
type work struct {
	executions atomic.Int64
	calm       bool // no faults
}

var errSeventh = errors.New("every seventh fails")

func (w *work) do(ctx context.Context) error {
	n := w.executions.Add(1)
	switch {
	case w.calm:
	case n%7 == 0:
		return errSeventh
	case n%160 == 0:
		hang, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
		defer cancel()
		<-hang.Done()
	}
	return nil
}

func (w *work) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if w.do(r.Context()) != nil {
		rw.WriteHeader(http.StatusServiceUnavailable)
	}
}

// echo is work over gRPC.
type echo struct {
	echopb.UnimplementedEchoServer
	work work
}

func (e *echo) Say(ctx context.Context, req *echopb.SayRequest) (*echopb.SayReply, error) {
	if err := e.work.do(ctx); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &echopb.SayReply{Text: req.GetText()}, nil
}

// web starts n instances over HTTP, and names as many addresses where there is none.
func web(t *testing.T, w *work, n, away int) []discovery.Endpoint {
	t.Helper()
	var list []discovery.Endpoint
	for range n {
		s := httptest.NewServer(w)
		t.Cleanup(s.Close)
		list = append(list, discovery.Endpoint{Addr: s.Listener.Addr().String()})
	}
	for _, port := range servertest.FreePorts(t, away) {
		list = append(list, discovery.Endpoint{Addr: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	return list
}

// rpc starts n instances over gRPC.
func rpc(t *testing.T, e *echo, n int) []discovery.Endpoint {
	t.Helper()
	var list []discovery.Endpoint
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		echopb.RegisterEchoServer(s, e)
		var serving sync.WaitGroup
		serving.Go(func() { _ = s.Serve(l) })
		t.Cleanup(func() { s.Stop(); serving.Wait() })
		list = append(list, discovery.Endpoint{Addr: l.Addr().String()})
	}
	return list
}

// get makes a call and reads the answer.
func get(client *http.Client, url string) (status int, err error) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// spread makes n calls, twenty at a time.
func spread(n int, call func()) {
	var callers sync.WaitGroup
	var made atomic.Int64
	for range 20 {
		callers.Go(func() {
			for made.Add(1) <= int64(n) {
				call()
			}
		})
	}
	callers.Wait()
}

// until asks until the answer is yes, for a minute at most.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// TestNumbersAreThoseOfTheServers makes calls over HTTP and gRPC that are repeated and joined by backups. What comes out of
// Prometheus and of the Collector must be what the instances counted, and the attempts that reached none.
func TestNumbersAreThoseOfTheServers(t *testing.T) {
	c := telemetrytest.StartCollector(t, telemetrytest.Options{})
	p := telemetrytest.StartPrometheus(t, telemetrytest.Scrape(c.MetricsAddr()))

	sent, err := pipeline.New(t.Context(), pipeline.Config{
		URL: c.URL(), Service: "shop", Instance: "shop-1", Every: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := telemetry.New(telemetry.Config{MeterProvider: sent.Metrics, TracerProvider: sent.Traces})
	if err != nil {
		t.Fatal(err)
	}
	var orders work
	var stock echo
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": web(t, &orders, 3, 1), "stock": rpc(t, &stock, 3)},
		Hooks:    hooks,
		// All faults are to be seen, so nobody is ejected and whatever fails is repeated.
		Spec: zerohop.Spec{Defaults: zerohop.Policy{
			Outlier: zerohop.Outlier{Mode: zerohop.Off}, Budget: zerohop.Budget{Mode: zerohop.Off},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	conn, err := grpc.NewClient(grpcmesh.Target("stock"),
		append(grpcmesh.DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	say := echopb.NewEchoClient(conn)

	const calls = 600 // of each protocol; their spans fit into the queue at one time
	for range 3 {
		spread(calls/3, func() { _, _ = get(client, "http://orders/") }) // whether they succeed is no matter here
		spread(calls/3, func() { _, _ = say.Say(context.Background(), &echopb.SayRequest{}) })
		if err := sent.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close()
	client.CloseIdleConnections()
	mesh.Close()
	if err := sent.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}

	until(t, "Prometheus has all calls", func() bool {
		return p.Sum(t, `zerohop_call_duration_seconds_count{job="shop",instance="shop-1"}`) == 2*calls
	})
	all := c.Spans()
	until(t, "the Collector has handed on all spans", func() bool {
		before := len(all)
		all = c.Spans()
		return len(all) > 2*calls && len(all) == before
	})
	byID := map[string]telemetrytest.Span{}
	for _, s := range all {
		byID[s.ID] = s
	}
	for _, protocol := range []struct {
		service, duration string
		executions        int64
	}{
		{"orders", `http_client_request_duration_seconds_count{server_address="orders"`, orders.executions.Load()},
		{"stock", `rpc_client_call_duration_seconds_count{server_address="stock"`, stock.work.executions.Load()},
	} {
		service, executions := protocol.service, float64(protocol.executions)
		unreached := p.Sum(t, protocol.duration+`,error_type="connect"}`)
		attempts := p.Sum(t, fmt.Sprintf("zerohop_attempts_total{zerohop_service=%q}", service))
		retries := p.Sum(t, fmt.Sprintf(`zerohop_attempts_total{zerohop_service=%q,zerohop_attempt_kind="retry"}`, service))
		backups := p.Sum(t, fmt.Sprintf(`zerohop_attempts_total{zerohop_service=%q,zerohop_attempt_kind="backup"}`, service))
		if attempts != executions+unreached {
			t.Errorf("%s: zerohop.attempts is %v; the instances counted %v, and %v reached none", service, attempts, executions, unreached)
		}
		if got := p.Sum(t, protocol.duration+"}"); got != attempts {
			t.Errorf("%s: durations of %v attempts, want %v", service, got, attempts)
		}
		if firsts := attempts - retries - backups; firsts != calls || retries == 0 || backups == 0 {
			t.Errorf("%s: %v first attempts of %v calls, %v retries, %v backups", service, firsts, calls, retries, backups)
		}
		spans, roots, resends, unreachedSpans := 0, 0, 0, 0
		for _, s := range all {
			if s.Attributes["zerohop.service"] != service {
				continue
			}
			if s.Service != "shop" {
				t.Fatalf("a span of %q", s.Service)
			}
			if !s.Client {
				roots++
				if s.Parent != "" {
					t.Errorf("the span of a call has a parent: %+v", s)
				}
				continue
			}
			spans++
			if s.Attributes["error.type"] == "connect" {
				unreachedSpans++
			}
			if parent, ok := byID[s.Parent]; !ok || parent.Client || parent.TraceID != s.TraceID || parent.Name != "call "+service {
				t.Errorf("the span of an attempt %+v has the parent %+v", s, parent)
			}
			number, resent := s.Attributes["zerohop.attempt.number"], s.Attributes["http.request.resend_count"]
			if number != "0" {
				resends++
			}
			if service == "orders" && (number == "0") != (resent == "") || resent != "" && resent != number {
				t.Errorf("attempt %s has http.request.resend_count %q", number, resent)
			}
		}
		if float64(spans) != attempts || roots != calls || float64(resends) != retries+backups || float64(unreachedSpans) != unreached {
			t.Errorf("%s: spans of %d calls and %d attempts, %d of them not first, %d without connection; want %d, %v, %v and %v",
				service, roots, spans, resends, unreachedSpans, calls, attempts, retries+backups, unreached)
		}
		t.Logf("%s: %d calls, %v attempts (%v retries, %v backups) = %v executions + %v without connection; %d spans of attempts",
			service, calls, attempts, retries, backups, executions, unreached, spans)
	}
	traces := p.Exemplars(t, `http_client_request_duration_seconds_bucket`)
	known := 0
	for _, id := range traces {
		for _, s := range all {
			if s.TraceID == id && s.Client {
				known++
				break
			}
		}
	}
	if known == 0 || known != len(traces) {
		t.Errorf("%d exemplars, %d of which lead to a trace", len(traces), known)
	}
}

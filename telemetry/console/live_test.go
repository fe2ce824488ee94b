package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
)

// failing is a gRPC server that fails while it is told to.
type failing struct {
	*health.Server
	bad atomic.Bool
	n   atomic.Int64
}

func (f *failing) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	f.n.Add(1)
	if f.bad.Load() {
		return nil, status.Error(codes.Internal, "disk <b>full</b>")
	}
	return f.Server.Check(ctx, r)
}

// Calls over HTTP and gRPC, with a server of each that fails and one that is away, are counted as the servers and the clients count
// them, while pages look on.
func TestCountsAreThoseOfServersUnderFaults(t *testing.T) {
	var served atomic.Int64 // HTTP
	web := func(bad bool) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			if bad {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	var rpcs [2]failing
	rpc := func(f *failing) string {
		f.Server = health.NewServer()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		healthpb.RegisterHealthServer(s, f)
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Serve(l) }()
		t.Cleanup(func() { s.Stop(); <-done })
		return l.Addr().String()
	}
	rpcs[1].bad.Store(true)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := gone.Addr().String()
	_ = gone.Close()

	c := open(t, Config{})
	m := mesh(t, c.Hooks(), discovery.Static{
		"web": {{Addr: web(false)}, {Addr: web(true)}, {Addr: away}},
		"rpc": {{Addr: rpc(&rpcs[0])}, {Addr: rpc(&rpcs[1])}},
	}, zerohop.Spec{})
	transport := httpmesh.NewTransport(m, nil)
	t.Cleanup(func() { _ = m.Close(); transport.CloseIdleConnections() })
	client := &http.Client{Transport: transport}
	conn, err := grpc.NewClient(grpcmesh.Target("rpc"), append(grpcmesh.DialOptions(m), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })

	looking, stop := context.WithCancel(t.Context())
	var pages sync.WaitGroup
	for _, path := range []string{"summary", "service?service=web", "service?service=rpc", "failures", "events", "topology", "routes", "policy?service=web"} {
		pages.Go(func() {
			for looking.Err() == nil {
				if w := ask(c, "/api/"+path); w.Code != http.StatusOK && w.Code != http.StatusNotFound { // not asked for so far
					t.Errorf("%s: %d", path, w.Code)
				}
				c.sample()
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	const calls = 300
	var failed [2]atomic.Int64
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range calls / 4 {
				resp, err := client.Get("http://web/x")
				if err != nil || resp.StatusCode >= 500 {
					failed[0].Add(1)
				}
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
					failed[1].Add(1)
				}
			}
		})
	}
	callers.Wait()
	stop()
	pages.Wait()
	c.open()[0].stale() // it was read a moment ago
	c.sample()
	lines := map[string]ServiceLine{}
	for _, l := range view[Summary](t, c, "/api/summary").Services {
		lines[l.Service] = l
	}
	for i, name := range []string{"web", "rpc"} {
		l := lines[name]
		if l.Calls != calls || int64(l.Failures) != failed[i].Load() {
			t.Errorf("%s: %d calls, %d failures; want %d and %d", name, l.Calls, l.Failures, calls, failed[i].Load())
		}
		if failed[i].Load() == 0 && name == "rpc" {
			t.Errorf("no call of %s has failed", name)
		}
	}
	sums := map[string]uint64{}
	o := c.open()[0].collector
	o.mu.Lock()
	for key, e := range o.endpoints {
		if key.addr != away {
			sums[key.service] += uint64(e.all.Load())
		}
	}
	o.mu.Unlock()
	if got, want := sums["web"], uint64(served.Load()); got != want {
		t.Errorf("%d attempts at web, but its servers have seen %d", got, want)
	}
	if got, want := sums["rpc"], uint64(rpcs[0].n.Load()+rpcs[1].n.Load()); got != want {
		t.Errorf("%d attempts at rpc, but its servers have seen %d", got, want)
	}
	for _, target := range []string{"/api/failures", "/api/events", "/api/service?service=rpc"} {
		checkShown(t, target, ask(c, target).Body.Bytes())
	}
	list := view[FailuresView](t, c, "/api/failures?service=rpc").Failures
	if len(list) == 0 {
		t.Fatal("no failure is explained")
	}
	if f := list[0]; !f.Failed || f.Protocol != "grpc" || f.Status != int(codes.Internal) || len(f.Tries) == 0 || f.Tries[0].Addr == "" || f.Text == "" || f.Flag == "" {
		t.Errorf("failure = %+v, want one of gRPC with its attempt and a text", f)
	}
}

// A page that looks at a list is not sent the endpoints of all services.
func TestStreamOfManyServicesIsSmall(t *testing.T) {
	services, endpoints := 500, 20
	if raceEnabled || testing.Short() {
		services = 50
	}
	c, _ := crowd(t, services, endpoints)
	w := httptest.NewRecorder()
	s := &sender{console: c, to: http.NewResponseController(w), w: w, service: "service-007", limit: endpointsShown, lines: map[ServiceName]ServiceLine{}}
	size := func() int {
		t.Helper()
		w.Body.Reset()
		if err := s.send(); err != nil {
			t.Fatal(err)
		}
		return w.Body.Len()
	}
	first := size()
	if got, want := len(view[Summary](t, c, "/api/summary").Services), services; got != want {
		t.Errorf("%d services, want %d", got, want)
	}
	idle := size() // the same tick
	o := c.open()[0].collector
	for _, n := range *o.services.Load() {
		n.shard(0).count(time.Millisecond, false, false)
	}
	c.sample()
	busy := size()
	t.Logf("%d services of %d endpoints: first %d bytes, nothing new %d, all busy %d", services, endpoints, first, idle, busy)
	if per := 1000; busy > services*per+200_000 || idle > 100_000 {
		t.Errorf("a tick has %d bytes, and %d if nothing is new; want at most %d a service, and the one that is looked at", busy, idle, per)
	}
	var v ServiceView
	for line := range strings.SplitSeq(w.Body.String(), "\n") {
		if data, ok := strings.CutPrefix(line, "data: "); ok && strings.Contains(data, `"endpoints":[`) {
			if err := json.Unmarshal([]byte(data), &v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if v.Line.Service != "service-007" || len(v.Endpoints) != endpoints {
		t.Errorf("the service that is looked at is %s with %d endpoints", v.Line.Service, len(v.Endpoints))
	}
}

func TestCountsAreBounded(t *testing.T) {
	c := open(t, Config{})
	h := c.Hooks()
	node := aNode(t, "10.0.0.1:80")
	if raceEnabled {
		t.Skip("2,000 copies of a map take long with the race detector")
	}
	const more = 100
	for i := range MaxServices + more {
		info := zerohop.CallInfo{Service: fmt.Sprint("s", i), Rule: int16(i), Backend: -1}
		observed(&h, t.Context(), &info, node, time.Millisecond)
	}
	if n := c.services.Load(); n != MaxServices {
		t.Errorf("%d services, want %d", n, MaxServices)
	}
	if n := c.routes.Load(); n != MaxRoutes {
		t.Errorf("%d routes, want %d", n, MaxRoutes)
	}
	if n := c.uncounted.Load(); n != 2*more {
		t.Errorf("%d uncounted, want %d", n, 2*more)
	}
	for i := range 3 * MaxEvents {
		c.timeline.add(&Event{Time: time.Now(), Kind: "x", Addr: fmt.Sprint(i)}, c)
	}
	if n := len(view[EventsView](t, c, "/api/events?limit=9999").Events); n != MaxEvents {
		t.Errorf("%d events, want %d", n, MaxEvents)
	}
	for range 10 {
		c.timeline.add(&Event{Time: time.Now(), Kind: "again"}, c)
	}
	if e := view[EventsView](t, c, "/api/events?limit=1").Events[0]; e.Count != 10 || e.ID != 3*MaxEvents+10 {
		t.Errorf("a repeated event = %+v, want one of 10", e)
	}
	quiet := &zerohop.Explanation{CallInfo: zerohop.CallInfo{Service: "quiet"}, Reason: zerohop.Failed}
	c.failures.add("1", quiet)
	for range 3 * MaxFailures {
		c.failures.add("1", &zerohop.Explanation{CallInfo: zerohop.CallInfo{Service: "loud"}, Reason: zerohop.Failed})
	}
	if n := len(c.failures.list); n != MaxFailures {
		t.Errorf("%d failures, want %d", n, MaxFailures)
	}
	if n := len(view[FailuresView](t, c, "/api/failures?service=quiet").Failures); n != 1 {
		t.Errorf("%d failures of the quiet service, want that its one is kept", n)
	}
}

func TestServicesThatNobodyCallsMakeRoom(t *testing.T) {
	if raceEnabled {
		t.Skip("2,000 copies of a map take long with the race detector")
	}
	c := open(t, Config{})
	h := c.Hooks()
	h.Opened(mesh(t, zerohop.Hooks{}, discovery.Static{}, zerohop.Spec{}))
	for i := range MaxServices {
		info := zerohop.CallInfo{Service: fmt.Sprint("s", i), Rule: -1}
		h.CallDone(t.Context(), info, zerohop.CallResult{})
	}
	for range silent + 2 {
		h.CallDone(t.Context(), zerohop.CallInfo{Service: "s7", Rule: -1}, zerohop.CallResult{})
		c.sample()
	}
	if n := c.services.Load(); n != 1 {
		t.Errorf("%d services have counts, want the one that is called", n)
	}
}

//go:build unix

package collector

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/examples/observability/pipeline"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/servertest"
	"github.com/zerohop/zerohop/internal/telemetrytest"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/telemetry"
)

// What a Collector may cost.
const (
	morePart   = 0.05             // of the 99th percentile of calls
	more       = time.Millisecond // and no more than that
	moreMemory = 32 << 20
	grace      = 300 * time.Millisecond // of a shutdown after the end of its context: goroutines have to be scheduled
)

// hostile starts what takes connections and does something with the request, until the test ends.
func hostile(t *testing.T, serve func(c net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var mu sync.Mutex // guards what follows
	open := map[net.Conn]bool{}
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			// What an answer costs its sender is not what is measured here.
			_ = c.(*net.TCPConn).SetWriteBuffer(32 << 10)
			mu.Lock()
			open[c] = true
			mu.Unlock()
			serving.Go(func() {
				defer func() {
					c.Close()
					mu.Lock()
					delete(open, c)
					mu.Unlock()
				}()
				if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_ = req // its body is never read
					serve(c)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return "http://" + l.Addr().String()
}

const headers = "HTTP/1.1 %s\r\nContent-Type: application/x-protobuf\r\nContent-Length: 10737418240\r\n\r\n"

// flood answers with 10 GiB, as fast as they are taken.
func flood(status string) func(net.Conn) {
	return func(c net.Conn) {
		fmt.Fprintf(c, headers, status)
		for chunk := make([]byte, 64<<10); ; {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}
}

// drip answers with a byte every now and then.
func drip(c net.Conn) {
	fmt.Fprintf(c, headers, "200 OK")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := c.Write([]byte{0}); err != nil {
			return
		}
	}
}

// collectors are the Collectors by how they are, "none" among them.
func collectors(t *testing.T) map[string]string {
	frozen := telemetrytest.StartCollector(t, telemetrytest.Options{Drop: true})
	frozen.Stop(t)
	return map[string]string{
		"none":     "",
		"healthy":  telemetrytest.StartCollector(t, telemetrytest.Options{Drop: true}).URL(),
		"refused":  fmt.Sprintf("http://127.0.0.1:%d", servertest.FreePorts(t, 1)[0]),
		"frozen":   frozen.URL(),
		"flooding": hostile(t, flood("200 OK")),
		"refusing": hostile(t, flood("503 Service Unavailable")),
		"dripping": hostile(t, drip),
	}
}

// failures counts what the SDK could not do.
func failures(t *testing.T) *atomic.Int64 {
	n := new(atomic.Int64)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) { n.Add(1) }))
	t.Cleanup(func() { otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) })
	return n
}

// observed returns the hooks for a mesh that reports to url, and what ends that; with "" it does not report.
func observed(t *testing.T, url string) (zerohop.Hooks, func(context.Context) error) {
	t.Helper()
	if url == "" {
		return zerohop.Hooks{}, func(context.Context) error { return nil }
	}
	sent, err := pipeline.New(t.Context(), pipeline.Config{URL: url, Service: "shop", Instance: "1", Every: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := telemetry.New(telemetry.Config{MeterProvider: sent.Metrics, TracerProvider: sent.Traces})
	if err != nil {
		t.Fatal(err)
	}
	return hooks, sent.Shutdown
}

// slice makes calls for a while with a mesh of its own and returns the 99th percentile of their latency.
func slice(t *testing.T, name, url string, endpoints []discovery.Endpoint) (p99 time.Duration) {
	t.Helper()
	hooks, shutdown := observed(t, url)
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": endpoints}, Hooks: hooks})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	const callers, calls, warm = 16, 16, 2
	latencies := make([][]time.Duration, callers)
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			for n := range warm + calls {
				begin := time.Now()
				status, err := get(client, "http://orders/")
				if took := time.Since(begin); n >= warm {
					latencies[i] = append(latencies[i], took)
				}
				if err != nil || status != http.StatusOK {
					t.Errorf("with a %s Collector a call ended with %d, %v", name, status, err)
				}
				// Callers shall not go in step.
				time.Sleep(rand.N(5 * time.Millisecond))
			}
		})
	}
	group.Wait()
	begin := time.Now()
	client.CloseIdleConnections()
	if mesh.Close(); time.Since(begin) > grace {
		t.Errorf("with a %s Collector Close of the mesh took %v", name, time.Since(begin))
	}
	const limit = 50 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	begin = time.Now()
	err = shutdown(ctx)
	if took := time.Since(begin); took > limit+grace {
		t.Errorf("with a %s Collector the shutdown took %v, with a context of %v: %v", name, took, limit, err)
	}
	all := slices.Concat(latencies...)
	slices.Sort(all)
	return all[len(all)*99/100]
}

// TestCallsDoNotFeelTheCollector makes calls to a service that takes 20 ms, in short runs, in turn with each Collector and without
// telemetry. Whatever else happens on the machine makes runs slower, never faster: compared are the 99th percentiles of the two quietest
// runs. In each run spans are sent three times and metrics once or twice, so what that costs calls is in all of them, the quietest, too.
// Those that are over the bounds then get more rounds, each with a run without telemetry: noise goes, a real cost stays.
func TestCallsDoNotFeelTheCollector(t *testing.T) {
	failed := failures(t)
	w := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(20 * time.Millisecond) })
	var endpoints []discovery.Endpoint
	for range 3 {
		s := httptest.NewServer(w)
		t.Cleanup(s.Close)
		endpoints = append(endpoints, discovery.Endpoint{Addr: s.Listener.Addr().String()})
	}
	urls := collectors(t)
	delete(urls, "refusing") // is as fast as "flooding"
	// The heap of a program: that of a test alone would be collected every few milliseconds, and the more often, the more is done.
	heap := make([]byte, 64<<20)
	defer runtime.KeepAlive(heap)
	const least, most = 6, time.Minute // rounds, and how long there are more of them
	p99 := map[string][]time.Duration{}
	over := slices.Sorted(maps.Keys(urls)) // and "none", with which they are compared
	cost := func(name string) (d, base, limit time.Duration) {
		base = quiet(p99["none"])
		return quiet(p99[name]) - base, base, min(more, time.Duration(float64(base)*morePart))
	}
	begin := time.Now()
	for n := 1; len(over) > 1 && (n <= least || time.Since(begin) < most); n++ {
		rand.Shuffle(len(over), func(i, j int) { over[i], over[j] = over[j], over[i] })
		for _, name := range over {
			p99[name] = append(p99[name], slice(t, name, urls[name], endpoints))
		}
		if n < least {
			continue
		}
		over = slices.DeleteFunc(over, func(name string) bool {
			d, base, limit := cost(name)
			if name == "none" || d > limit {
				return false
			}
			t.Logf("with a %s Collector the 99th percentile is %v more than the %v without, in the quietest of %d runs; median %v", name, d, base,
				n, median(p99[name]))
			return true
		})
	}
	for _, name := range over {
		if d, base, limit := cost(name); name != "none" {
			t.Errorf("with a %s Collector the 99th percentile is %v more than the %v without, in the quietest of %d runs; allowed are %v", name, d,
				base, len(p99[name]), limit)
		}
	}
	if failed.Load() == 0 {
		t.Error("the SDK had no failures: the Collectors were not asked")
	}
}

// quiet returns the mean of the two lowest.
func quiet(list []time.Duration) time.Duration {
	low := slices.Sorted(slices.Values(list))
	return (low[0] + low[1]) / 2
}

func median(list []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(list))[len(list)/2]
}

// memory is what lives on the heap and stacks.
func memory() int64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64() + sample[1].Value.Uint64())
}

// TestMemoryIsBounded makes many more calls than a queue holds, faster than any Collector takes them.
func TestMemoryIsBounded(t *testing.T) {
	failures(t)
	endpoints := []discovery.Endpoint{{Addr: "127.0.0.1:1"}, {Addr: "127.0.0.1:2"}} // nobody connects to them
	work := func(context.Context, *loadbalance.Node) (int, error) { return 0, nil }
	base := memory()
	for name, url := range collectors(t) {
		hooks, shutdown := observed(t, url)
		mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": endpoints}, Hooks: hooks})
		if err != nil {
			t.Fatal(err)
		}
		var most int64
		for range 5 {
			for range 3_000 {
				if _, err := zerohop.Do(t.Context(), mesh, "orders", work); err != nil {
					t.Fatal(err)
				}
			}
			most = max(most, memory()-base)
		}
		if most > moreMemory {
			t.Errorf("with a %s Collector 15,000 calls held %d MiB, want at most %d", name, most>>20, moreMemory>>20)
		}
		t.Logf("%-8s %5.1f MiB", name, float64(most)/(1<<20))
		mesh.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := shutdown(ctx); err == nil && (name == "frozen" || name == "dripping") {
			t.Errorf("with a %s Collector the shutdown lost nothing", name)
		} else if name == "frozen" && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a frozen Collector the shutdown ended with %v", err)
		}
		cancel()
	}
}

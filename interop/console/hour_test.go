package console

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"

	"github.com/zerohop/zerohop/telemetry/console"
)

var hour = flag.Bool("hour", false, "have TestPageForgetsWhatIsOld send what comes in two hours; takes a minute")

// What comes in a long time comes in seconds: each update has the lines of 50 of 500 services, one with 20 endpoints, and events and failures
// that are new, of which the page keeps 1,000 and 256.
func TestPageForgetsWhatIsOld(t *testing.T) {
	t.Parallel()
	updates, news := 120, 30
	if *hour {
		updates, news = 3600, 1
	}
	c := newConsole(t, console.Config{Name: "wide"})
	wide(t, c, 500, 20)
	ask := func(target string, v any) {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
			t.Fatal(target, err)
		}
	}
	var sum console.Summary
	var view console.ServiceView
	ask("/api/summary", &sum)
	ask("/api/service?service=service-000", &view)
	half := make(chan struct{}) // closed once the first half was measured
	stream := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		send := func(name string, v any) {
			data, err := json.Marshal(v)
			if err != nil {
				t.Error(err)
			}
			_, _ = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, data)
		}
		if r.FormValue("service") != "" {
			for i := range updates {
				s, v := sum, view
				s.Time = sum.Time.Add(time.Duration(i) * 2 * time.Second)
				s.Meshes = []console.MeshLine{sum.Meshes[0]}
				s.Meshes[0].Generation = uint64(i + 1)
				if i > 0 {
					s.Delta, s.Services = true, nil
					for k := range 50 {
						l := sum.Services[(i*50+k)%500]
						l.Now.Rate, l.Spark, l.SparkErrors = float64(i+k), nil, nil
						s.Services = append(s.Services, l)
					}
				}
				v.Time = s.Time
				v.Line.Now.Rate = float64(i)
				id := console.ServiceName{Mesh: sum.Meshes[0].Mesh, Service: fmt.Sprintf("service-%03d", i%2)}
				var events console.EventsView
				var failures console.FailuresView
				for k := range news {
					n := i*news + k
					events.Events = append(events.Events, console.Event{
						ID: uint64(n + 1), Count: 1, Time: s.Time, ServiceName: id, Kind: "ejected", Level: "bad", Addr: fmt.Sprintf("10.0.%d.%d:80", n/250, n%250), Text: fmt.Sprint(n, strings.Repeat(" ejected", 100)),
					})
					failures.Failures = append(failures.Failures, console.Failure{
						ID: uint64(n + 1), Time: s.Time, ServiceName: id, Failed: true, Flag: "UF", Reason: "failed", Text: fmt.Sprint(n, strings.Repeat(" failed", 300)), Tries: []console.TryView{{Addr: "10.0.0.1:80"}},
					})
				}
				send("summary", s)
				send("service", v)
				send("events", events)
				send("failures", failures)
				if i == updates/2 {
					_ = http.NewResponseController(w).Flush()
					select {
					case <-half:
					case <-r.Context().Done():
						return
					}
				}
			}
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	p := newTab(t)
	p.view(1280, 900, "light")
	p.do(chromedp.Navigate(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path.Base(r.URL.Path) == "stream" {
			stream(w, r)
			return
		}
		c.ServeHTTP(w, r)
	})) + "#/service/service-000"))
	if _, err := chromedp.Call(p.ctx, performance.Enable, performance.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	metric := func(name string) float64 {
		t.Helper()
		if _, err := chromedp.Call(p.ctx, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
			t.Fatal(err)
		}
		got, err := chromedp.Call(p.ctx, performance.GetMetrics, cdp.Empty{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range got.Metrics {
			if m.Name == name {
				return m.Value
			}
		}
		t.Fatalf("no %s in %v", name, got.Metrics)
		return 0
	}
	seen := `Number(/spec (\d+)/.exec(document.querySelector("#whoami").textContent)?.[1] ?? 0)`
	until := func(from, to int) { // a slow machine gets there in steps
		for n := from; n <= to; n += 20 {
			p.wait(fmt.Sprintf("%s >= %d", seen, n))
		}
		p.wait(fmt.Sprintf("%s >= %d", seen, to))
	}
	until(1, updates/2+1)
	before := metric("JSHeapUsedSize")
	close(half)
	until(updates/2+1, updates)
	heap, nodes := metric("JSHeapUsedSize"), metric("Nodes")
	t.Logf("after %d updates: %.1f MB of objects, after half of them %.1f MB; %.0f nodes", updates, heap/1e6, before/1e6, nodes)
	// What comes in the second half is several MB of events and failures.
	if heap > 20e6 || heap > before+2e6 || nodes > 10_000 {
		t.Errorf("after %d updates the page has %.1f MB of objects, after half of them %.1f MB, and %.0f nodes; want no growth, at most 20 MB and 10,000", updates, heap/1e6, before/1e6, nodes)
	}
}

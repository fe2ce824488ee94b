package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/zerohop/zerohop/telemetry/console"
)

// hostile names want to be markup, to change the direction of what follows, or to be endless.
var hostile = []string{
	`<img src=x onerror="window.hurt=1">`, `"><script>window.hurt=1</script>`, "a\u202egnp.exe", "b\u0000\u0007\u001b[31m\r\nc", `javascript:window.hurt=1`,
	`'"${window.hurt=1}{{7*7}}`, strings.Repeat("x", 10_000), "\u200b\u2066\u2069\u00ad", `</title><svg onload=window.hurt=1>`, "__proto__",
}

// hostileViews answers as a console would that passes all names on as they are.
func hostileViews(c http.Handler) http.Handler {
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	now := time.Now()
	sum := console.Summary{Time: now, Name: hostile[0], Tick: 2000, Meshes: []console.MeshLine{{Mesh: hostile[0], Name: hostile[1], Zone: hostile[2], Instance: hostile[3]}}}
	var events console.EventsView
	var failures console.FailuresView
	var routes console.RoutesView
	var policy console.PolicyView
	var topology console.TopologyView
	var view console.ServiceView
	for i, n := range hostile {
		id := console.ServiceName{Mesh: hostile[0], Service: n}
		sum.Services = append(sum.Services, console.ServiceLine{ServiceName: id, Status: console.Status(n), Balance: n, Breaker: n, Now: console.Traffic{Rate: 1}})
		view.Endpoints = append(view.Endpoints, console.EndpointView{Addr: n, Zone: n, Status: console.Status(n), Why: n, Health: n, Breaker: n, Meta: []console.Pair{{Name: n, Value: n}}})
		events.Events = append(events.Events, console.Event{ID: uint64(i + 1), Time: now, ServiceName: id, Kind: n, Level: n, Addr: n, Zone: n, Cause: n, By: n, Text: n})
		failures.Failures = append(failures.Failures, console.Failure{ID: uint64(i + 1), Time: now, ServiceName: id, Host: n, Route: n, Lane: n, Protocol: n, Method: n, Failed: true, Flag: n, Reason: n, Detail: n, Error: n, Text: n,
			Tries:    []console.TryView{{Addr: n, Zone: n, Cause: n, Outcome: n, Flag: n, Error: n, Pick: n, Nodes: 1, Removed: []console.RemovedView{{Why: n, Count: 1}}, Compared: []console.CandidateView{{Addr: n, Zone: n, Removed: n}}}},
			Refusals: []console.RefusalView{{Stage: n}}})
		routes.Routes = append(routes.Routes, console.RouteView{Mesh: n, Index: i, Name: n, Matches: []string{n}, Policy: n, Actions: []string{n}, Backends: []console.BackendView{{Service: n, Select: []console.Pair{{Name: n, Value: n}}}, {Service: n}}})
		policy.Fields = append(policy.Fields, console.PolicyField{Path: n, Value: n, Origin: n})
		policy.Layers, policy.Policies = append(policy.Layers, n), append(policy.Policies, n)
		topology.Nodes = append(topology.Nodes, console.TopologyNode{ID: n, Name: n, Service: i > 0, Callers: i == 2, Status: console.Status(n), Zone: n})
		topology.Edges = append(topology.Edges, console.TopologyEdge{From: hostile[0], To: n, ServiceName: id, Now: console.Traffic{Rate: 1}})
	}
	view.Time, view.Line, view.Total = now, sum.Services[0], len(hostile)
	view.Zones, view.Discovery.Error = []console.ZoneView{{Zone: hostile[0]}, {Zone: hostile[1]}}, hostile[1]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path.Base(r.URL.Path) {
		case "summary":
			reply(w, sum)
		case "routes":
			reply(w, routes)
		case "policy":
			reply(w, policy)
		case "topology":
			reply(w, topology)
		case "failures":
			reply(w, failures)
		case "events":
			reply(w, events)
		case "stream":
			w.Header().Set("Content-Type", "text/event-stream")
			view := view
			if i := slices.Index(hostile, r.FormValue("service")); i >= 0 {
				view.Line = sum.Services[i]
			}
			for {
				for name, v := range map[string]any{"summary": sum, "service": view, "events": events, "failures": failures} {
					data, _ := json.Marshal(v)
					_, _ = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, data)
				}
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(time.Second):
				}
			}
		default:
			c.ServeHTTP(w, r)
		}
	})
}

func TestPageIsNotHurtByNames(t *testing.T) {
	t.Parallel()
	address := serve(t, hostileViews(newConsole(t, console.Config{})))
	p := newTab(t)
	views := []string{"#/", "#/topology", "#/failures", "#/timeline", "#/policy"}
	encoded, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	for _, scale := range []int64{1280, 360} {
		p.view(scale, 800, "dark")
		p.do(chromedp.Navigate("about:blank"), chromedp.Navigate(address))
		p.wait(live)
		for i := range hostile {
			views = append(views[:5:5], fmt.Sprintf(`#/service/${encodeURIComponent(names[%d])}`, i))
			if scale == 360 && i != 0 && i != 6 {
				continue // it is the same page
			}
			for k, v := range views {
				if i > 0 && k < 5 {
					continue
				}
				eval[bool](p, fmt.Sprintf("(() => { const names = %s; location.hash = `%s`; return true })()", encoded, v))
				if k == 5 {
					p.wait(`document.querySelector("h1 bdi") && document.querySelectorAll("table.endpoints tr.row").length > 0`)
				}
				p.wait(`document.querySelector("main .empty:not([hidden])")?.textContent !== "Loading…"`)
				eval[bool](p, `new Promise((done) => requestAnimationFrame(() => { document.querySelectorAll(".fail > button").forEach((b) => b.click()); setTimeout(() => done(true), 50) }))`)
				check := eval[struct {
					Hurt  bool
					Alien int
					Raw   bool
					Wide  int
				}](p, `({
					hurt: "hurt" in window || Object.prototype.hurt !== undefined,
					alien: document.querySelectorAll("main img, main script, main iframe, main object, main [onload], main [onerror], main a[href^='javascript']").length,
					raw: /[\u0000-\u0008\u000b-\u001f\u200b-\u200f\u202a-\u202e\u2060-\u2069\u00ad]/.test(document.body.textContent + document.title),
					wide: document.documentElement.scrollWidth,
				})`)
				if check.Hurt || check.Alien != 0 || check.Raw {
					t.Errorf("%s at %d px with %.40q: %+v", v, scale, hostile[i], check)
				}
				if check.Wide > int(scale) {
					t.Errorf("%s at %d px with %.40q is %d px wide", v, scale, hostile[i], check.Wide)
				}
			}
		}
	}
}

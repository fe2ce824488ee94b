package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/telemetry/console"
)

const live = `document.querySelector("#link")?.dataset.state === "live"`

func TestPageFollowsFaults(t *testing.T) {
	c := newConsole(t, console.Config{Name: "storefront"})
	var servers []*server
	sets := discovery.Static{}
	for range 3 {
		s := newServer(t)
		servers = append(servers, s)
		sets["orders"] = append(sets["orders"], discovery.Endpoint{Addr: s.addr, Zone: "here"})
	}
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: sets, Hooks: c.Hooks(), Zone: "here",
		Spec: zerohop.Spec{Defaults: zerohop.Policy{Balance: "random", Outlier: zerohop.Outlier{Consecutive: 2}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mesh.Close() })
	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil), Timeout: 2 * time.Second}
	for range 12 {
		busy(t, 8*time.Millisecond, func() {
			if resp, err := client.Get("http://orders/"); err == nil {
				_ = resp.Body.Close()
			}
		})
	}
	address := serve(t, c)
	p := newTab(t)
	p.view(1280, 900, "light")
	p.do(chromedp.Navigate(address))
	p.wait(live)
	p.wait(`document.querySelector("tr.row [data-col=name] a")?.textContent === "orders"`)
	p.wait(`parseFloat(document.querySelector("tr.row [data-col=rate]").textContent) > 10`)
	p.do(chromedp.Click(`tr.row [data-col=name] a`))
	p.wait(`document.querySelectorAll("table.endpoints tr.row:not([hidden]) .mark.ok").length === 3`)

	dead := servers[1]
	dead.CloseClientConnections()
	dead.Close()
	row := fmt.Sprintf(`[...document.querySelectorAll("table.endpoints tr.row")].find((r) => r.textContent.includes(%q))`, dead.addr)
	health := row + `.querySelector("[data-col=health]").textContent`
	p.wait(health + `.includes("Ejected")`)
	p.wait(`/probe (in \d+\s?s|due)/.test(` + health + `)`)
	p.wait(`document.querySelector(".events").textContent.includes(` + fmt.Sprintf("%q", dead.addr) + `)`)
	p.wait(`[...document.querySelectorAll(".figure")].some((f) => f.textContent.includes("2 of 3"))`)
	// The countdown goes on by itself between two updates of the server.
	first := eval[string](p, health)
	p.wait(health + ` !== ` + fmt.Sprintf("%q", first))
}

func TestPageIsReadByItsServerOnly(t *testing.T) {
	c := newConsole(t, console.Config{})
	address := serve(t, c)
	_, port, err := net.SplitHostPort(strings.Split(address, "/")[2])
	if err != nil {
		t.Fatal(err)
	}
	p := newTab(t, "403", "404", "Cross-Origin-Opener-Policy")
	p.do(chromedp.Navigate("http://foreign.example:" + port + "/debug/zerohop/"))
	if got := eval[string](p, `document.body.innerText`); !strings.Contains(got, "host") || strings.Contains(got, "Search") {
		t.Errorf("under a foreign name the console answers %q", got)
	}
	// From a page of another site nothing can be read.
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><link rel=icon href=data:,><title>foreign</title>"))
	}))
	t.Cleanup(foreign.Close)
	q := newTab(t, "CORS", "ERR_FAILED", "ERR_BLOCKED", "403", "frame", "Refused")
	q.do(chromedp.Navigate(strings.Replace(foreign.URL, "127.0.0.1", "foreign.example", 1)))
	read := fmt.Sprintf(`fetch(%q).then((r) => r.text(), () => "refused")`, address+"api/summary")
	if got := eval[string](q, read); got != "refused" {
		t.Errorf("another site reads %q", got)
	}
}

func TestPageSaysWhenNothingComes(t *testing.T) {
	c := newConsole(t, console.Config{Name: "storefront"})
	wide(t, c, 3, 3)
	var frozen, gone atomic.Bool
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case gone.Load():
			http.Error(w, "gone", http.StatusServiceUnavailable)
		case path.Base(r.URL.Path) == "stream":
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			c.ServeHTTP(&freezer{ResponseWriter: w, frozen: &frozen, gone: &gone, cancel: cancel}, r.WithContext(ctx))
		default:
			c.ServeHTTP(w, r)
		}
	})
	address := serve(t, h)
	p := newTab(t, "ERR_", "503")
	p.do(chromedp.Navigate(address))
	p.wait(live)
	frozen.Store(true)
	p.wait(`document.querySelector("#link").dataset.state === "stale" && document.querySelector("#notice").textContent.includes("out of date")`)
	frozen.Store(false)
	p.wait(live + ` && document.querySelector("#notice").hidden`)
	gone.Store(true)
	p.wait(`document.querySelector("#link").dataset.state === "lost" && /connection to the process is lost/.test(document.querySelector("#notice").textContent)`)
	gone.Store(false)
	p.wait(live + ` && document.querySelector("#notice").hidden`)

	p.do(chromedp.Click("#pause"))
	p.wait(`document.querySelector("#link").dataset.state === "paused" && document.querySelector("#pause").textContent === "Resume"`)
	p.do(chromedp.Click("#pause"))
	p.wait(live)
}

// freezer is a ResponseWriter that can stop to send.
type freezer struct {
	http.ResponseWriter
	frozen, gone *atomic.Bool
	cancel       func()
}

func (f *freezer) Write(b []byte) (int, error) {
	if f.gone.Load() {
		f.cancel()
		return 0, http.ErrAbortHandler
	}
	if f.frozen.Load() {
		return len(b), nil
	}
	return f.ResponseWriter.Write(b)
}

func (f *freezer) Unwrap() http.ResponseWriter { return f.ResponseWriter }

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
		topology.Nodes = append(topology.Nodes, console.TopologyNode{ID: n, Name: n, Service: i > 0, Status: console.Status(n), Zone: n})
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

func TestPageStaysQuick(t *testing.T) {
	c := newConsole(t, console.Config{Name: "wide"})
	mesh := wide(t, c, 500, 20)
	n := 0
	busy(t, 20*time.Millisecond, func() {
		for range 10 {
			n++
			_, _ = zerohop.Do(context.Background(), mesh, fmt.Sprintf("service-%03d", n%500), answer)
		}
	})
	address := serve(t, c)
	p := newTab(t)
	p.view(1280, 900, "light")
	p.do(chromedp.Navigate(address))
	p.wait(live)
	p.wait(`document.querySelector(".services")?.getAttribute("aria-rowcount") === "501"`)
	if rows := eval[int](p, `document.querySelectorAll("tr.row").length`); rows > 60 {
		t.Errorf("500 services take %d rows, want those in sight only", rows)
	}
	// From the input to the picture that shows it: a frame is painted after its callbacks, so the next task is after it.
	eval[bool](p, `(() => {
		window.painted = (act) => new Promise((done) => {
			const t = performance.now();
			act();
			requestAnimationFrame(() => { const c = new MessageChannel(); c.port1.onmessage = () => done(performance.now() - t); c.port2.postMessage(0); });
		});
		window.type = (s) => { const f = document.querySelector("#find"); f.value = s; f.dispatchEvent(new InputEvent("input", { bubbles: true })); };
		return true;
	})()`)
	for _, test := range []struct {
		what, act, reset string
		most             float64 // ms
	}{
		{"a key of the search", `() => type("service-" + i % 10)`, ``, 100},
		{"a click to sort", `() => document.querySelectorAll(".services .sort")[1 + i % 5].click()`, `type("");`, 100},
		{"opening a service", `() => { location.hash = "#/service/service-" + String(i * 7).padStart(3, "0"); dispatchEvent(new HashChangeEvent("hashchange")) }`, `location.hash = "#/"; await new Promise((d) => setTimeout(d, 30));`, 100},
		{"going back to all", `() => { location.hash = "#/"; dispatchEvent(new HashChangeEvent("hashchange")) }`, `location.hash = "#/service/service-001"; await new Promise((d) => setTimeout(d, 150));`, 200},
		{"scrolling far", `() => scrollTo(0, i % 2 ? 15000 : 300)`, ``, 100},
	} {
		var median, worst float64
		// Neighbours on the same cores cost time that is not the page's: what it cannot do once in three times, it cannot do.
		for range 3 {
			times := eval[[]float64](p, fmt.Sprintf(`(async () => {
				const times = [];
				for (let i = 0; i < 20; i++) {
					%s
					await new Promise((d) => setTimeout(d, 20));
					times.push(await painted(%s));
				}
				return times;
			})()`, test.reset, test.act))
			slices.Sort(times)
			median, worst = times[len(times)/2], times[len(times)-1]
			t.Logf("%s: %.0f ms, at worst %.0f ms", test.what, median, worst)
			if median <= test.most {
				break
			}
		}
		if median > test.most {
			t.Errorf("%s takes %.0f ms in the middle of 20, want at most %.0f", test.what, median, test.most)
		}
	}
}

func TestPageFitsEyesAndHands(t *testing.T) {
	c := newConsole(t, console.Config{Name: "storefront"})
	wide(t, c, 12, 4)
	address := serve(t, c)
	p := newTab(t)
	views := []string{"#/", "#/service/service-001", "#/topology", "#/failures", "#/timeline", "#/policy/service-001"}
	paper := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 360} {
			p.view(width, 780, scheme)
			p.do(chromedp.Navigate("about:blank"), chromedp.Navigate(address))
			p.wait(live)
			for _, v := range views {
				eval[bool](p, fmt.Sprintf(`(location.hash = %q, true)`, v))
				eval[bool](p, `new Promise((d) => setTimeout(() => d(true), 50))`)
				if got := eval[int](p, `document.documentElement.scrollWidth`); got > int(width) {
					t.Errorf("%s at %d px is %d px wide", v, width, got)
				}
				if got := eval[string](p, `[...document.querySelectorAll("button, select, input, a[href]")].filter((e) => e.checkVisibility() && !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length)).map((e) => e.outerHTML).join()`); got != "" {
					t.Errorf("%s: without a name: %s", v, got)
				}
			}
			paper[scheme] = eval[string](p, `getComputedStyle(document.body).backgroundColor`)
		}
	}
	if paper["light"] == paper["dark"] {
		t.Errorf("light and dark are both %s", paper["light"])
	}
	// The switch holds against the system, and lasts.
	p.do(chromedp.Click("#theme"))
	p.wait(`getComputedStyle(document.body).backgroundColor === "` + paper["light"] + `"`)
	p.do(chromedp.Reload())
	p.wait(`getComputedStyle(document.body).backgroundColor === "` + paper["light"] + `" && document.querySelector("#theme").textContent === "Light"`)

	// Without a mouse: search, into the table, and into a service.
	p.view(1280, 780, "light")
	eval[bool](p, `(location.hash = "#/", true)`)
	p.wait(live + ` && document.querySelectorAll("tr.row:not([hidden])").length === 12`)
	p.do(chromedp.KeyEvent("/"))
	p.wait(`document.activeElement.id === "find"`)
	eval[bool](p, `(document.activeElement.value = "", true)`) // a keyboard types no slash then
	p.do(chromedp.KeyEvent("003"))
	p.wait(`document.querySelectorAll("tr.row:not([hidden])").length === 1`)
	p.do(chromedp.Focus("tr.row:not([hidden]) a"), chromedp.KeyEvent("\r"))
	p.wait(`document.querySelector("h1").textContent === "service-003"`)
}

func TestOperatorsActFromThePageAndOthersDoNot(t *testing.T) {
	c := newConsole(t, console.Config{Name: "storefront", AdminPath: "/admin"})
	wide(t, c, 2, 3)
	admin, err := console.NewAdmin(console.AdminConfig{Console: c, Authorize: func(*http.Request) (string, error) { return "anna", nil }})
	if err != nil {
		t.Fatal(err)
	}
	var posts, done atomic.Int32
	mux := http.NewServeMux()
	mux.Handle("/debug/zerohop/", c)
	mux.HandleFunc("/admin", func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		answer := httptest.NewRecorder()
		admin.ServeHTTP(answer, r)
		if answer.Code == http.StatusOK {
			done.Add(1)
		}
		for key, values := range answer.Header() {
			w.Header()[key] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
	s := httptest.NewServer(mux)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><link rel=icon href=data:,><title>foreign</title>"))
	}))
	t.Cleanup(foreign.Close)

	q := newTab(t, "CORS", "ERR_FAILED", "ERR_BLOCKED", "403", "Cross-Origin")
	q.do(chromedp.Navigate(strings.Replace(foreign.URL, "127.0.0.1", "foreign.example", 1)))
	body := `{"action":"eject","mesh":"1","service":"service-000","addr":"10.0.0.1:8080","for":"5m","why":"hurt"}`
	eval[bool](q, fmt.Sprintf(`fetch(%q, {method: "POST", mode: "no-cors", body: %q}).then(() => true, () => true)`, s.URL+"/admin", body))
	if posts.Load() == 0 || done.Load() != 0 {
		t.Fatalf("of %d posts from another site %d were obeyed, want some and 0", posts.Load(), done.Load())
	}

	p := newTab(t)
	p.view(1280, 900, "light")
	p.do(chromedp.Navigate(s.URL + "/debug/zerohop/#/service/service-000"))
	p.wait(live + ` && document.querySelectorAll("table.endpoints tr.row:not([hidden]) select").length === 3`)
	eval[bool](p, `(() => { const s = document.querySelector("tr.row select"); s.value = "eject"; s.dispatchEvent(new Event("change")); return true })()`)
	p.wait(`document.querySelector("dialog[open]") !== null`)
	p.do(chromedp.SendKeys("dialog input", "it is to be repaired"), chromedp.Click("dialog button[type=submit]"))
	p.wait(`document.querySelector("dialog") === null && /Taken out, back in/.test(document.querySelector("table.endpoints tr.row").textContent)`)
	p.wait(`document.querySelector(".events").textContent.includes("anna")`)
}

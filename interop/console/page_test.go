package console

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
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
	t.Parallel()
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
	p.wait(`[...document.querySelectorAll("main > :not(.kept) .figure")].some((f) => f.textContent.includes("2 of 3"))`)
	// The countdown goes on by itself between two updates of the server.
	first := eval[string](p, health)
	p.wait(health + ` !== ` + fmt.Sprintf("%q", first))

	// The topology says so where nobody counts who calls, and has it as soon as somebody does.
	eval[bool](p, `(location.hash = "#/topology", true)`)
	p.wait(`[...document.querySelectorAll(".box")].some((b) => b.textContent.includes("orders")) && document.querySelector("main").innerText.includes("Console.Inbound")`)
	var came atomic.Int64
	c.Inbound("http", func() (int64, int64) { return came.Add(20), 0 })
	p.wait(`[...document.querySelectorAll(".box")].some((b) => /Callers: http.*10\/s out/.test(b.textContent)) && !document.querySelector("main").innerText.includes("Console.Inbound")`)
	p.wait(`[...document.querySelectorAll(".box")].some((b) => /storefront.*10\/s in, [\d.]+\/s out/.test(b.textContent))`)
}

func TestPageIsReadByItsServerOnly(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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

func TestPageFitsEyesAndHands(t *testing.T) {
	t.Parallel()
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
				if got := eval[string](p, `[...document.querySelectorAll("main > :not(.kept) .figure-value")].filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.parentNode.textContent).join()`); got != "" {
					t.Errorf("%s at %d px: cut off: %s", v, width, got)
				}
				if got := eval[string](p, `[...document.querySelectorAll("button, select, input, a[href]")].filter((e) => e.checkVisibility() && !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length)).map((e) => e.outerHTML).join()`); got != "" {
					t.Errorf("%s: without a name: %s", v, got)
				}
			}
			// The longest that there are: two latencies on one line, where there is place, and nothing cut off.
			eval[bool](p, `(location.hash = "#/service/service-001", true)`)
			p.wait(`document.querySelectorAll("main > :not(.kept) .figure-value").length === 8`)
			figure := eval[struct {
				Cut  bool
				High float64
			}](p, `(() => {
				const f = document.querySelector("main > :not(.kept) .figure.wide .figure-value");
				f.textContent = "888\u202fms / 888\u202fms";
				return { cut: f.scrollWidth > f.clientWidth, high: f.getBoundingClientRect().height };
			})()`)
			if figure.Cut || width == 1280 && figure.High > 30 {
				t.Errorf("latency at %d px: cut off %v, %v px high", width, figure.Cut, figure.High)
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

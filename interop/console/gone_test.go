package console

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
	"github.com/zerohop/zerohop/telemetry/console"
)

func TestPageSaysThatAServiceIsGone(t *testing.T) {
	t.Parallel()
	c := newConsole(t, console.Config{})
	wide(t, c, 1, 2)
	second := wide(t, c, 1, 3)
	address := serve(t, c)
	p := newTab(t)
	p.view(1280, 900, "light")
	p.do(chromedp.Navigate(address))
	p.wait(live + ` && document.querySelectorAll(".services tr.row:not([hidden])").length === 2`)
	eval[bool](p, `(document.querySelectorAll(".services tr.row a")[1].click(), true)`)
	p.wait(`document.querySelectorAll("table.endpoints tr.row:not([hidden])").length === 3`)
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	p.wait(`document.querySelector("main .empty:not([hidden])")?.textContent === "There is no service of this name now." && !document.querySelector("table.endpoints").checkVisibility()`)
	eval[bool](p, `(location.hash = "#/policy/nobody", true)`)
	p.wait(`document.querySelector("main").textContent.includes("there is no service of this name now")`)
}

func TestPageForgetsTheProcessBefore(t *testing.T) {
	t.Parallel()
	process := func(failures int) *console.Console {
		c := newConsole(t, console.Config{})
		mesh := wide(t, c, 1, 1)
		for range failures {
			_, _ = zerohop.Do(t.Context(), mesh, "service-000", func(context.Context, *loadbalance.Node) (int, error) { return 0, errUnwell })
		}
		return c
	}
	var now atomic.Pointer[console.Console]
	before := process(4)
	now.Store(before)
	p := newTab(t, "ERR_", "503")
	p.do(chromedp.Navigate(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { now.Load().ServeHTTP(w, r) })) + "#/failures"))
	p.wait(live + ` && document.querySelectorAll(".fail").length >= 4`)
	now.Store(process(1))
	_ = before.Close()
	p.wait(live + ` && document.querySelectorAll(".fail").length > 0 && document.querySelectorAll(".fail").length < 4`)
}

func TestPageTakesEndpointsAndRoutesWithoutEnd(t *testing.T) {
	t.Parallel()
	var spec zerohop.Spec
	for i := range 1000 {
		spec.Routes = append(spec.Routes, routing.Rule{Match: routing.Match{Service: "service-000", Path: routing.Path{Exact: fmt.Sprint("/", i)}}})
	}
	c := newConsole(t, console.Config{})
	wideUnder(t, c, spec, 1, 10_000)
	address := serve(t, c)
	p := newTab(t)
	p.view(1280, 900, "light")
	p.do(chromedp.Navigate(address + "#/service/service-000"))
	p.wait(live + ` && document.querySelector("main").textContent.includes("900 more rules are left out")`)
	p.wait(`document.querySelector("main").textContent.includes("of 10k")`)
	if rows := eval[int](p, `document.querySelectorAll("tr.row, .routes > li").length`); rows > 200 {
		t.Errorf("10,000 endpoints and 1,000 rules take %d lines, want those in sight and the first 100", rows)
	}
	eval[bool](p, `(location.hash = "#/policy/service-000", true)`)
	p.wait(`document.querySelector("main").textContent.includes("900 more rules are left out")`)
}

// The stream begins with the latest failures of all services.
func TestServiceHasItsFailuresThoughOthersHaveMore(t *testing.T) {
	t.Parallel()
	c := newConsole(t, console.Config{})
	mesh := wide(t, c, 80, 1)
	for i := range 80 {
		_, _ = zerohop.Do(t.Context(), mesh, fmt.Sprintf("service-%03d", i), func(context.Context, *loadbalance.Node) (int, error) { return 0, errUnwell })
	}
	p := newTab(t)
	p.do(chromedp.Navigate(serve(t, c) + "#/service/service-000"))
	p.wait(live + ` && document.querySelectorAll(".fail").length > 0`)
}

package console

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/telemetry/console"
)

func TestOperatorsActFromThePageAndOthersDoNot(t *testing.T) {
	t.Parallel()
	c := newConsole(t, console.Config{Name: "storefront", AdminPath: "/admin"})
	spec := zerohop.Spec{Defaults: zerohop.Policy{ServiceBreaker: zerohop.Breaker{Mode: zerohop.On}}}
	wideUnder(t, c, spec, 2, 3)
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
	const row = `document.querySelector("table.endpoints tr.row").textContent`
	figure := func(label string) string {
		return fmt.Sprintf(`[...document.querySelectorAll(".figure")].find((f) => f.textContent.startsWith(%q)).textContent`, label)
	}
	choose := func(action string) string {
		return fmt.Sprintf(`(() => { const s = document.querySelector("tr.row select"); s.value = %q; s.dispatchEvent(new Event("change")); return true })()`, action)
	}
	press := func(label string) string {
		return fmt.Sprintf(`([...document.querySelectorAll(".head button")].find((b) => b.textContent.startsWith(%q) && b.checkVisibility()).click(), true)`, label)
	}
	for _, step := range []struct{ act, seen string }{
		{choose("eject"), `/Taken out, back in/.test(` + row + `)`},
		{choose("release"), `/In service/.test(` + row + `)`},
		{choose("drain"), `/Draining, back in/.test(` + row + `)`},
		{press("Pause retries"), `/Paused/.test(` + figure("Retry budget") + `)`},
		{press("Set breaker"), `/Forced open/.test(` + figure("Breaker") + `)`},
		{press("Release"), `!/Paused/.test(` + figure("Retry budget") + `) && /Closed/.test(` + figure("Breaker") + `)`},
	} {
		eval[bool](p, step.act)
		p.wait(`document.querySelector("dialog[open]") !== null`)
		if step.act == press("Pause retries") { // the rest is done on a phone
			p.do(chromedp.KeyEvent("\x1b"))
			p.wait(`document.querySelector("dialog") === null`)
			p.view(360, 640, "light")
			eval[bool](p, step.act)
			p.wait(`document.querySelector("dialog[open]") !== null`)
		}
		if !eval[bool](p, `(() => { const r = document.querySelector("dialog").getBoundingClientRect(); return r.left >= 0 && r.right <= innerWidth && r.top >= 0 && r.bottom <= innerHeight })()`) {
			t.Errorf("%s: the dialog is not in sight", step.act)
		}
		p.do(chromedp.SendKeys("dialog input", "it is to be repaired"), chromedp.Click("dialog button[type=submit]"))
		p.wait(`document.querySelector("dialog") === null && ` + step.seen)
	}
	p.wait(`document.querySelector(".events").textContent.includes("anna")`)
}

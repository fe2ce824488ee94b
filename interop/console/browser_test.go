package console

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/zerohop/zerohop/internal/testenv"
)

// chromium is the one browser of all tests; each test has a profile of its own within it.
var chromium struct {
	once  sync.Once
	ctx   context.Context
	close func()
	err   error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.close != nil {
		chromium.close()
	}
	os.Exit(code)
}

// browser returns the browser, or ends the test where there is none.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		testenv.Need(t, "chromium", "no chromium, chromium-browser or google-chrome in PATH")
	}
	chromium.once.Do(func() {
		dir, err := os.MkdirTemp("", "zerohop-chromium")
		if err != nil {
			chromium.err = err
			return
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.NoSandbox, chromedp.DisableGPU,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", false),
			chromedp.Flag("host-resolver-rules", "MAP foreign.example 127.0.0.1"))
		ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, cancel := chromedp.NewContext(ctx)
		chromium.ctx = ctx
		chromium.close = func() {
			_ = chromedp.Cancel(ctx)
			cancel()
			stop()
			_ = os.RemoveAll(dir)
		}
		chromium.err = chromedp.Do(ctx)
	})
	if chromium.err != nil {
		t.Fatalf("chromium: %v", chromium.err)
	}
	return chromium.ctx
}

// tab is a tab of the browser, with cookies and storage of its own. What the page complains of fails the test, unless it contains one of
// Expected.
type tab struct {
	t        *testing.T
	ctx      context.Context
	expected []string
}

func newTab(t *testing.T, expected ...string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser(t), chromedp.WithNewBrowserContext())
	p := &tab{t, ctx, expected}
	if err := chromedp.Do(ctx); err != nil { // with the context that lasts, for it is that of the tab
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for m, err := range chromedp.Console(ctx) {
			if err != nil {
				return
			}
			p.complain(string(m.Type), m.Text, m.URL)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return p
}

func (p *tab) complain(kind, text, url string) {
	if kind == "debug" {
		return // advice of the browser, such as that it has laid out what is out of sight before it had to
	}
	for _, e := range p.expected {
		if strings.Contains(text, e) {
			return
		}
	}
	p.t.Errorf("the page says on its console: %s: %s (%s)", kind, text, url)
}

// do runs the steps, each within 20 s.
func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	for _, step := range steps {
		ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
		err := chromedp.Do(ctx, step)
		cancel()
		if err != nil {
			p.t.Fatal(err)
		}
	}
}

// view sets the size of the tab and the colours that its user wants.
func (p *tab) view(width, height int64, scheme string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
	if err != nil {
		p.t.Fatalf("colours: %v", err)
	}
	_, err = chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600})
	if err != nil {
		p.t.Fatalf("size: %v", err)
	}
}

// wait waits until the expression holds on the page.
func (p *tab) wait(expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression)); err != nil {
		text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText.slice(0, 2000) : ""`))
		p.t.Fatalf("waiting for %s: %v; the page:\n%s", expression, err, text)
	}
}

// eval evaluates an expression on the page; a promise is waited for.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

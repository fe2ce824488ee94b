package console

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
	"github.com/zerohop/zerohop/telemetry/console"
)

var shots = flag.String("shots", "", "write pictures of the page into this folder; takes two minutes")

// shop has the mesh of a shop called until the test is over: orders has an endpoint that fails, payments is slow.
func shop(t *testing.T, c *console.Console) {
	sets := discovery.Static{}
	for i, name := range []string{"accounts", "billing", "carts", "catalog", "inventory", "mail", "orders", "orders-next", "payments", "prices", "search", "shipping"} {
		for k := range 3 + i*7%5 {
			sets[name] = append(sets[name], discovery.Endpoint{Addr: fmt.Sprintf("10.20.%d.%d:8080", i, k+11), Zone: fmt.Sprintf("eu-1%c", 'a'+k%2), Meta: map[string]string{"version": "1.4.2"}})
		}
	}
	spec := zerohop.Spec{
		Defaults: zerohop.Policy{Balance: "random", Outlier: zerohop.Outlier{Consecutive: 3}, Timeout: 2 * time.Second},
		Services: map[string]zerohop.Policy{
			"payments": {ServiceBreaker: zerohop.Breaker{Mode: zerohop.On}, Retry: zerohop.Retry{Attempts: 2}},
			"catalog":  {ServiceBreaker: zerohop.Breaker{Mode: zerohop.On}},
		},
		Routes: []routing.Rule{{Name: "next", Match: routing.Match{Service: "orders"}, Backends: []routing.Backend{{Service: "orders", Weight: 90}, {Service: "orders-next", Weight: 10}}}},
	}
	mesh, err := zerohop.New(zerohop.Config{Resolver: sets, Spec: spec, Hooks: c.Hooks(), Zone: "eu-1a"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mesh.Close() })
	h := httpmesh.NewHandler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), httpmesh.HandlerOptions{})
	c.Inbound("http", h.Requests)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	busy(t, 12*time.Millisecond, func() {
		if resp, err := http.Get(server.URL); err == nil {
			_ = resp.Body.Close()
		}
	})
	began := time.Now()
	for name, every := range map[string]time.Duration{
		"accounts": 30, "billing": 160, "carts": 14, "catalog": 7, "inventory": 40, "mail": 400, "orders": 9, "payments": 40, "prices": 11, "search": 21, "shipping": 120,
	} {
		for range 2 {
			busy(t, 2*every*time.Millisecond, func() {
				_, _ = zerohop.Do(context.Background(), mesh, name, func(_ context.Context, n *loadbalance.Node) (int, error) {
					time.Sleep(time.Duration(2+rand.ExpFloat64()*3) * time.Millisecond)
					if n.Addr() == "10.20.6.13:8080" && time.Since(began) > 35*time.Second {
						time.Sleep(40 * time.Millisecond)
						return 0, errors.New("dial tcp 10.20.6.13:8080: connect: connection refused")
					}
					if name == "payments" && time.Since(began) > 30*time.Second && rand.IntN(4) == 0 {
						return 0, errors.New("read tcp 10.20.0.2:41822->" + n.Addr() + ": read: connection reset by peer")
					}
					return 1, nil
				})
			})
		}
	}
}

func TestShots(t *testing.T) {
	if *shots == "" {
		t.Skip("writes pictures only with -shots")
	}
	c := newConsole(t, console.Config{Name: "storefront"})
	address := serve(t, c)
	shop(t, c)
	p := newTab(t)
	time.Sleep(70 * time.Second) // for lines over time
	for _, s := range []struct {
		name, hash    string
		width, height int64
		scheme, act   string
	}{
		{"console-services", "#/", 1280, 800, "light", ""},
		{"console-service", "#/service/orders", 1280, 1100, "light", ""},
		{"console-failures", "#/failures", 1280, 900, "dark", `document.querySelector(".fail > button")?.click()`},
		{"console-topology", "#/topology", 1280, 1000, "light", ""},
		{"console-phone", "#/service/orders", 360, 780, "dark", ""},
		{"timeline", "#/timeline", 1280, 700, "dark", ""},
		{"policy", "#/policy/payments", 1280, 700, "light", ""},
		{"phone-services", "#/", 360, 780, "light", ""},
		{"phone-topology", "#/topology", 360, 780, "light", ""},
	} {
		p.view(s.width, s.height, s.scheme)
		p.do(chromedp.Navigate("about:blank"), chromedp.Navigate(address+s.hash), chromedp.Sleep(6500*time.Millisecond))
		if s.act != "" {
			eval[bool](p, s.act+"; true")
			p.do(chromedp.Sleep(300 * time.Millisecond))
		}
		picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(*shots, s.name+".png"), picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

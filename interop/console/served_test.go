package console

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/telemetry/console"
)

// newConsole returns a console, closed after the test.
func newConsole(t testing.TB, cfg console.Config) *console.Console {
	t.Helper()
	c, err := console.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// serve serves a handler under /debug/zerohop/ and returns the address of the page.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/debug/zerohop/", h)
	s := httptest.NewServer(mux)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL + "/debug/zerohop/"
}

// server is a server on loopback that takes 30 ms for a request, so that some are under way when it ends.
type server struct {
	*httptest.Server
	addr string
}

func newServer(t testing.TB) *server {
	s := new(server)
	s.Server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		time.Sleep(30 * time.Millisecond)
	}))
	s.addr = strings.TrimPrefix(s.URL, "http://")
	t.Cleanup(s.Close)
	return s
}

// busy calls f every so often until the test is over.
func busy(t testing.TB, every time.Duration, f func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				f()
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
}

var errUnwell = errors.New("unwell")

// wide returns a mesh of so many services with so many endpoints each, all of which have had calls.
func wide(t testing.TB, c *console.Console, services, endpoints int) *zerohop.Mesh {
	t.Helper()
	return wideUnder(t, c, zerohop.Spec{}, services, endpoints)
}

func wideUnder(t testing.TB, c *console.Console, spec zerohop.Spec, services, endpoints int) *zerohop.Mesh {
	t.Helper()
	sets := discovery.Static{}
	for i := range services {
		var set []discovery.Endpoint
		for k := range endpoints {
			set = append(set, discovery.Endpoint{Addr: fmt.Sprintf("10.%d.%d.%d:8080", i/250, i%250+k/250, k%250+1), Zone: fmt.Sprintf("zone-%d", k%3)})
		}
		sets[fmt.Sprintf("service-%03d", i)] = set
	}
	mesh, err := zerohop.New(zerohop.Config{Resolver: sets, Spec: spec, Hooks: c.Hooks(), Zone: "zone-0", Instance: "wide"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mesh.Close() })
	for i := range services {
		for range endpoints {
			_, err := zerohop.Do(t.Context(), mesh, fmt.Sprintf("service-%03d", i), answer)
			if err != nil && !errors.Is(err, errUnwell) {
				t.Fatal(err)
			}
		}
	}
	return mesh
}

// answer is that of a server that seldom fails.
func answer(context.Context, *loadbalance.Node) (int, error) {
	if rand.IntN(200) == 0 {
		return 0, errUnwell
	}
	return 1, nil
}

//go:build linux || darwin

package httpmesh

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/samehost"
)

// BenchmarkWays compares ways to the same handler on one host. They take turns in random order, so that what else the machine
// does meets all alike: what it reports are medians, and those of the others in relation to TCP.
func BenchmarkWays(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		for _, goroutines := range []int{1, 16} {
			b.Run(fmt.Sprintf("GET/%dKiB/%d", size>>10, goroutines), func(b *testing.B) { compareWays(b, size, goroutines) })
		}
	}
}

func compareWays(b *testing.B, size, goroutines int) {
	text := bytes.Repeat([]byte("x"), size)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(text) })
	dir := directory(b)
	s := beside(b, dir, h, (*httptest.Server).Start)
	names := []string{"tcp", "unix", "in-process"}
	list := map[string]*Transport{}
	for _, name := range names {
		cfg := zerohop.Config{Resolver: discovery.Static{"orders": {s.endpoint()}}}
		if name == "unix" {
			cfg.Sockets = samehost.Policy{Directories: []string{dir}}
		}
		list[name] = client(b, open(b, cfg))
		if name == "in-process" {
			list[name].Handlers = map[string]http.Handler{s.endpoint().Addr: h}
		}
	}
	var mu sync.Mutex
	took := map[string][]time.Duration{}
	round := func(name string, calls int) {
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() {
				var own []time.Duration
				for range calls {
					req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://orders/", nil)
					if err != nil {
						b.Error(err)
						return
					}
					begun := time.Now()
					resp, err := list[name].RoundTrip(req)
					if err != nil {
						b.Error(err)
						return
					}
					n, err := io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if n != int64(size) || err != nil {
						b.Errorf("%d bytes, %v", n, err)
						return
					}
					own = append(own, time.Since(begun))
				}
				mu.Lock()
				defer mu.Unlock()
				took[name] = append(took[name], own...)
			})
		}
		wg.Wait()
	}
	for _, name := range names {
		round(name, 200)
	}
	clear(took)
	for b.Loop() {
		for _, i := range rand.Perm(len(names)) {
			round(names[i], 100)
		}
	}
	median := func(name string) float64 {
		list := took[name]
		slices.Sort(list)
		return float64(list[len(list)/2])
	}
	for _, name := range names {
		b.ReportMetric(median(name)/1e3, name+"-p50-us")
		if name != "tcp" {
			b.ReportMetric(median(name)/median("tcp"), name+"/tcp")
		}
	}
	b.ReportMetric(0, "ns/op")
}

//go:build unix

package httpmesh

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// pools balances over pools as roundRobin does over one http.Transport: the difference is that of the connections.
type pools struct {
	list []*pool
	next atomic.Uint64
}

func (p *pools) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, way, err := p.list[p.next.Add(1)%uint64(len(p.list))].send(req.WithContext(req.Context()))
	if err == nil {
		resp.Body = &lasting{ReadCloser: resp.Body, way: way}
	}
	return resp, err
}

type lasting struct {
	io.ReadCloser
	way trip
}

func (e *lasting) Close() error {
	err := e.ReadCloser.Close()
	e.way.end()
	return err
}

// BenchmarkPool compares connections of our own with those of one http.Transport and with the whole Transport: three
// backends, answers of 1 KiB. Interleave runs (-count) to compare them.
func BenchmarkPool(b *testing.B) {
	addrs := []string{backend(b), backend(b), backend(b)}
	base := &http.Transport{MaxIdleConnsPerHost: 100}
	b.Cleanup(base.CloseIdleConnections)
	ours := &pools{}
	for _, addr := range addrs {
		ours.list = append(ours.list, poolTo(b, base, addr, "http://orders/", zerohop.Connect{Timeout: time.Second}))
	}
	mesh := NewTransport(open(b, zerohop.Config{Resolver: source(addrs...)}), base)
	for _, parallel := range []int{1, 64} {
		for _, c := range []struct {
			name string
			rt   http.RoundTripper
		}{{"plain", &roundRobin{base: base, addrs: addrs}}, {"pool", ours}, {"transport", mesh}} {
			b.Run(c.name+map[int]string{1: "/serial", 64: "/parallel=64"}[parallel], func(b *testing.B) {
				cpu := cpuTime(b)
				b.ReportAllocs()
				call := func() {
					resp, err := c.rt.RoundTrip(request(b.Context(), b, "GET", "http://orders/", nil))
					if err != nil {
						b.Error(err)
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if parallel == 1 {
					for b.Loop() {
						call()
					}
				} else {
					b.SetParallelism(parallel / 2)
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							call()
						}
					})
				}
				b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

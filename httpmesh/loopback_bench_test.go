//go:build unix

package httpmesh

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// With this variable set the test binary is a backend of the loopback benchmark: a process of its own, so that its CPU
// time does not count as that of the client. It ends when its standard input does.
const backendVariable = "ZEROHOP_BENCH_BACKEND"

func init() {
	if os.Getenv(backendVariable) == "" {
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	answer := bytes.Repeat([]byte("x"), 1<<10)
	panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) })))
}

// backend starts a backend and returns its address.
func backend(b *testing.B) string {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), backendVariable+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return line[:len(line)-1]
}

// roundRobin is the least that a client-side balancer can do.
type roundRobin struct {
	base  *http.Transport
	addrs []string
	next  atomic.Uint64
}

func (r *roundRobin) RoundTrip(req *http.Request) (*http.Response, error) {
	out := req.WithContext(req.Context())
	u := *req.URL
	u.Host = r.addrs[r.next.Add(1)%uint64(len(r.addrs))]
	out.URL, out.Host = &u, req.URL.Host
	return r.base.RoundTrip(out)
}

// contender is a client whose costs are summed up over the rounds of a benchmark.
type contender struct {
	rt        http.RoundTripper
	cpu       time.Duration
	calls     int
	latencies []time.Duration
}

// run makes calls in so many goroutines at a time and returns what they cost.
func (c *contender) run(b *testing.B, calls, goroutines int) time.Duration {
	before := cpuTime(b)
	each := make([][]time.Duration, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			req := &http.Request{
				Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: "orders", Path: "/"}, Header: http.Header{},
				Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			}
			for range calls / goroutines {
				start := time.Now()
				resp, err := c.rt.RoundTrip(req)
				if err != nil {
					b.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil {
					b.Error(err)
					return
				}
				each[g] = append(each[g], time.Since(start))
			}
		})
	}
	wg.Wait()
	spent := cpuTime(b) - before
	c.cpu += spent
	for _, l := range each {
		c.calls += len(l)
		c.latencies = append(c.latencies, l...)
	}
	return spent
}

func (c *contender) perCall() float64 { return float64(c.cpu.Nanoseconds()) / float64(c.calls) / 1000 }

func (c *contender) median() float64 {
	slices.Sort(c.latencies)
	return float64(c.latencies[len(c.latencies)/2].Nanoseconds()) / 1000
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLoopback compares what a call costs the client with what plain round robin over one http.Transport costs
// it, on loopback over three backends with answers of 1 KiB. Rounds of both alternate, so that a noisy machine is noisy
// for both; cpu-ratio is the median of the ratios of the rounds.
func BenchmarkLoopback(b *testing.B) {
	addrs := []string{backend(b), backend(b), backend(b)}
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("concurrency=%d", goroutines), func(b *testing.B) {
			base := &http.Transport{MaxIdleConnsPerHost: 100}
			defer base.CloseIdleConnections()
			plain := &contender{rt: &roundRobin{base: base, addrs: addrs}}
			mesh := open(b, zerohop.Config{Resolver: source(addrs...)})
			ours := &contender{rt: NewTransport(mesh, &http.Transport{MaxIdleConnsPerHost: 100})}
			round := 40 * goroutines
			for _, c := range []*contender{plain, ours} { // connections
				c.run(b, round, goroutines)
				*c = contender{rt: c.rt}
			}
			var ratios []float64
			for b.Loop() {
				p := plain.run(b, round, goroutines)
				ratios = append(ratios, float64(ours.run(b, round, goroutines))/float64(p))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(plain.perCall(), "plain-cpu-us/call")
			b.ReportMetric(ours.perCall(), "zerohop-cpu-us/call")
			b.ReportMetric(median(ratios), "cpu-ratio")
			b.ReportMetric(plain.median(), "plain-p50-us")
			b.ReportMetric(ours.median(), "zerohop-p50-us")
		})
	}
}

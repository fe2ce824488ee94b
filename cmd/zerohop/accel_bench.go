package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/zerohop/zerohop/ebpfaccel"
)

// A path is a way for bytes from one end of a host to the other.
type path struct {
	name    string
	network string // "" for none: the handler is called in this process
	listen  func(ctx context.Context, network, address string) (net.Listener, error)
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	near    string // the address of a server of HTTP in this process
	far     string // and of one in another
}

// benchPaths are compared, the first with each of the others.
var benchPaths = []path{
	{name: "TCP", network: "tcp", listen: new(net.ListenConfig).Listen, dial: new(net.Dialer).DialContext},
	{name: "accelerated", network: "tcp", listen: new(ebpfaccel.ListenConfig).Listen, dial: new(ebpfaccel.Dialer).DialContext},
	{name: "Unix socket", network: "unix", listen: new(net.ListenConfig).Listen, dial: new(net.Dialer).DialContext},
	{name: "in process"},
}

// address returns one to listen on, in a directory.
func (p path) address(dir string) string {
	if p.network == "unix" {
		return filepath.Join(dir, fmt.Sprintf("%x", rand.Uint64()))
	}
	return "127.0.0.1:0"
}

// A measure is what a workload shows in one round: less is better.
type measure struct {
	wall, cpu time.Duration // of one call, or of one megabyte of a stream
}

type workload struct {
	name  string
	size  int
	run   func(ctx context.Context, p path, size int, d time.Duration) (measure, error)
	calls bool // a handler can be called without a connection
}

// A benchResult is that of a workload over a path: medians of all rounds.
type benchResult struct {
	Workload string  `json:"workload"`
	Bytes    int     `json:"bytes"`
	Path     string  `json:"path"`
	P50      float64 `json:"p50_us,omitempty"`   // of calls, in microseconds
	Rate     float64 `json:"mb_per_s,omitempty"` // of streams
	CPU      float64 `json:"cpu_us"`             // of both ends, for a call or a megabyte
	Ratio    float64 `json:"ratio_to_tcp"`       // of P50 or Rate: the median of those of the rounds
	Low      float64 `json:"ratio_low"`          // what the ratio may be as well, from
	High     float64 `json:"ratio_high"`         // to
	CPURatio float64 `json:"cpu_ratio_to_tcp"`   // 0 if that of TCP was too little to be measured
}

// A host is now fast and now slow, for tens of milliseconds or for minutes. What is compared has to be near in time, so a ratio is
// that within a round, and rounds are short. Connections differ from each other for as long as they last, so more time makes rounds
// more, not longer. Shorter samples would have too much of what a stream has before it is found to be one.
const (
	benchSample = 40 * time.Millisecond
	fewRounds   = 7 // fewer say too little of chance: samples become shorter then
)

// turns returns how many rounds of how long samples there are, an odd number, if each round takes so many samples.
func turns(total time.Duration, samples int) (rounds int, sample time.Duration) {
	all := total * 9 / 10 / time.Duration(samples) // The rest is for connections.
	rounds = int(all / benchSample)
	if rounds < fewRounds {
		return fewRounds, all / fewRounds
	}
	return rounds - 1 + rounds%2, benchSample
}

// outer returns how many of the lowest and of the highest of n values are to be left out for the median of any number of such values
// to lie between the others 19 times of 20 or more, if the values do not depend on each other: each is as likely on either side of
// it, and it is outside if no more than that are on one side.
func outer(n int) int {
	outside, ways := 0.0, math.Pow(2, -float64(n))
	for k := range n {
		if outside += 2 * ways; outside > 0.05 {
			return max(k-1, 0)
		}
		ways *= float64(n-k) / float64(k+1)
	}
	return 0
}

// accelBench compares ways between two ends of a host. All take turns, in another order each round and back again, so that what else
// the host does hits all of them. One of them is TCP once more: that differs from TCP by chance alone, as the others may.
func accelBench(ctx context.Context, total time.Duration, asJSON bool, stdout io.Writer) error {
	if err := ebpfaccel.Probe(); err != nil {
		return err
	}
	paths := slices.Clone(benchPaths)
	stop, err := startBenchServers(ctx, paths)
	if err != nil {
		return err
	}
	defer stop()
	again := paths[0]
	again.name = "TCP again"
	paths = slices.Insert(paths, 1, again)
	var loads []workload
	sizes := []int{64, 1 << 10, 16 << 10, 64 << 10, 1 << 20}
	for _, size := range sizes {
		loads = append(loads, workload{name: "echo", size: size, run: benchEcho})
	}
	loads = append(loads,
		workload{name: "HTTP GET", size: 1 << 10, run: benchNear, calls: true},
		workload{name: "HTTP GET to another process", size: 1 << 10, run: benchFar})
	for _, size := range sizes {
		loads = append(loads, workload{name: "stream", size: size, run: benchStream})
	}
	samples := 0
	for _, load := range loads {
		samples += 2 * len(load.over(paths))
	}
	rounds, sample := turns(total, samples)
	var results []benchResult
	for _, load := range loads {
		paths := load.over(paths)
		taken, err := takeTurns(ctx, load, paths, rounds, sample)
		if err != nil {
			return err
		}
		for i, p := range paths {
			results = append(results, resultOf(load, p, taken[i], taken[0]))
		}
	}
	if asJSON {
		return writeIndented(stdout, results)
	}
	fmt.Fprintf(stdout, "%d processors, %s; medians of %d rounds of 2 times %v, processor time of both ends.\n"+
		"TCP again is TCP: what it differs by is chance. A range that has 1 in it shows no difference.\n\n",
		runtime.NumCPU(), runtime.Version(), rounds, sample.Round(time.Millisecond))
	return writeBench(stdout, results)
}

// over returns the paths that the workload runs over.
func (w workload) over(paths []path) []path {
	return slices.DeleteFunc(slices.Clone(paths), func(p path) bool { return p.network == "" && !w.calls })
}

// takeTurns returns what each path has shown in each round: the mean of twice, as far from the middle of the round as each other.
func takeTurns(ctx context.Context, load workload, paths []path, rounds int, d time.Duration) ([][]measure, error) {
	taken := make([][]measure, len(paths))
	for range rounds {
		order := rand.Perm(len(paths))
		back := slices.Clone(order)
		slices.Reverse(back)
		sums := make([]measure, len(paths))
		for _, i := range append(order, back...) {
			m, err := load.run(ctx, paths[i], load.size, d)
			if err != nil {
				return nil, fmt.Errorf("%s of %d bytes, %s: %w", load.name, load.size, paths[i].name, err)
			}
			sums[i].wall += m.wall
			sums[i].cpu += m.cpu
		}
		for i, sum := range sums {
			taken[i] = append(taken[i], measure{sum.wall / 2, sum.cpu / 2})
		}
	}
	return taken, nil
}

// resultOf compares what a path took in each round with what TCP took.
func resultOf(load workload, p path, rounds, tcp []measure) benchResult {
	wall, cpu := func(m measure) float64 { return microseconds(m.wall) }, func(m measure) float64 { return microseconds(m.cpu) }
	r := benchResult{Workload: load.name, Bytes: load.size, Path: p.name, CPU: median(each(rounds, cpu))}
	times := each(rounds, wall)
	ratios := quotients(times, each(tcp, wall))
	if load.name == "stream" {
		r.Rate = 1e6 / median(times)
		ratios = quotients(each(tcp, wall), times)
	} else {
		r.P50 = median(times)
	}
	r.Ratio = median(ratios)
	slices.Sort(ratios)
	out := outer(len(ratios))
	r.Low, r.High = ratios[out], ratios[len(ratios)-1-out]
	if ratios := quotients(each(rounds, cpu), each(tcp, cpu)); len(ratios) > 0 {
		r.CPURatio = median(ratios)
	}
	return r
}

func each(ms []measure, of func(measure) float64) []float64 {
	fs := make([]float64, len(ms))
	for i, m := range ms {
		fs[i] = of(m)
	}
	return fs
}

// quotients leaves out what would be divided by zero.
func quotients(a, b []float64) []float64 {
	var qs []float64
	for i := range a {
		if b[i] > 0 {
			qs = append(qs, a[i]/b[i])
		}
	}
	return qs
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func writeBench(w io.Writer, results []benchResult) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "workload\tbytes\tpath\tp50 or rate\tto TCP\tfrom\tto\tCPU per call or MB\tto TCP\t")
	for _, r := range results {
		what := fmt.Sprintf("%.1f µs", r.P50)
		if r.Rate > 0 {
			what = fmt.Sprintf("%.0f MB/s", r.Rate)
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%.2f\t%.2f\t%.2f\t%.1f µs\t%.2f\t\n",
			r.Workload, r.Bytes, r.Path, what, r.Ratio, r.Low, r.High, r.CPU, r.CPURatio)
	}
	return t.Flush()
}

func median[T cmp.Ordered](of []T) T {
	of = slices.Sorted(slices.Values(of))
	return of[len(of)/2]
}

// connected calls run with the ends of a connection.
func (p path) connected(ctx context.Context, run func(client, server net.Conn) error) error {
	dir, err := os.MkdirTemp("", "zerohop-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := p.listen(ctx, p.network, p.address(dir))
	if err != nil {
		return err
	}
	defer l.Close()
	client, err := p.dial(ctx, p.network, l.Addr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		return err
	}
	defer server.Close()
	if deadline, ok := ctx.Deadline(); ok {
		client.SetDeadline(deadline)
		server.SetDeadline(deadline)
	}
	return run(client, server)
}

// timed calls f again and again and returns the median time of a call, and the mean of what it cost the processors.
func timed(d time.Duration, f func() error) (measure, error) {
	var walls []time.Duration
	cpu := cpuTime()
	for start := time.Now(); len(walls) < 10 || time.Since(start) < d; {
		begin := time.Now()
		if err := f(); err != nil {
			return measure{}, err
		}
		walls = append(walls, time.Since(begin))
	}
	return measure{median(walls), (cpuTime() - cpu) / time.Duration(len(walls))}, nil
}

func benchEcho(ctx context.Context, p path, size int, d time.Duration) (m measure, err error) {
	err = p.connected(ctx, func(client, server net.Conn) error {
		go func() {
			b := make([]byte, size)
			for {
				if _, err := io.ReadFull(server, b); err != nil {
					return // The client is closed.
				}
				if _, err := server.Write(b); err != nil {
					return
				}
			}
		}()
		b := make([]byte, size)
		m, err = timed(d, func() error {
			if _, err := client.Write(b); err != nil {
				return err
			}
			_, err := io.ReadFull(client, b)
			return err
		})
		return err
	})
	return m, err
}

func benchStream(ctx context.Context, p path, size int, d time.Duration) (m measure, err error) {
	err = p.connected(ctx, func(client, server net.Conn) error {
		done := make(chan int64)
		go func() {
			// No io.Copy: its splice would be another workload.
			var total int64
			b := make([]byte, 256<<10)
			for {
				n, err := server.Read(b)
				if total += int64(n); err != nil {
					done <- total
					return
				}
			}
		}()
		b := make([]byte, size)
		cpu, start := cpuTime(), time.Now()
		var writeErr error
		for writeErr == nil && time.Since(start) < d {
			for n := 0; n < 1<<20 && writeErr == nil; n += size {
				_, writeErr = client.Write(b)
			}
		}
		client.Close()
		megabytes := float64(<-done) / 1e6
		if writeErr == nil && megabytes == 0 {
			writeErr = errors.New("nothing arrived")
		}
		m = measure{time.Duration(float64(time.Since(start)) / megabytes), time.Duration(float64(cpuTime()-cpu) / megabytes)}
		return writeErr
	})
	return m, err
}

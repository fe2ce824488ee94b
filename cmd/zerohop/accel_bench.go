package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/zerohop/zerohop/ebpfaccel"
)

// A path is a way for bytes from one end of a host to the other.
type path struct {
	name   string
	listen func(ctx context.Context, network, address string) (net.Listener, error)
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	server string // the address of a server of HTTP
}

// benchPaths are compared, the first with each of the others.
var benchPaths = []path{
	{name: "TCP", listen: new(net.ListenConfig).Listen, dial: new(net.Dialer).DialContext},
	{name: "accelerated", listen: new(ebpfaccel.ListenConfig).Listen, dial: new(ebpfaccel.Dialer).DialContext},
}

// A measure is what a workload shows in one round: less is better.
type measure struct {
	wall, cpu time.Duration // of one call, or of one megabyte of a stream
}

type workload struct {
	name string
	size int
	run  func(ctx context.Context, p path, size int, d time.Duration) (measure, error)
}

// accelBench compares plain and accelerated connections. Both take turns, so that what else the host does hits both. The processor
// time is that of this process, which of HTTP has the client alone.
func accelBench(ctx context.Context, total time.Duration, stdout io.Writer) error {
	if err := ebpfaccel.Probe(); err != nil {
		return err
	}
	const rounds = 5
	paths := slices.Clone(benchPaths)
	stop, err := startBenchServer(ctx, paths)
	if err != nil {
		return err
	}
	defer stop()
	var loads []workload
	for _, size := range []int{64, 1 << 10, 16 << 10, 64 << 10, 1 << 20} {
		loads = append(loads, workload{"echo", size, benchEcho})
	}
	loads = append(loads, workload{"HTTP GET", 1 << 10, benchHTTP})
	for _, size := range []int{64, 1 << 10, 16 << 10, 64 << 10, 1 << 20} {
		loads = append(loads, workload{"stream", size, benchStream})
	}
	each := total * 9 / 10 / time.Duration(rounds*len(paths)*len(loads))

	fmt.Fprintf(stdout, "%d processors, %s; medians of %d rounds by turns, ratios to TCP\n\n",
		runtime.NumCPU(), runtime.Version(), rounds)
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "workload\tbytes\tTCP\taccelerated\tratio\tCPU ratio\t")
	for _, load := range loads {
		walls, cpus := make([][]time.Duration, len(paths)), make([][]time.Duration, len(paths))
		for round := range rounds {
			for i := range paths {
				i = (i + round) % len(paths)
				m, err := load.run(ctx, paths[i], load.size, each)
				if err != nil {
					return fmt.Errorf("%s of %d bytes, %s: %w", load.name, load.size, paths[i].name, err)
				}
				walls[i], cpus[i] = append(walls[i], m.wall), append(cpus[i], m.cpu)
			}
		}
		unit := " p50"
		if load.name == "stream" {
			unit = "/MB"
		}
		plain, fast := median(walls[0]), median(walls[1])
		fmt.Fprintf(t, "%s\t%d\t%v%s\t%v%s\t%.2f\t%.2f\t\n", load.name, load.size, plain, unit, fast, unit,
			float64(fast)/float64(plain), float64(median(cpus[1]))/float64(max(1, median(cpus[0]))))
	}
	return t.Flush()
}

func median(ds []time.Duration) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	return ds[len(ds)/2]
}

// connected calls run with the ends of a connection.
func (p path) connected(ctx context.Context, run func(client, server net.Conn) error) error {
	l, err := p.listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	client, err := p.dial(ctx, "tcp", l.Addr().String())
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

// benchServer serves HTTP over plain and accelerated connections, in a process of its own as services are. It prints where, in the
// order of benchPaths, and ends with its standard input.
func benchServer(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, err := strconv.Atoi(r.URL.Query().Get("size"))
		if err != nil || size < 0 || size > 1<<20 {
			http.Error(w, "want a size", http.StatusBadRequest)
			return
		}
		w.Write(make([]byte, size))
	})
	var addrs []any
	for _, p := range benchPaths {
		l, err := p.listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addrs = append(addrs, l.Addr())
		s := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
		defer s.Close()
		go s.Serve(l) // until Close
	}
	if _, err := fmt.Fprintln(stdout, addrs...); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, stdin)
	return err
}

// startBenchServer starts it and sets the addresses of the paths.
func startBenchServer(ctx context.Context, paths []path) (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "accel", benchServerCommand)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		stdin.Close()
		cmd.Wait()
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	addrs := strings.Fields(line)
	if err != nil || len(addrs) != len(paths) {
		stop()
		return nil, fmt.Errorf("the server of the benchmark says %q: %w", line, err)
	}
	for i := range paths {
		paths[i].server = addrs[i]
	}
	return stop, nil
}

func benchHTTP(ctx context.Context, p path, size int, d time.Duration) (measure, error) {
	transport := &http.Transport{DialContext: p.dial}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/?size=%d", p.server, size), nil)
	if err != nil {
		return measure{}, err
	}
	return timed(d, func() error {
		resp, err := client.Do(request)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return errors.Join(err, resp.Body.Close())
	})
}

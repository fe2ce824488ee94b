//go:build unix

package grpcmesh

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/test/bufconn"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
)

// With this variable set the test binary is a backend of the benchmark: a process of its own, so that its CPU time does
// not count as that of the client. It ends when its standard input does.
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
	g := grpc.NewServer()
	echopb.RegisterEchoServer(g, &server{name: l.Addr().String()})
	panic(g.Serve(l))
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

// costs are what calls take.
type costs struct {
	calls         int
	wall, cpu     time.Duration
	allocs, bytes uint64
}

func (c *costs) add(d costs) {
	c.calls += d.calls
	c.wall += d.wall
	c.cpu += d.cpu
	c.allocs += d.allocs
	c.bytes += d.bytes
}

func (c *costs) report(b *testing.B, name string) {
	b.ReportMetric(float64(c.wall.Nanoseconds())/float64(c.calls), name+"-ns/call")
	b.ReportMetric(float64(c.cpu.Nanoseconds())/float64(c.calls), name+"-cpu-ns/call")
	b.ReportMetric(float64(c.allocs)/float64(c.calls), name+"-allocs/call")
	b.ReportMetric(float64(c.bytes)/float64(c.calls), name+"-B/call")
}

// text makes requests and answers of 1 KiB.
var text = strings.Repeat("hello, w", 128)

// measure makes calls in so many goroutines at a time, with a deadline each unless that is 0, and returns what they cost
// this process.
func measure(b *testing.B, client echopb.EchoClient, calls, goroutines int, deadline time.Duration) costs {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, start := cpuTime(b), time.Now()
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			req := &echopb.SayRequest{Text: text}
			for range calls / goroutines {
				ctx, cancel := context.Background(), func() {}
				if deadline > 0 {
					ctx, cancel = context.WithTimeout(ctx, deadline)
				}
				_, err := client.Say(ctx, req, grpc.WaitForReady(true))
				cancel()
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	c := costs{calls: calls, wall: time.Since(start), cpu: cpuTime(b) - cpu}
	runtime.ReadMemStats(&after)
	c.allocs, c.bytes = after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
	return c
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// BenchmarkUnary compares calls on a mesh with calls over gRPC's own round_robin, over three backends, which are
// processes of their own on loopback and goroutines of this one on bufconn, where their costs count, too. Rounds of both
// alternate, so that a noisy machine is noisy for both; the ratios are the medians of those of the rounds: throughput is
// that of the mesh by that of round_robin, cpu what a call on the mesh takes by what one over round_robin does.
func BenchmarkUnary(b *testing.B) {
	for _, over := range []string{"loopback", "bufconn"} {
		for _, goroutines := range []int{1, 64} {
			for _, deadline := range []time.Duration{0, time.Minute} {
				b.Run(fmt.Sprintf("%s/concurrency=%d/deadline=%s", over, goroutines, deadline), func(b *testing.B) { compare(b, over, goroutines, deadline) })
			}
		}
	}
}

func compare(b *testing.B, over string, goroutines int, deadline time.Duration) {
	opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	var addrs []resolver.Address
	var eps []discovery.Endpoint
	listeners := map[string]*bufconn.Listener{}
	for i := range 3 {
		addr := fmt.Sprintf("10.0.0.%d:80", i+1)
		if over == "bufconn" {
			l := bufconn.Listen(64 << 10)
			listeners[addr] = l
			s := &server{name: addr}
			s.start(l)
			b.Cleanup(s.stop)
		} else {
			addr = backend(b)
		}
		addrs, eps = append(addrs, resolver.Address{Addr: addr}), append(eps, discovery.Endpoint{Addr: addr})
	}
	if over == "bufconn" {
		opts = append(opts, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return listeners[addr].DialContext(ctx)
		}))
	}
	fixed := manual.NewBuilderWithScheme("fixed")
	fixed.InitialState(resolver.State{Addresses: addrs})
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": eps}})
	if err != nil {
		b.Fatal(err)
	}
	defer mesh.Close()
	dial := func(target string, more ...grpc.DialOption) echopb.EchoClient {
		conn, err := grpc.NewClient(target, append(more, opts...)...)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		return echopb.NewEchoClient(conn)
	}
	plain := dial("fixed:///orders", grpc.WithResolvers(fixed), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	ours := dial(Target("orders"), DialOptions(mesh)...)

	round := 200 * (1 + goroutines/8)
	round -= round % goroutines
	measure(b, plain, round, goroutines, deadline) // connections
	measure(b, ours, round, goroutines, deadline)
	var p, z costs
	var throughput, cpu []float64
	for i := 0; b.Loop(); i++ {
		var dp, dz costs
		if i%2 == 0 { // the first of a round has the caches of the other
			dp, dz = measure(b, plain, round, goroutines, deadline), measure(b, ours, round, goroutines, deadline)
		} else {
			dz, dp = measure(b, ours, round, goroutines, deadline), measure(b, plain, round, goroutines, deadline)
		}
		p.add(dp)
		z.add(dz)
		throughput = append(throughput, float64(dp.wall)/float64(dz.wall))
		cpu = append(cpu, float64(dz.cpu)/float64(dp.cpu))
	}
	b.ReportMetric(0, "ns/op")
	p.report(b, "round_robin")
	z.report(b, "zerohop")
	b.ReportMetric(median(throughput), "throughput-ratio")
	b.ReportMetric(median(cpu), "cpu-ratio")
}

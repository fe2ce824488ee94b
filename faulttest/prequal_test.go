//go:build unix

package faulttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/echopb"
)

// uneven is a farm of servers that are not alike: every third has half the speed of the others, and neighbours on their
// machines slow single ones down for a while.
const (
	unevenServers = 12
	unevenClients = 12 // so that each sees little of the load
	unevenWorkers = 2
	unevenWork    = 12 * time.Millisecond // mean of a fast server
	// A sixth of the servers have a busy neighbour at any time, who takes half of what they have.
	neighbourSpan  = 1500 * time.Millisecond
	neighbourShare = 6
	// unevenRate is about two thirds of what all servers can do together: 8 fast and 4 slow ones, 10 of 12 undisturbed.
	unevenRate = 900
)

// host is a server in this process, whose workers sleep instead of work.
type host struct {
	echopb.UnimplementedEchoServer
	slow    float64
	workers chan struct{}

	mu        sync.Mutex // guards what follows
	rand      *rand.Rand
	neighbour float64
}

func (h *host) work() {
	h.workers <- struct{}{}
	defer func() { <-h.workers }()
	h.mu.Lock()
	d := time.Duration(h.rand.ExpFloat64() * float64(unevenWork) * h.slow * h.neighbour)
	h.mu.Unlock()
	time.Sleep(d)
}

func (h *host) ServeHTTP(http.ResponseWriter, *http.Request) { h.work() }

func (h *host) Say(_ context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	h.work()
	return &echopb.SayReply{Text: r.Text}, nil
}

func (h *host) become(neighbour float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.neighbour = neighbour
}

// startHosts serves over HTTP or gRPC until the test ends, and returns the addresses.
func startHosts(t *testing.T, overGRPC bool) (addrs []string) {
	t.Helper()
	var hosts []*host
	for i := range unevenServers {
		h := &host{slow: 1, neighbour: 1, workers: make(chan struct{}, unevenWorkers), rand: rand.New(rand.NewPCG(7, uint64(i)))}
		if i%3 == 0 {
			h.slow = 2
		}
		hosts = append(hosts, h)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, l.Addr().String())
		done := make(chan struct{})
		if overGRPC {
			half := &grpcmesh.Server{}
			s := grpc.NewServer(half.ServerOptions()...)
			echopb.RegisterEchoServer(s, h)
			half.Register(s)
			go func() { defer close(done); _ = s.Serve(l) }()
			t.Cleanup(func() { s.Stop(); <-done })
		} else {
			s := &http.Server{Handler: httpmesh.NewHandler(h, httpmesh.HandlerOptions{})}
			go func() { defer close(done); _ = s.Serve(l) }()
			t.Cleanup(func() { s.Close(); <-done })
		}
	}
	stop, gone := make(chan struct{}), make(chan struct{})
	go func() { // ended and awaited by the cleanup
		defer close(gone)
		random := rand.New(rand.NewPCG(11, 13))
		tick := time.NewTicker(neighbourSpan)
		defer tick.Stop()
		for {
			order := random.Perm(len(hosts))
			for k, i := range order {
				hosts[i].become(1)
				if k < len(hosts)/neighbourShare {
					hosts[i].become(2)
				}
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-gone })
	return addrs
}

// Servers that are not alike serve many clients at two thirds of what they can do. What they say of themselves makes a
// shorter tail than what each client sees.
func TestPrequalCutsTheTailOfUnevenServers(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			addrs := startHosts(t, p.name == "gRPC")
			measure := func(balance string, params zerohop.Prequal) result {
				policy := zerohop.Policy{ // the algorithm alone
					Balance: balance, Prequal: params,
					Retry: zerohop.Retry{Mode: zerohop.Off}, Backup: zerohop.Backup{Mode: zerohop.Off}, Outlier: zerohop.Outlier{Mode: zerohop.Off},
				}
				calls := make([]caller, unevenClients)
				for i := range calls {
					m, _ := newMeshWith(t, static(addrs), policy)
					calls[i] = p.meshed(t, m, service)
				}
				any := func(ctx context.Context) error { return calls[rand.IntN(len(calls))](ctx) }
				warm := startLoad(t, unevenRate/2, any)
				warm.until(time.Second)
				warm.stop()
				l := startLoad(t, unevenRate, any)
				l.until(6 * time.Second)
				r := l.stop()
				r.log(t, fmt.Sprint(p.name, " ", balance, " ", params))
				return r
			}
			turns := measure("weighted-round-robin", zerohop.Prequal{})
			measure("least-request", zerohop.Prequal{})
			measure("peak-ewma", zerohop.Prequal{})
			promise(t, func() result { return measure("prequal", zerohop.Prequal{}) }, okAtLeast(0.999), p99AtMost(turns.p99/2))
			// Reports that are as old as several calls take mislead: probes make them younger.
			eager := zerohop.Prequal{ProbeAge: 2 * unevenWork}
			promise(t, func() result { return measure("prequal", eager) }, okAtLeast(0.999), p99AtMost(turns.p99/2))
		})
	}
}

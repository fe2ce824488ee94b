//go:build linux || darwin

package grpcmesh

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/credentials/insecure"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
)

// BenchmarkNeighbours compares unary calls over TCP and over a socket, which take turns in random order: what it reports are
// medians.
func BenchmarkNeighbours(b *testing.B) {
	dir := directory(b)
	l, _, _ := beside(b, dir)
	ep := discovery.Endpoint{Addr: l.Addr().String(), Meta: l.Meta()}
	var clients [2]echopb.EchoClient
	clients[0], _, _ = near(b, dir, ep, zerohop.Policy{Connect: zerohop.Connect{Unix: zerohop.Off}}, insecure.NewCredentials())
	clients[1], _, _ = near(b, dir, ep, zerohop.Policy{}, insecure.NewCredentials())
	var took [2][]time.Duration
	round := func(i, calls int) {
		for range calls {
			begun := time.Now()
			if _, err := clients[i].Say(b.Context(), &echopb.SayRequest{}); err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], time.Since(begun))
		}
	}
	round(0, 200)
	round(1, 200)
	took = [2][]time.Duration{}
	for b.Loop() {
		for _, i := range rand.Perm(2) {
			round(i, 100)
		}
	}
	for _, list := range took {
		slices.Sort(list)
	}
	tcp, unix := float64(took[0][len(took[0])/2]), float64(took[1][len(took[1])/2])
	b.ReportMetric(tcp/1e3, "tcp-p50-us")
	b.ReportMetric(unix/1e3, "unix-p50-us")
	b.ReportMetric(unix/tcp, "unix/tcp")
	b.ReportMetric(0, "ns/op")
}

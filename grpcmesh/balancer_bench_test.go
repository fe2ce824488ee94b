package grpcmesh

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/leastrequest"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/balancer/roundrobin"

	"github.com/zerohop/zerohop/discovery"
)

var policies = []string{balancerName, roundrobin.Name, leastrequest.Name}

// BenchmarkPick compares the picks of the balancers when all endpoints are connected.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 100, 1000, 10_000} {
		for _, name := range append(policies, pickfirst.Name) {
			p := newPolicy(b, name)
			p.conn.eager = true // or the others take a quarter of a minute
			p.update(many(n, 0))
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				info := balancer.PickInfo{FullMethodName: "/echo.Echo/Say", Ctx: context.Background()}
				end := balancer.DoneInfo{BytesSent: true, BytesReceived: true}
				for b.Loop() {
					r, err := p.conn.state.Picker.Pick(info)
					if err != nil {
						b.Fatal(err)
					}
					if r.Done != nil {
						r.Done(end)
					}
				}
			})
		}
	}
}

// BenchmarkChange replaces one endpoint of many, until its connection is ready.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		sets := [][]discovery.Endpoint{many(n, 0), many(n, 1)}
		for _, name := range policies {
			p := newPolicy(b, name)
			p.conn.eager = true
			p.update(sets[0])
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					i++
					p.update(sets[i%2])
				}
			})
		}
	}
}

// BenchmarkStart takes the balancers from nothing to all endpoints connected. With ten thousand, round_robin takes a
// quarter of a minute.
func BenchmarkStart(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		eps := many(n, 0)
		for _, name := range []string{balancerName, roundrobin.Name} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				if testing.Short() && name != balancerName && n > 1000 {
					b.Skip("takes too long")
				}
				b.ReportAllocs()
				for b.Loop() {
					newPolicy(b, name).update(eps)
				}
			})
		}
	}
}

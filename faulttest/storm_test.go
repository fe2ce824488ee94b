//go:build unix

package faulttest

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/internal/echopb"
)

// What is known of a service changes fifty times a second: three backends come and go, the weights of the other five
// change. Those keep their connections. The calls may not be repeated, so that one which is lost shows.
func TestEndpointStormIsNotSeen(t *testing.T) {
	const (
		rate    = 500
		every   = 20 * time.Millisecond
		changes = 200
		steady  = 5
	)
	list := startBackends(t, 8, capacity{Workers: 100, Mean: 5 * time.Millisecond})
	addrs := protocols[1].addrs(list)
	var source discoverytest.Memory
	source.Set(service, static(addrs)[service]...)
	m, count := newMesh(t, &source)
	client := meshedEcho(t, m, service)
	tr := &trial{protocol: protocols[1], backends: list, count: count, call: func(ctx context.Context) error {
		_, err := client.Order(ctx, &echopb.SayRequest{Text: "order"})
		return err
	}}
	warm := startLoad(t, rate, tr.call)
	warm.until(500 * time.Millisecond)
	warm.stop()

	joined := make([]int, len(list)) // how often a backend was listed that was not before
	promise(t, func() result {
		random := rand.New(rand.NewPCG(3, 4))
		listed := make([]bool, len(list))
		return tr.run(t, "storm of endpoints", rate, func(l *load) {
			for c := range changes {
				l.until(time.Duration(c+1) * every)
				var eps []discovery.Endpoint
				for i, addr := range addrs {
					in := i < steady || random.IntN(2) == 0
					if in && !listed[i] {
						joined[i]++
					}
					if listed[i] = in; in {
						eps = append(eps, discovery.Endpoint{Addr: addr, Weight: 50 + random.Uint32N(100)})
					}
				}
				source.Set(service, eps...)
			}
		})
	}, okAtLeast(1), attemptsAtMost(1), executionsAtMost(1), func(r result) string {
		for i := range steady {
			if r.picks[i] == 0 {
				return "a backend that was listed all the time got no call"
			}
		}
		return ""
	})
	var connections []int
	for i, b := range list {
		connections = append(connections, len(b.logged(t, connected)))
		most := 1
		if i >= steady {
			most += joined[i]
		}
		if connections[i] > most {
			t.Errorf("backend %d got %d connections, want %d at most: the first and, had it left, one each time it came back",
				i, connections[i], most)
		}
	}
	t.Logf("connections of the backends: %v, listed anew: %v", connections, joined)
}

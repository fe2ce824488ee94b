package zerohop

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
)

// The random words of an Explanation are all that its choices were drawn by: a mesh with the same past that draws these words, and others for
// all else, sends the call to the same places. Schedules (weighted-round-robin, utilization) are left out: where one begins is drawn when it is
// made, for all calls to come, and where it has got to is the work of all calls before.
func TestChoicesFollowFromExplanations(t *testing.T) {
	compared, routed, again, hidden := 0, 0, 0, 0
	for _, balance := range []string{"peak-ewma", "least-request", "random", "rendezvous", "prequal", "maglev", "ring-hash"} {
		for seed := range uint64(30) {
			var want, got *Explanation
			var drawn []uint64
			synctest.Test(t, func(t *testing.T) {
				l := live(t, balance, seed)
				want, drawn = l.call(t), l.drawn
			})
			told := words(want)
			next := 0
			for _, r := range drawn {
				if next < len(told) && told[next] == r {
					next++
				} else {
					hidden++
				}
			}
			if next < len(told) {
				t.Fatalf("%s, seed %d: the explanation has %x, and %x were drawn", balance, seed, told, drawn)
			}
			synctest.Test(t, func(t *testing.T) {
				l := live(t, balance, seed)
				k, n := 0, 0
				l.rand = func() uint64 {
					if k++; k > len(drawn) {
						return 0
					}
					if n < len(told) && told[n] == drawn[k-1] {
						n++
						return told[n-1]
					}
					return ^drawn[k-1]
				}
				got = l.call(t)
			})
			if got.Backend != want.Backend || got.N != want.N {
				t.Fatalf("%s, seed %d: backend %d by %d tries, want %d by %d\n%v\n%v", balance, seed, got.Backend, got.N, want.Backend, want.N, got, want)
			}
			for i := range want.Tries[:want.N] {
				a, b := &got.Tries[i], &want.Tries[i]
				if a.Addr != b.Addr || a.Choice != b.Choice {
					t.Fatalf("%s, seed %d: attempt %d went to %s, want %s\n%v\n%v", balance, seed, i, a.Addr, b.Addr, got, want)
				}
				if b.Choice.How == loadbalance.HowCompared {
					compared++
				}
			}
			if want.Random != 0 {
				routed++
			}
			again += int(want.N) - 1
		}
	}
	t.Logf("%d comparisons, %d drawn backends, %d retries, %d other words", compared, routed, again, hidden)
	if compared < 50 || routed < 100 || again < 30 {
		t.Errorf("%d comparisons, %d drawn backends, %d retries", compared, routed, again)
	}
}

// lived is a mesh with a past that follows from a seed.
type lived struct {
	*Mesh
	rand  func() uint64
	drawn []uint64
	world *rand.Rand // decides what endpoints do
}

func live(t *testing.T, balance string, seed uint64) *lived {
	l := &lived{world: rand.New(rand.NewPCG(seed, 1))}
	own := rand.New(rand.NewPCG(seed, 2))
	l.rand = own.Uint64
	set := discovery.Static{"orders": endpoints(9), "canary": endpoints(4)}
	for _, eps := range set {
		for i := range eps {
			eps[i].Weight, eps[i].Zone = 1+uint32(i%3), string(rune('a'+i%3))
		}
	}
	rule := routing.Rule{
		Match:    routing.Match{Service: "orders"},
		Backends: []routing.Backend{{Service: "orders", Weight: 3}, {Service: "canary", Weight: 1}},
	}
	l.Mesh = open(t, Config{
		Resolver: set, Zone: "a",
		Rand: func() uint64 {
			r := l.rand()
			l.drawn = append(l.drawn, r)
			return r
		},
		Spec: Spec{Defaults: Policy{Balance: balance, Idempotent: On, Budget: Budget{Tokens: 1000}}, Routes: []routing.Rule{rule}},
	})
	for range 40 {
		l.call(t)
	}
	return l
}

// call makes a call that is explained; one attempt in four fails in a way that is repeated.
func (l *lived) call(t *testing.T) *Explanation {
	l.drawn = nil
	ctx, report := WithReport(WithCall(t.Context(), CallOptions{Explain: On}))
	_, _ = Do(ctx, l.Mesh, "orders", func(context.Context, *loadbalance.Node) (int, error) {
		time.Sleep(time.Duration(1+l.world.IntN(20)) * time.Millisecond)
		if l.world.IntN(4) == 0 {
			return 0, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")}
		}
		return 0, nil
	})
	e := Explain(report)
	if e == nil {
		t.Fatal("not explained")
	}
	return e
}

// words returns those that the explanation has, in the order in which they were drawn.
func words(e *Explanation) (all []uint64) {
	add := func(r uint64) {
		if r != 0 {
			all = append(all, r)
		}
	}
	add(e.Random)
	for i := range e.Tries[:e.N] {
		add(e.Tries[i].Choice.Random)
		add(e.Tries[i].Choice.Draw)
	}
	return all
}

package loadbalance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

const forever = time.Hour

// Node n0 is the one that misbehaves; the first seconds warm up.

func TestFastFailureAttractsNoTraffic(t *testing.T) {
	for _, p := range policies[:2] {
		for _, n := range []int{2, 3, 10} {
			t.Run(p.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := simulate(p.build, n, between(5*time.Second, forever, failFast), healthy)
					s.run(400, 15*time.Second)
					if got := s.share("n0", 2*time.Second, 5*time.Second); got > 1.2/float64(n) {
						t.Errorf("share of %d nodes before the failure = %.3f, want <= %.3f", n, got, 1.2/float64(n))
					}
					if got := s.share("n0", 7*time.Second, 15*time.Second); got > 0.01 {
						t.Errorf("share of %d nodes 2 s after the failure = %.4f, want <= 0.01", n, got)
					}
				})
			})
		}
	}
}

func TestMajorityThatFailsGetsFewCalls(t *testing.T) {
	for _, p := range policies[:2] {
		for _, n := range []int{3, 10} {
			synctest.Test(t, func(t *testing.T) {
				nodes := append(slices.Repeat([]behaviour{failFast}, n-1), healthy) // the last one
				s := simulate(p.build, n, nodes...)
				s.run(400, 30*time.Second)
				healthy := s.share(fmt.Sprintf("n%d", n-1), 5*time.Second, 30*time.Second)
				if bound := 1 - 0.005*float64(n-1); healthy < bound {
					t.Errorf("%s: share of the only healthy one of %d nodes = %.3f, want >= %.3f", p.name, n, healthy, bound)
				}
			})
		}
	}
}

// At each healthy node 120 calls of 200 ms are under way, which is more than what a failure is taken to cost.
func TestFailingNodeAttractsNoTrafficFromBusyOnes(t *testing.T) {
	busy := func(time.Duration, *rand.Rand) (time.Duration, resilience.Outcome) {
		return 200 * time.Millisecond, resilience.Success
	}
	for _, p := range policies[:2] {
		for _, n := range []int{2, 3} {
			synctest.Test(t, func(t *testing.T) {
				s := simulate(p.build, n, failFast, busy)
				s.run(600*float64(n-1), 30*time.Second)
				if got := s.share("n0", 5*time.Second, 30*time.Second); got > 0.005 {
					t.Errorf("%s: share of the failing one of %d nodes = %.4f, want <= 0.005", p.name, n, got)
				}
			})
		}
	}
}

func TestNodeThatFailsFromTheStartGetsFewCalls(t *testing.T) {
	for _, p := range policies[:2] {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := simulate(p.build, 3, failFast, healthy)
				s.run(100, 20*time.Second)
				if got := s.share("n0", 0, 20*time.Second); got > 0.05 {
					t.Errorf("share = %.3f, want <= 0.05", got)
				}
			})
		})
	}
}

func TestHungNodeIsLeftAlone(t *testing.T) {
	for _, n := range []int{2, 3, 10} {
		synctest.Test(t, func(t *testing.T) {
			s := simulate(PeakEWMA, n, between(10*time.Second, forever, hung), healthy)
			s.run(100, 40*time.Second)
			if got, _ := s.count("n0", 10*time.Second, 12*time.Second); got > 5 {
				t.Errorf("%d nodes: picks in the first 2 s = %d, want <= 5", n, got)
			}
			for from := 12 * time.Second; from < 40*time.Second; from += 4 * time.Second {
				if got, _ := s.count("n0", from, from+4*time.Second); got > 4 {
					t.Errorf("%d nodes: picks in 4 s from %v = %d, want <= 1/s", n, from, got)
				}
			}
		})
	}
}

func TestSlowNodeGetsFewCalls(t *testing.T) {
	for _, n := range []int{2, 3, 10} {
		synctest.Test(t, func(t *testing.T) {
			s := simulate(PeakEWMA, n, between(5*time.Second, forever, slow), healthy)
			s.run(400, 30*time.Second)
			// A node 20 times slower that got traffic by its speed would have 1/20 of a share.
			if got, want := s.share("n0", 5*time.Second, 30*time.Second), 0.05/float64(n)*2; got > want {
				t.Errorf("share of %d nodes = %.4f, want <= %.4f", n, got, want)
			}
		})
	}
}

// A failed node is found healed by the probe that follows its last pause, a slow or hung one when its peak
// has decayed to what the others cost.
func TestHealedNodeGetsTrafficAgain(t *testing.T) {
	for _, c := range []struct {
		name   string
		b      behaviour
		within time.Duration
	}{
		{"failing", failFast, 15 * time.Second},
		{"hung", hung, 45 * time.Second},
		{"slow", slow, 55 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const healed = 15 * time.Second
				s := simulate(PeakEWMA, 3, between(5*time.Second, healed, c.b), healthy)
				s.run(200, healed+c.within+5*time.Second)
				if got := s.share("n0", healed+c.within, healed+c.within+5*time.Second); got < 0.15 {
					t.Errorf("share %v after it healed = %.3f, want >= 0.15", c.within, got)
				}
				for at := healed; at < healed+c.within; at += 100 * time.Millisecond {
					if s.share("n0", at, at+time.Second) >= 0.15 {
						t.Logf("has half its share again %v after it healed", at-healed)
						return
					}
				}
			})
		})
	}
}

func TestRandomFailuresEverywhereKeepTheLoadEven(t *testing.T) {
	for _, p := range policies {
		for _, n := range []int{2, 3, 10} {
			synctest.Test(t, func(t *testing.T) {
				s := simulate(p.build, n, failing(0.01))
				s.run(1000, 10*time.Second)
				for addr := range s.nodes {
					if got := s.share(addr, 0, 10*time.Second); got > 1.5/float64(n) {
						t.Errorf("%s: share of %s of %d nodes = %.3f, want <= %.3f", p.name, addr, n, got, 1.5/float64(n))
					}
				}
			})
		}
	}
}

func TestAllNodesFailingShareTheLoad(t *testing.T) {
	for _, p := range policies[:2] {
		synctest.Test(t, func(t *testing.T) {
			s := simulate(p.build, 3, failFast)
			s.run(400, 10*time.Second)
			for addr := range s.nodes {
				if got := s.share(addr, 0, 10*time.Second); got > 0.5 {
					t.Errorf("%s: share of %s = %.3f, want <= 0.5", p.name, addr, got)
				}
			}
		})
	}
}

func TestNewNodeStartsAtItsFairShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulate(PeakEWMA, 20, healthy)
		s.run(1000, 5*time.Second)
		s.nodes["new"] = healthy
		eps := []discovery.Endpoint{{Addr: "new"}}
		for _, n := range s.bal.Set().Nodes() {
			eps = append(eps, n.Endpoint())
		}
		s.bal.Update(eps)
		s.run(1000, 10*time.Second)
		if got := s.share("new", 5*time.Second, 6*time.Second); got < 0.01 || got > 0.1 {
			t.Errorf("share in the first second = %.3f, want 0.01 to 0.1", got)
		}
	})
}

// A service whose calls come one after another and are faster than any guess at an unknown node's cost.
func TestFastNodesAreAllUsed(t *testing.T) {
	fast := func(_ time.Duration, rnd *rand.Rand) (time.Duration, resilience.Outcome) {
		return 300*time.Microsecond + time.Duration(rnd.ExpFloat64()*float64(200*time.Microsecond)), resilience.Success
	}
	for _, n := range []int{2, 3, 10} {
		synctest.Test(t, func(t *testing.T) {
			s := simulate(PeakEWMA, n, fast)
			s.run(20, 60*time.Second)
			for addr := range s.nodes {
				if got, want := s.share(addr, 0, 60*time.Second), 0.5/float64(n); got < want {
					t.Errorf("share of %s among %d nodes = %.3f, want >= %.3f", addr, n, got, want)
				}
			}
		})
	}
}

// A busy service that loses a call in a hundred has most of its nodes under the penalty of a single failure. Were they
// passed over, those left would get everything for a moment, and a moment later others.
func TestStrayFailuresDoNotGatherTheTraffic(t *testing.T) {
	stray := func(_ time.Duration, rnd *rand.Rand) (time.Duration, resilience.Outcome) {
		outcome := resilience.Success
		if rnd.IntN(100) == 0 {
			outcome = resilience.Failure
		}
		return 5*time.Millisecond + time.Duration(rnd.ExpFloat64()*float64(5*time.Millisecond)), outcome
	}
	synctest.Test(t, func(t *testing.T) {
		const window = 20 * time.Millisecond
		s := simulate(PeakEWMA, 10, stray)
		s.run(10_000, 3*time.Second)
		counts := map[time.Duration]map[string]int{}
		for _, p := range s.picks {
			w := p.at / window
			if counts[w] == nil {
				counts[w] = map[string]int{}
			}
			counts[w][p.addr]++
		}
		most := 0
		for _, c := range counts {
			for _, n := range c {
				most = max(most, n)
			}
		}
		// Each window has 200 picks, 20 a node. Two choices give the best node at most twice its share, and
		// chance some more.
		if most > 70 {
			t.Errorf("a node got %d of 200 picks in %v, want <= 70", most, window)
		}
	})
}

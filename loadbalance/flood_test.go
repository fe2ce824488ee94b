package loadbalance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Who chooses the keys may send the same one a hundred thousand times, or try keys until thousands belong to one node, or
// to one node and then to the same next one. Calls come and go, most of those on the attacked node last. No call goes to a
// node that has more than 1.25 times the mean in flight with it, rounded up. (The mean of still
// larger sets is an estimate.)
func TestKeysOfAnAttackerDoNotFillANode(t *testing.T) {
	long(t)
	sizes := []int{3, 10, 100, sampled, 1000}
	if raced { // there is one goroutine, and it takes 20 times as long
		sizes = sizes[:2]
	}
	for _, h := range hashing {
		for _, n := range sizes {
			for _, attack := range []string{"one key", "keys of one node", "keys of one node and the next"} {
				if n > sampled && attack == "keys of one node and the next" {
					continue // it would take too long to find fifty
				}
				b := New(Config{Builder: h.build, Rand: seeded()})
				b.Update(endpoints(n))
				now := time.Now()
				keys := attackKeys(b.Set().levels[0].picker, attack, now)
				rnd := rand.New(rand.NewPCG(3, 3))
				var under []Pick
				most, window, calls := 0., min(20*n, 8000), 100_000
				if len(keys) > 1 || n > sampled {
					calls = 20_000
				}
				for i := range calls {
					pick, err := b.Pick(Info{Now: now, Hash: keys[i%len(keys)]})
					if err != nil {
						t.Fatal(err)
					}
					under = append(under, pick)
					got, mean := pick.Node().InFlight(), float64(len(under))/float64(n)
					if want := math.Ceil(defaultBound*mean - 1e-9); float64(got) > want {
						t.Fatalf("%s, %d nodes, %s: call %d is number %d of %d on one node, want <= %v", h.name, n, attack, i, got, len(under), want)
					}
					if len(under) == window {
						most = max(most, float64(got)/mean)
						at := rnd.IntN(len(under))
						under[at].Done(Report{Now: now, Outcome: resilience.Success})
						under = slices.Delete(under, at, at+1)
					}
				}
				t.Logf("%s, %d nodes, %s: at most %.3f times the mean with %d in flight", h.name, n, attack, most, window)
				if most < 1.2 {
					t.Errorf("%s, %d nodes, %s: no node had more than %.3f times the mean: this was no attack", h.name, n, attack, most)
				}
			}
		}
	}
}

// attackKeys are hashes of keys that belong to one node of a picker whose nodes are idle.
func attackKeys(p Picker, attack string, now time.Time) (keys []uint64) {
	victim := HashKey("victim")
	if attack == "one key" {
		return []uint64{victim}
	}
	first := p.Pick(Info{Now: now, Hash: victim})
	next := p.Pick(Info{Now: now, Hash: victim, Avoid: []*Node{first}})
	for i := 0; len(keys) < 50; i++ {
		hash := HashKey(fmt.Sprint("try ", i))
		if p.Pick(Info{Now: now, Hash: hash}) != first {
			continue
		}
		if attack == "keys of one node" || p.Pick(Info{Now: now, Hash: hash, Avoid: []*Node{first}}) == next {
			keys = append(keys, hash)
		}
	}
	return keys
}

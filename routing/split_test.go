package routing

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
)

// sides returns the backend of each of n keys.
func sides(tb testing.TB, n int, backends ...Backend) []int {
	table := mustCompile(tb, Rule{Backends: backends, Split: Split{Name: "canary"}})
	list := make([]int, n)
	for i := range list {
		list[i] = table.Route(&Request{Key: fmt.Sprint("user-", i)}, uint64(i)).Backend
	}
	return list
}

func weighted(weights ...uint32) []Backend {
	backends := make([]Backend, len(weights))
	for i, w := range weights {
		backends[i] = Backend{Service: "orders", Weight: w, Select: map[string]string{"version": fmt.Sprint(i)}}
	}
	return backends
}

func TestKeysAreSplitByWeight(t *testing.T) {
	keys := 1_000_000
	if raced {
		keys = 100_000
	}
	weights := []uint32{90, 9, 0, 1}
	got := make([]float64, len(weights))
	for _, side := range sides(t, keys, weighted(weights...)...) {
		got[side]++
	}
	for i, w := range weights {
		if share := got[i] / float64(keys); math.Abs(share-float64(w)/100) > 0.005 || w == 0 && share > 0 {
			t.Errorf("share of backend %d = %.4f, want %.4f", i, share, float64(w)/100)
		}
	}
}

func TestKeysMoveOnlyAsWeightsDo(t *testing.T) {
	keys := 100_000
	if raced {
		keys /= 10
	}
	tests := []struct {
		name     string
		from, to []uint32
		least    float64 // share of the keys that move, at least and at most
		most     float64
		only     int // the backend that all who move go to or leave
	}{
		{"two", []uint32{95, 5}, []uint32{90, 10}, 0.05, 0.05, 1},
		{"two turned round", []uint32{900_000, 100_000}, []uint32{1, 9}, 0.8, 0.8, 1},
		{"on", []uint32{100, 0}, []uint32{99, 1}, 0.01, 0.01, 1},
		{"off", []uint32{50, 50}, []uint32{100, 0}, 0.5, 0.5, 1},
		{"scaled", []uint32{95, 5}, []uint32{950, 50}, 0, 0, 0},
		{"one of three raised", []uint32{1, 1, 1}, []uint32{1, 1, 2}, 1.0 / 6, 1.0 / 6, 2},
		{"one added", []uint32{1, 1, 0}, []uint32{1, 1, 1}, 1.0 / 3, 1.0 / 3, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before, after := sides(t, keys, weighted(tt.from...)...), sides(t, keys, weighted(tt.to...)...)
			moved := 0.0
			for i := range before {
				if before[i] == after[i] {
					continue
				}
				if moved++; before[i] != tt.only && after[i] != tt.only {
					t.Fatalf("key %d moved from %d to %d, want only those of %d to move", i, before[i], after[i], tt.only)
				}
			}
			if share, off := moved/float64(keys), 3*math.Sqrt(tt.most/float64(keys)); share < tt.least-off || share > tt.most+off {
				t.Errorf("%.4f of the keys moved, want %.4f to %.4f", share, tt.least, tt.most)
			}
		})
	}
}

// However the weights change, as many keys move as package documentation says.
func TestKeysMoveNoMoreThanShares(t *testing.T) {
	keys, rounds := uint64(100_000), 60
	if raced {
		keys, rounds = 10_000, 20
	}
	random := rand.New(rand.NewPCG(3, 4))
	weights := func(n int) []uint32 {
		list := make([]uint32, n)
		for sum := uint32(0); sum == 0; {
			for i := range list {
				switch list[i] = 1 + random.Uint32N(100); random.IntN(6) {
				case 0:
					list[i] = 0
				case 1:
					list[i] = 1 + random.Uint32N(maxWeight)
				}
				sum += list[i]
			}
		}
		return list
	}
	compiled := func(list []uint32) (s *split, shares []float64) {
		r := Rule{Backends: weighted(list...), Split: Split{Name: "canary"}}
		s = newSplit(&r, &r.Match)
		for _, w := range s.weights {
			shares = append(shares, w/float64(s.sums[len(list)-1]))
		}
		return s, shares
	}
	for round := range rounds {
		n := 2 + round%4
		from := weights(n)
		to := weights(n)
		one := round%3 == 0 // is changed
		if one {
			to = slices.Clone(from)
			for to[0] = from[0] / 2; max(from[0], to[0]) == 0 || slices.Max(to) == 0; {
				to[0] = 1 + random.Uint32N(100)
			}
		}
		a, old := compiled(from)
		b, now := compiled(to)
		change := 0.0 // of shares: what has to move
		for i := range old {
			change += math.Abs(now[i]-old[i]) / 2
		}
		moved, elsewhere := 0, 0
		for key := range keys {
			x, y := a.rendezvous(mix(key)), b.rendezvous(mix(key))
			if x != y {
				if moved++; x != 0 && y != 0 {
					elsewhere++
				}
			}
		}
		most := 2 * change / (1 + change)
		if one || n == 2 {
			most = change
		}
		off := 4*math.Sqrt(max(most, 1e-4)*(1-change)/float64(keys)) + 1/float64(keys) // standard deviations of a count
		if got := float64(moved) / float64(keys); got < change-off || got > most+off {
			t.Errorf("%v to %v: %.5f of the keys moved, want %.5f to %.5f", from, to, got, change, most)
		}
		if one && elsewhere > 0 {
			t.Errorf("%v to %v: %d keys moved between others than the first", from, to, elsewhere)
		}
	}
}

func TestKeysMoveOnlyToABackendThatIsAdded(t *testing.T) {
	backends := weighted(60, 30, 10)
	without := sides(t, 10_000, backends[0], backends[2])
	for i, side := range sides(t, 10_000, backends...) {
		if was := []int{0, 2}[without[i]]; side != was && side != 1 {
			t.Fatalf("key %d moved from %d to %d when 1 was added", i, was, side)
		}
	}
}

func TestKeysDoNotGoByTheOrderOfBackends(t *testing.T) {
	backends := weighted(3, 2, 1)
	forth := sides(t, 1000, backends...)
	slices.Reverse(backends)
	for i, side := range sides(t, 1000, backends...) {
		if side != 2-forth[i] {
			t.Fatalf("key %d is on side %d of the reversed list, want %d", i, side, 2-forth[i])
		}
	}
}

func TestBackendsThatAreAlikeShareKeys(t *testing.T) {
	counts := [2]int{}
	for _, side := range sides(t, 10_000, Backend{Service: "a", Weight: 1}, Backend{Service: "a", Weight: 1, Headers: Headers{Set: map[string]string{"X-Side": "b"}}}) {
		counts[side]++
	}
	if min(counts[0], counts[1]) < 4800 {
		t.Errorf("calls = %v, want half and half", counts)
	}
}

func TestSplitFindsTheKey(t *testing.T) {
	rule := Rule{
		Backends: weighted(1, 1),
		Split:    Split{Key: []Key{{Header: "x-user"}, {Cookie: "user"}, {Query: "user"}}},
	}
	table := mustCompile(t, rule)
	header := func(name, value string) http.Header { return http.Header{name: {value}} }
	for i := range 50 {
		key := fmt.Sprint("user ", i)
		want := table.Route(&Request{Key: key, Header: header("X-User", "other")}, 0).Backend
		for place, r := range map[string]Request{
			"header":  {Header: header("X-User", key), Query: "user=other"},
			"cookie":  {Header: header("Cookie", "a=b; user="+key), Query: "user=other"},
			"query":   {Query: fmt.Sprintf("a=b&user=user+%d", i)},
			"encoded": {Query: fmt.Sprintf("%%75ser=user%%20%d", i)},
		} {
			for _, random := range []uint64{0, 1<<64 - 1} {
				if got := table.Route(&r, random).Backend; got != want {
					t.Errorf("key %q in %s: backend %d, want %d", key, place, got, want)
				}
			}
		}
	}
	for random, want := range map[uint64]int{0: 0, 1<<64 - 1: 1} {
		if got := table.Route(&Request{Query: "user=a;b"}, random).Backend; got != want {
			t.Errorf("Route(%#x) without a key = backend %d, want %d", random, got, want)
		}
	}
	random := mustCompile(t, Rule{Backends: weighted(1, 1)})
	if a, b := random.Route(&Request{Key: "k"}, 0), random.Route(&Request{Key: "k"}, 1<<64-1); a == b {
		t.Error("a rule without Split goes by the key of the call")
	}
}

func TestPercentIsDrawnByKeyOrAtRandom(t *testing.T) {
	percent := 12.5
	table := mustCompile(t, Rule{Match: Match{Percent: &percent}, Split: Split{Name: "some"}, Backends: weighted(1, 1)})
	n := 200_000
	if raced {
		n /= 4
	}
	var keyed, drawn, first float64
	for i := range n {
		r := Request{Key: fmt.Sprint(i)}
		d := table.Route(&r, 0)
		if d != table.Route(&r, 1<<64-1) {
			t.Fatalf("key %d falls on both sides", i)
		}
		if d.Rule == 0 {
			if keyed++; d.Backend == 0 {
				first++
			}
		}
		if table.Route(&Request{}, mix(uint64(i))).Rule == 0 {
			drawn++
		}
	}
	for what, got := range map[string]float64{"by key": keyed / float64(n), "at random": drawn / float64(n), "of which backend 0": first / keyed / 4} {
		if math.Abs(got-0.125) > 0.005 {
			t.Errorf("%s: %.4f of the calls, want 0.125", what, got)
		}
	}
}

package routing

import (
	"maps"
	"math"
	"math/bits"
	"net/textproto"
	"slices"
)

// split shares the calls of a match out among backends.
type split struct {
	sums    []uint64 // running sums of the weights
	keyed   bool
	keys    []Key // headers in canonical form
	seed    uint64
	weights []float64
	ids     []uint64 // of the backends
}

// newSplit compiles the split of a rule for one of its matches. A backend is the same one in two rules if its service and what it
// selects are, and which of several such it is.
func newSplit(r *Rule, m *Match) *split {
	s := &split{keys: slices.Clone(r.Split.Key), keyed: len(r.Split.Key) > 0 || r.Split.Name != ""}
	for i := range s.keys {
		if s.keys[i].Header != "" {
			s.keys[i].Header = textproto.CanonicalMIMEHeaderKey(s.keys[i].Header)
		}
	}
	name := r.Split.Name
	if name == "" {
		name = m.Service
	}
	s.seed = hash(0, name)
	alike := map[uint64]int{}
	var sum uint64
	for i := range r.Backends {
		b := &r.Backends[i]
		sum += r.share(i)
		s.sums = append(s.sums, sum)
		s.weights = append(s.weights, float64(r.share(i)))
		// Each part is hashed with its length, so that no two lists of parts run into one.
		id := hash(1, b.Service)
		for _, key := range slices.Sorted(maps.Keys(b.Select)) {
			id = hash(hash(id, key), b.Select[key])
		}
		s.ids = append(s.ids, mix(id+uint64(alike[id])))
		alike[id]++
	}
	return s
}

// backend returns the backend that gets the call, -1 if there is none.
func (s *split) backend(q *call) int {
	last := len(s.sums) - 1
	if last <= 0 {
		return last // none, or the only one
	}
	if key, ok := s.key(q); ok {
		return s.rendezvous(key)
	}
	// Multiply-shift: the share of a backend is off by at most sum/2^64.
	x, _ := bits.Mul64(q.random, s.sums[last])
	i := 0
	for x >= s.sums[i] {
		i++
	}
	return i
}

// rendezvous returns the backend of highest score for the hash of a key: -weight/ln(u), with u in (0, 1) by the hash of key and
// backend. A backend wins by its share of the weights, and the score of one does not depend on the others: whatever is done to
// one backend moves keys from it or to it, and no others (D. G. Thaler and C. V. Ravishankar, "Using Name-Based Mappings to
// Increase Hit Rates", 1998; with weights as in C. Schindelhauer and G. Schomaker, "Weighted Distributed Hash Tables", 2005).
func (s *split) rendezvous(key uint64) int {
	best, highest := -1, -1.0
	for i, w := range s.weights {
		if w == 0 {
			continue
		}
		u := (float64(mix(key^s.ids[i])>>12) + 0.5) / (1 << 52) // exact
		if score := -w / math.Log(u); score > highest {
			best, highest = i, score
		}
	}
	return best
}

// key returns the hash of the key of the call. ok is false if it has none.
func (s *split) key(q *call) (key uint64, ok bool) {
	if !s.keyed {
		return 0, false
	}
	if q.Key != "" {
		return hash(s.seed, q.Key), true
	}
	for i := range s.keys {
		switch k := &s.keys[i]; {
		case k.Header != "":
			if v := q.header(k.Header); v != "" {
				return hash(s.seed, v), true
			}
		case k.Cookie != "":
			if v, _ := q.cookie(k.Cookie); v != "" {
				return hash(s.seed, v), true
			}
		default:
			switch raw, _ := q.param(k.Query); {
			case raw == "":
			case isEncoded(raw):
				return hashEncoded(s.seed, raw), true
			default:
				return hash(s.seed, raw), true
			}
		}
	}
	return 0, false
}

func hashEncoded(seed uint64, raw string) uint64 {
	var buf [maxKey]byte
	return hash(seed, buf[:decodeParam(buf[:], raw)])
}

// drawn reports whether the call is among the percentage of the match.
func (c *candidate) drawn(q *call) bool {
	if key, ok := c.split.key(q); ok {
		return mix(key^percentID) < c.threshold
	}
	return mix(q.random^c.salt) < c.threshold
}

// percentID stands where the backend does in a split, so that who is among the percentage does not say to which backend he goes.
const percentID = 0x9e3779b97f4a7c15

// maxKey is how many bytes of a key count.
const maxKey = 1 << 10

// hash returns a hash of s that is the same in all processes: [mix] takes in eight bytes at a time, and the length at the end.
// Somebody who chooses s can choose the hash, but where it sends him is his own affair.
func hash[S string | []byte](seed uint64, s S) uint64 {
	s = s[:min(len(s), maxKey)]
	h, n := mix(seed), len(s)
	for ; len(s) >= 8; s = s[8:] {
		h = mix(h ^ (uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56))
	}
	var last uint64
	for i := range len(s) {
		last |= uint64(s[i]) << (8 * i)
	}
	return mix(mix(h^last) + uint64(n))
}

// mix spreads every bit over all, one to one: the finaliser of SplitMix64 (G. L. Steele et al., "Fast Splittable Pseudorandom
// Number Generators", 2014; constants of D. Stafford's variant 13).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

package discovery

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of what a source may make the process hold. They are an order of magnitude above what real services
// have; ten times more would let a faulty source take hundreds of megabytes.
const (
	maxEndpoints = 10_000
	maxWeight    = 1_000_000 // maxEndpoints x maxWeight is far from overflowing a sum
	maxMetaKeys  = 64
	maxText      = 256 // bytes of a zone, a key or a value
)

// normalize returns the valid endpoints of an answer in canonical form: sorted by address, each address once.
// It counts what it left out; bad is the reason for the first endpoint without a usable address or, if all have one,
// without a usable weight. An address that policy refuses is not usable; nil refuses none. The answer and the maps in it are
// not changed.
func normalize(answer []Endpoint, policy *AddressPolicy) (set []Endpoint, dropped Dropped, bad error) {
	set = make([]Endpoint, 0, len(answer))
	var odd error // about a weight
	for _, e := range answer {
		addr, err := parseAddress(e.Addr)
		if err != nil {
			dropped.Addr++
			bad = cmp.Or(bad, err)
			continue
		}
		if policy != nil {
			if err := policy.check(addr); err != nil {
				dropped.Refused++
				bad = cmp.Or(bad, err)
				continue
			}
		}
		e.Addr = addr.String()
		if e.Weight > maxWeight {
			dropped.Weight++
			if odd == nil {
				odd = fmt.Errorf("discovery: weight %d of %s is above %d", e.Weight, e.Addr, maxWeight)
			}
			if e.Weight > math.MaxInt32 {
				e.Weight = 1
			}
		}
		e.Weight = min(max(e.Weight, 1), maxWeight)
		if e.Health > Terminating {
			e.Health = Unhealthy
		}
		if !printable(e.Zone) {
			e.Zone = ""
			dropped.Zone++
		}
		kept := normalizeMeta(e.Meta)
		dropped.Meta += len(e.Meta) - len(kept)
		e.Meta = kept
		set = append(set, e)
	}
	// The healthiest of those with the same address comes first, and the first of the equally healthy ones.
	slices.SortStableFunc(set, func(a, b Endpoint) int {
		return cmp.Or(strings.Compare(a.Addr, b.Addr), cmp.Compare(a.Health, b.Health))
	})
	valid := len(set)
	set = slices.CompactFunc(set, func(a, b Endpoint) bool { return a.Addr == b.Addr })
	dropped.Duplicate = valid - len(set)
	return set, dropped, cmp.Or(bad, odd)
}

// normalizeMeta returns meta itself if all of it is acceptable, else a copy of the acceptable part: the first
// keys in order of the alphabet, so that equal answers give equal sets.
func normalizeMeta(meta map[string]string) map[string]string {
	good := len(meta) <= maxMetaKeys
	for k, v := range meta {
		good = good && printable(k) && printable(v)
	}
	if good {
		return meta
	}
	kept := make(map[string]string, min(len(meta), maxMetaKeys))
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		if len(kept) < maxMetaKeys && printable(k) && printable(meta[k]) {
			kept[k] = meta[k]
		}
	}
	return kept
}

// printable reports whether s may stand in logs, labels and headers.
func printable(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

package xds

import (
	"math"
	"slices"
	"testing"

	"github.com/zerohop/zerohop/discovery"
)

func TestWeigh(t *testing.T) {
	ones := func(n int) []uint32 { return slices.Repeat([]uint32{1}, n) }
	type locality struct {
		level   uint8
		weight  int // -1: none
		weights []uint32
	}
	for name, tt := range map[string]struct {
		localities []locality
		want       []uint32
	}{
		"none":                         {nil, nil},
		"no weights of localities":     {[]locality{{0, -1, []uint32{1, 2}}, {0, -1, []uint32{3}}}, []uint32{1, 2, 3}},
		"as many as endpoints":         {[]locality{{0, 2, ones(2)}, {0, 3, ones(3)}}, ones(5)},
		"sums of weights":              {[]locality{{0, 30, []uint32{10, 20}}, {0, 5, []uint32{5}}}, []uint32{10, 20, 5}},
		"half for one":                 {[]locality{{0, 1, ones(1)}, {0, 1, ones(2)}}, []uint32{2000, 1000, 1000}},
		"one without weight":           {[]locality{{0, 5, ones(1)}, {0, -1, ones(2)}}, ones(1)},
		"weight 0":                     {[]locality{{0, 5, ones(1)}, {0, 0, ones(2)}}, ones(1)},
		"levels by themselves":         {[]locality{{0, 2, ones(2)}, {1, -1, ones(2)}}, ones(4)},
		"an empty locality":            {[]locality{{0, 9, nil}, {0, 2, ones(2)}}, ones(2)},
		"large ones are scaled down":   {[]locality{{0, -1, []uint32{math.MaxUint32, math.MaxUint32 / 2}}}, []uint32{1_000_000, 500_000}},
		"a large and a small one":      {[]locality{{0, math.MaxUint32, ones(1)}, {0, 1, ones(1)}}, []uint32{1_000_000, 1}},
		"weights of both are shared":   {[]locality{{0, 3, []uint32{1, 2}}, {0, 3, []uint32{3}}}, []uint32{1, 2, 3}},
		"a locality of all the weight": {[]locality{{0, 100, ones(4)}}, ones(4)},
	} {
		t.Run(name, func(t *testing.T) {
			var set []discovery.Endpoint
			var groups []group
			for _, l := range tt.localities {
				g := group{level: l.level, weight: uint32(max(l.weight, 0)), weighted: l.weight >= 0, from: len(set)}
				for _, w := range l.weights {
					set = append(set, discovery.Endpoint{Weight: w})
				}
				g.to = len(set)
				groups = append(groups, g)
			}
			var got []uint32
			for _, e := range weigh(set, groups) {
				got = append(got, e.Weight)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("weights %v, want %v", got, tt.want)
			}
		})
	}
}

// An endpoint that takes no traffic leaves its share to the others of its locality.
func TestWeighCountsHealthyEndpoints(t *testing.T) {
	set := []discovery.Endpoint{{Weight: 1}, {Weight: 1, Health: discovery.Draining}, {Weight: 1}}
	got := weigh(set, []group{{weight: 1, weighted: true, from: 0, to: 2}, {weight: 1, weighted: true, from: 2, to: 3}})
	if got[0].Weight != got[2].Weight {
		t.Errorf("weights %d and %d, want equal ones", got[0].Weight, got[2].Weight)
	}
}

package httpmesh

import (
	"net/http"
	"testing"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/routing"
)

// actionRules are rules for calls of orders, by what they cost.
var actionRules = map[string]routing.Rule{
	"backend": {Backends: []routing.Backend{{Service: "orders"}}},
	"headers": {Rewrite: routing.Rewrite{Request: routing.Headers{Set: map[string]string{"X-Route": "r"}}}},
}

// BenchmarkRoutedRoundTrip is BenchmarkRoundTrip with rules: plain-ns is what a call takes without any, in the same rounds.
func BenchmarkRoutedRoundTrip(b *testing.B) {
	for _, name := range []string{"backend", "headers"} {
		b.Run(name, func(b *testing.B) {
			without := &http.Client{Transport: NewTransport(open(b, zerohop.Config{Resolver: fakes(3)}), nop{})}
			with := &http.Client{Transport: NewTransport(open(b, zerohop.Config{Resolver: fakes(3), Spec: routeOf(actionRules[name])}), nop{})}
			spend(b, without, 1)
			spend(b, with, 1)
			var plain, routed []float64
			for b.Loop() {
				plain, routed = append(plain, spend(b, without, 1)), append(routed, spend(b, with, 1))
			}
			b.ReportMetric(median(plain), "plain-ns")
			b.ReportMetric(median(routed), "routed-ns")
			b.ReportMetric(allocations(b, with)-allocations(b, without), "added-allocs")
		})
	}
}

func TestActionsCostFewAllocations(t *testing.T) {
	plain := &http.Client{Transport: NewTransport(open(t, zerohop.Config{Resolver: fakes(3)}), nop{})}
	do(t, plain, request(t.Context(), t, http.MethodGet, "http://orders/", nil))
	base := allocations(t, plain)
	for name, most := range map[string]float64{"backend": 0, "headers": 3} {
		c := &http.Client{Transport: NewTransport(open(t, zerohop.Config{Resolver: fakes(3), Spec: routeOf(actionRules[name])}), nop{})}
		do(t, c, request(t.Context(), t, http.MethodGet, "http://orders/", nil))
		if got := allocations(t, c) - base; got > most {
			t.Errorf("a rule with %s adds %v allocations, want at most %v", name, got, most)
		}
	}
}

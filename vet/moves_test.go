package vet

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/routing"
)

func TestMovesAreTheCallsThatGoElsewhere(t *testing.T) {
	canary := func(weight uint32) routing.Rule {
		return routing.Rule{
			Name: "canary", Match: routing.Match{Service: "Orders", Path: routing.Path{Prefix: "/v2"}},
			Backends: []routing.Backend{{Service: "orders", Weight: 100 - weight}, {Service: "orders", Select: map[string]string{"version": "2"}, Weight: weight}},
		}
	}
	rules := func(list ...routing.Rule) zerohop.Spec { return zerohop.Spec{Routes: list} }
	percent := 25.0
	one := routing.Rule{Match: routing.Match{Service: "orders", Headers: []routing.Field{{Name: "X-Beta", Present: true}}, RPC: routing.RPC{Service: "shop.Orders"}}, Backends: []routing.Backend{{Service: "beta"}}}
	gone := routing.Rule{Match: routing.Match{Service: "stock", Lane: "dev", Cookies: []routing.Field{{Name: "user", Value: "7"}}}, Response: &routing.Response{Status: 410}}
	some := routing.Rule{Match: routing.Match{Service: "stock", Percent: &percent}, Backends: []routing.Backend{{Service: "stock-next"}}}
	for _, tt := range []struct {
		name     string
		old, new zerohop.Spec
		want     []string
	}{
		{"the same", rules(canary(10), one, gone), rules(one, gone, canary(10)), nil},
		{"a weight", rules(canary(10)), rules(canary(25)), []string{
			"orders /v2: orders 90 %, orders{version=2} 10 % -> orders 75 %, orders{version=2} 25 % (15 % move)",
		}},
		{"added", rules(), rules(one, gone), []string{
			"orders POST /shop.Orders/Some with X-Beta: some: orders 100 % -> beta 100 % (100 % move)",
			"stock with Cookie: user=7 in lane dev: stock 100 % -> status 410 100 % (100 % move)",
		}},
		{"removed", rules(canary(50)), rules(), []string{
			"orders /v2: orders 50 %, orders{version=2} 50 % -> orders 100 % (50 % move)",
		}},
		{"an order that matters", rules(gone, routing.Rule{Match: gone.Match, Backends: one.Backends}), rules(routing.Rule{Match: gone.Match, Backends: one.Backends}, gone), []string{
			"stock with Cookie: user=7 in lane dev: status 410 100 % -> beta 100 % (100 % move)",
		}},
	} {
		moves, err := Moves(tt.old, tt.new, now)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range moves {
			got = append(got, m.String())
		}
		if !cmp.Equal(got, tt.want) {
			t.Errorf("%s: moves differ (-want +got):\n%s", tt.name, cmp.Diff(tt.want, got))
		}
	}
	moves, err := Moves(rules(), rules(some), now)
	if err != nil || len(moves) != 1 || moves[0].Percent < 23 || moves[0].Percent > 27 {
		t.Errorf("Moves() of a quarter of the calls = %v, %v", moves, err)
	}
}

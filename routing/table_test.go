package routing

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustCompile(tb testing.TB, rules ...Rule) *Table {
	tb.Helper()
	table, err := Compile(rules)
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

func TestRouteMatches(t *testing.T) {
	long := "/" + strings.Repeat("p", maxPath-1)
	tests := []struct {
		name  string
		match Match
		yes   []Request
		no    []Request
	}{
		{
			name:  "service",
			match: Match{Service: "orders"},
			yes:   []Request{{Service: "orders"}, {Service: "orders", Method: "PUT", Path: "/x"}, {Service: "orders", Path: "/a//b"}},
			no:    []Request{{}, {Service: "Orders"}, {Service: "orders2"}},
		},
		{
			name: "any",
			yes:  []Request{{}, {Service: "x", Method: "PUT", Path: "/../x"}, {Path: "*"}},
		},
		{
			name:  "method",
			match: Match{Method: "GET"},
			yes:   []Request{{Method: "GET"}, {Method: ""}},
			no:    []Request{{Method: "get"}, {Method: "POST"}},
		},
		{
			name:  "other method",
			match: Match{Method: "POST"},
			yes:   []Request{{Method: "POST"}},
			no:    []Request{{Method: "GET"}, {Method: ""}},
		},
		{
			name:  "exact path",
			match: Match{Path: Path{Exact: "/pkg.Service/Method"}},
			yes:   []Request{{Path: "/pkg.Service/Method"}, {Path: "/pkg.Service/%4dethod"}},
			no: []Request{{Path: "pkg.Service/Method"}, {Path: "/pkg.Service/Method/"}, {Path: "/pkg.Service/method"}, {Path: "/pkg.Service"},
				{Path: "//pkg.Service/Method"}, {Path: "/pkg.Service/./Method"}, {Path: "/pkg.Service%2FMethod"}, {Path: "/pkg%2eService/Method"},
				{Path: "/pkg.Service/Method;x"}, {Path: "/pkg.Service/Method%3bx"}, {Path: "/pkg.Service/Method%00"}},
		},
		{
			name:  "prefix",
			match: Match{Path: Path{Prefix: "/v1"}},
			yes:   []Request{{Path: "/v1"}, {Path: "/v1/"}, {Path: "/v1/x"}, {Path: "/v1/x/y"}, {Path: "/%761/x"}, {Path: "/v1/a%20b"}},
			no: []Request{{Path: "/v10"}, {Path: "/V1"}, {Path: "/"}, {Path: ""}, {Path: "/v"}, {Path: "/v2/v1"}, {Path: "/v1%2fx"}, {Path: "/v1/../x"},
				{Path: "/v1/x/%2e%2e/y"}, {Path: "/x/../v1"}, {Path: "/v1\\x"}, {Path: "/v1;/x"}, {Path: "/v1/x//y"}, {Path: "/v1%20"}},
		},
		{
			name:  "prefix with a slash at the end",
			match: Match{Path: Path{Prefix: "/v1/"}},
			yes:   []Request{{Path: "/v1"}, {Path: "/v1/"}, {Path: "/v1/x"}},
			no:    []Request{{Path: "/v10"}},
		},
		{
			name:  "root prefix",
			match: Match{Path: Path{Prefix: "/"}},
			yes:   []Request{{Path: ""}, {Path: "/"}, {Path: "/x/y"}},
			no:    []Request{{Path: "*"}, {Path: "x"}, {Path: "//"}, {Path: "/."}},
		},
		{
			name:  "exact root",
			match: Match{Path: Path{Exact: "/"}},
			yes:   []Request{{Path: ""}, {Path: "/"}},
			no:    []Request{{Path: "/x"}, {Path: "//"}},
		},
		{
			name:  "accents",
			match: Match{Path: Path{Exact: "/café au lait"}},
			yes:   []Request{{Path: "/café%20au%20lait"}, {Path: "/caf%C3%A9%20au%20lait"}, {Path: "/caf%c3%a9 au lait"}},
			no:    []Request{{Path: "/cafe%20au%20lait"}, {Path: "/caf%E9%20au%20lait"}},
		},
		{
			name:  "longest exact path",
			match: Match{Path: Path{Exact: long}},
			yes:   []Request{{Path: long}, {Path: "/%70" + long[2:]}},
			no:    []Request{{Path: long + "p"}, {Path: long + "/"}, {Path: "/%70" + long[1:]}},
		},
		{
			name:  "longest prefix",
			match: Match{Path: Path{Prefix: long}},
			yes:   []Request{{Path: long}, {Path: long + long}, {Path: "/%70" + long[2:] + "/%70"}},
			no:    []Request{{Path: long + "p"}, {Path: long + "p/"}, {Path: long + "/.."}, {Path: "/%70" + long[1:] + "/"}},
		},
		{
			name:  "header value",
			match: Match{Headers: []Field{{Name: "x-TENANT", Value: "a"}}},
			yes:   []Request{{Header: http.Header{"X-Tenant": {"a"}}}, {Header: http.Header{"X-Tenant": {"a", "b"}}}},
			no: []Request{{}, {Header: http.Header(nil)}, {Header: http.Header{"X-Tenant": {"A"}}}, {Header: http.Header{"X-Tenant": {""}}},
				{Header: http.Header{"X-Tenant": {"b", "a"}}}, {Header: http.Header{"X-Other": {"a"}}}},
		},
		{
			name:  "header presence",
			match: Match{Headers: []Field{{Name: "x-tenant", Present: true}}},
			yes:   []Request{{Header: http.Header{"X-Tenant": {"a"}}}},
			no:    []Request{{}, {Header: http.Header{"X-Tenant": {""}}}, {Header: http.Header{"X-Tenant": {}}}},
		},
		{
			name: "every condition",
			match: Match{Service: "orders", Method: "PUT", Path: Path{Prefix: "/v1"},
				Headers: []Field{{Name: "a", Value: "1"}, {Name: "b", Present: true}}},
			yes: []Request{{Service: "orders", Method: "PUT", Path: "/v1/x", Header: http.Header{"A": {"1"}, "B": {"2"}}}},
			no: []Request{
				{Service: "other", Method: "PUT", Path: "/v1/x", Header: http.Header{"A": {"1"}, "B": {"2"}}},
				{Service: "orders", Method: "GET", Path: "/v1/x", Header: http.Header{"A": {"1"}, "B": {"2"}}},
				{Service: "orders", Method: "PUT", Path: "/v2/x", Header: http.Header{"A": {"1"}, "B": {"2"}}},
				{Service: "orders", Method: "PUT", Path: "/v1/x", Header: http.Header{"A": {"2"}, "B": {"2"}}},
				{Service: "orders", Method: "PUT", Path: "/v1/x", Header: http.Header{"A": {"1"}}},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := mustCompile(t, Rule{Match: tt.match, Backends: []Backend{{Service: "b"}}})
			for want, requests := range map[int][]Request{0: tt.yes, -1: tt.no} {
				for _, r := range requests {
					if got, want := table.Route(&r, 1<<64-1), (Decision{want, want, want}); got != want {
						t.Errorf("Route(%+v) = %v, want %v", r, got, want)
					}
				}
			}
		})
	}
}

func TestRoutePrecedence(t *testing.T) {
	// From the highest to the lowest; every one fits the request.
	order := []Match{
		{Service: "s", Path: Path{Exact: "/a/b"}, Method: "GET", Headers: []Field{{Name: "x", Value: "1"}}},
		{Service: "s", Path: Path{Exact: "/a/b"}, Method: "GET"},
		{Service: "s", Path: Path{Exact: "/a/b"}, Headers: []Field{{Name: "x", Value: "1"}, {Name: "y", Present: true}}},
		{Service: "s", Path: Path{Exact: "/a/b"}},
		{Service: "s", Path: Path{Prefix: "/a/b/"}, Headers: []Field{{Name: "x", Value: "1"}}},
		{Service: "s", Path: Path{Prefix: "/a/b"}},
		{Service: "s", Path: Path{Prefix: "/a"}, Method: "GET"},
		{Service: "s", Path: Path{Prefix: "/a"}},
		{Service: "s", Path: Path{Prefix: "/"}, Headers: []Field{{Name: "x", Value: "1"}}},
		{Service: "s", Path: Path{Prefix: "/"}},
		{Service: "s", Method: "GET", Headers: []Field{{Name: "x", Value: "1"}}},
		{Service: "s", Method: "GET"},
		{Service: "s", Headers: []Field{{Name: "x", Present: true}, {Name: "y", Present: true}}},
		{Service: "s", Headers: []Field{{Name: "x", Value: "1"}}},
		{Service: "s"},
		{Path: Path{Exact: "/a/b"}, Method: "GET"},
		{Path: Path{Exact: "/a/b"}},
		{Path: Path{Prefix: "/a"}},
		{Method: "GET"},
		{Headers: []Field{{Name: "y", Value: "2"}}},
		{},
	}
	r := &Request{Service: "s", Method: "GET", Path: "/a/b", Header: http.Header{"X": {"1"}, "Y": {"2"}}}
	random := rand.New(rand.NewPCG(1, 2))
	for from := range order {
		rules := make([]Rule, 0, len(order)-from)
		for rank := from; rank < len(order); rank++ {
			rules = append(rules, Rule{Name: fmt.Sprint(rank), Match: order[rank]})
		}
		random.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		table := mustCompile(t, rules...)
		i := table.Route(r, 0).Rule
		if i < 0 {
			t.Fatalf("Route() = no rule, want %d", from)
		}
		if got, want := table.Rule(i).Name, fmt.Sprint(from); got != want {
			t.Errorf("Route() = rule %s, want %s", got, want)
		}
	}
}

func TestRouteTakesTheEarlierRuleOfEquals(t *testing.T) {
	for _, m := range []Match{{}, {Path: Path{Exact: "/a"}}, {Path: Path{Prefix: "/"}}, {Method: "GET"}} {
		table := mustCompile(t, Rule{Match: Match{Service: "other"}}, Rule{Match: m}, Rule{Match: m}, Rule{Match: m})
		if got := table.Route(&Request{Service: "s", Method: "GET", Path: "/a"}, 0).Rule; got != 1 {
			t.Errorf("Route() with three rules for %+v = %d, want 1", m, got)
		}
	}
	table := mustCompile(t, Rule{Match: Match{Method: "PUT"}}, Rule{Match: Match{Method: "GET"}}, Rule{Match: Match{Method: "GET"}})
	if got := table.Route(&Request{Method: "GET"}, 0).Rule; got != 1 {
		t.Errorf("Route() = %d, want 1", got)
	}
}

func TestRouteSendsAmbiguousPathsToRulesWithoutPath(t *testing.T) {
	table := mustCompile(t,
		Rule{Match: Match{Service: "s", Path: Path{Prefix: "/"}}},
		Rule{Match: Match{Service: "s", Method: "PUT"}},
		Rule{Match: Match{Path: Path{Prefix: "/admin"}}},
		Rule{},
	)
	for _, path := range []string{"/public/../admin", "//admin", "/./admin", "/%2e%2e/admin", "/public%2f..%2fadmin", "/admin;x", "\\admin", "/%252e"} {
		if got := table.Route(&Request{Service: "s", Path: path}, 0).Rule; got != 3 {
			t.Errorf("Route(%s) = %d, want 3", path, got)
		}
		if got := table.Route(&Request{Service: "s", Method: "PUT", Path: path}, 0).Rule; got != 1 {
			t.Errorf("Route(PUT %s) = %d, want 1", path, got)
		}
	}
}

func TestRouteWithoutRules(t *testing.T) {
	for _, table := range []*Table{nil, mustCompile(t)} {
		if got := table.Route(&Request{Service: "s", Path: "/"}, 7); got != none {
			t.Errorf("Route() = %v, want %v", got, none)
		}
		if got := table.Services(); len(got) != 0 {
			t.Errorf("Services() = %v, want none", got)
		}
		if got, want := table.Reachable("s"), []string{"s"}; !slices.Equal(got, want) {
			t.Errorf("Reachable() = %v, want %v", got, want)
		}
	}
}

func TestRouteWithoutBackendsStaysWithTheService(t *testing.T) {
	table := mustCompile(t, Rule{Policy: "slow"})
	if got, want := table.Route(&Request{Service: "s"}, 1<<64-1), (Decision{0, 0, -1}); got != want {
		t.Errorf("Route() = %v, want %v", got, want)
	}
}

func TestRouteSplitsByWeight(t *testing.T) {
	const draws = 1_000_000
	tests := [][]uint32{{95, 5}, {0, 999_999, 1_000_000, 0, 3}}
	for _, weights := range tests {
		t.Run(fmt.Sprintf("%.40v", weights), func(t *testing.T) {
			var sum float64
			backends := make([]Backend, len(weights))
			for i, w := range weights {
				backends[i] = Backend{Service: "b", Weight: w}
				sum += float64(w)
			}
			table := mustCompile(t, Rule{Backends: backends})
			counts := make([]int, len(weights))
			random := rand.NewPCG(3, 4)
			r := new(Request)
			for range draws {
				backend := table.Route(r, random.Uint64()).Backend
				counts[backend]++
			}
			for i, w := range weights {
				want := float64(w) / sum
				if got := float64(counts[i]) / draws; math.Abs(got-want) > 0.005 || w == 0 && got > 0 {
					t.Errorf("share of backend %d = %.4f, want %.4f", i, got, want)
				}
			}
		})
	}
}

func TestRouteSplitsAtTheExactWord(t *testing.T) {
	table := mustCompile(t, Rule{Backends: []Backend{{Service: "none", Weight: 0}, {Service: "a", Weight: 1}, {Service: "none", Weight: 0}, {Service: "b", Weight: 3}, {Service: "none", Weight: 0}}})
	for random, want := range map[uint64]int{0: 1, 1<<62 - 1: 1, 1 << 62: 3, 1<<64 - 1: 3} {
		if got := table.Route(&Request{}, random).Backend; got != want {
			t.Errorf("Route(%#x) = backend %d, want %d", random, got, want)
		}
	}
}

func TestRouteGivesASingleBackendAllCalls(t *testing.T) {
	for _, weight := range []uint32{0, 1, 7} {
		table := mustCompile(t, Rule{Backends: []Backend{{Service: "only", Weight: weight}}})
		for _, random := range []uint64{0, 1 << 63, 1<<64 - 1} {
			if got := table.Route(&Request{}, random).Backend; got != 0 {
				t.Errorf("Route(%#x) with weight %d = backend %d, want 0", random, weight, got)
			}
		}
	}
}

func TestServicesAndReachable(t *testing.T) {
	table := mustCompile(t,
		Rule{Match: Match{Service: "orders", Path: Path{Prefix: "/v2"}}, Backends: []Backend{{Service: "orders-next", Weight: 1}, {Service: "orders-off", Weight: 0}}},
		Rule{Match: Match{Service: "virtual"}, Backends: []Backend{{Service: "real", Weight: 0}}},
		Rule{Match: Match{Service: "virtual"}, Backends: []Backend{{Service: "shadowed", Weight: 1}}},
		Rule{Match: Match{Service: "virtual", Method: "PUT"}, Backends: []Backend{{Service: "writer", Weight: 1}}},
		Rule{Match: Match{Service: "pinned"}},
		Rule{Match: Match{Headers: []Field{{Name: "x-test", Present: true}}}, Backends: []Backend{{Service: "test", Weight: 1}}},
	)
	want := []string{"orders", "orders-next", "orders-off", "pinned", "real", "shadowed", "test", "virtual", "writer"}
	if diff := cmp.Diff(want, table.Services()); diff != "" {
		t.Errorf("Services() (-want +got):\n%s", diff)
	}
	for service, want := range map[string][]string{
		"orders":  {"orders", "orders-next", "test"},
		"virtual": {"real", "writer"},
		"pinned":  {"pinned"},
		"other":   {"other", "test"},
	} {
		if diff := cmp.Diff(want, table.Reachable(service)); diff != "" {
			t.Errorf("Reachable(%s) (-want +got):\n%s", service, diff)
		}
	}
}

package routing

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// literalRules is n rules for ten services with every kind of literal condition; none of them fits service-x.
func literalRules(n int) []Rule {
	rules := make([]Rule, n)
	for i := range rules {
		m := Match{Service: fmt.Sprintf("service-%d", i%10), Method: "GET", Path: Path{Prefix: fmt.Sprintf("/api/v%d", i)}}
		switch i % 10 {
		case 1:
			m.Path = Path{Exact: fmt.Sprintf("/pkg.Service/Method%d", i)}
		case 2:
			m = Match{Service: m.Service, Headers: []Field{{Name: "x-tenant", Value: fmt.Sprint(i)}}}
		case 3:
			m.Service = ""
		case 4:
			m = Match{Service: m.Service, Query: []Field{{Name: "tenant", Value: fmt.Sprint(i)}}}
		case 5:
			m = Match{Service: m.Service, Cookies: []Field{{Name: "tenant", Value: fmt.Sprint(i)}}}
		case 6:
			m = Match{Service: m.Service, RPC: RPC{Service: "pkg.Service", Method: fmt.Sprintf("Method%d", i)}}
		case 7:
			m = Match{Service: m.Service, Path: m.Path, Lane: "red"}
		case 8:
			m = Match{Service: fmt.Sprintf("*.d%d.example.com", i), Path: m.Path, Before: time.Unix(1<<40, 0)}
		}
		rules[i] = Rule{Match: m, Backends: []Backend{{Service: "a", Weight: 90}, {Service: "b", Weight: 10}}, Split: Split{Key: []Key{{Header: "x-user"}}}}
	}
	return rules
}

// literalRequests have one request for each kind of rule in literalRules(n), and some that none fits.
func literalRequests(n int) map[string]Request {
	last := n - 10
	header := http.Header{"X-Tenant": {fmt.Sprint(last + 2)}, "Cookie": {fmt.Sprintf("session=0123456789abcdef; tenant=%d", last+5)}, "X-User": {"0123456789abcdef"}}
	return map[string]Request{
		"prefix":   {Service: "service-0", Path: fmt.Sprintf("/api/v%d/items/42", last), Header: header},
		"encoded":  {Service: "service-0", Path: fmt.Sprintf("/api/v%d/items/%%C3%%A9", last), Header: header},
		"exact":    {Service: "service-1", Path: fmt.Sprintf("/pkg.Service/Method%d", last+1), Header: header},
		"header":   {Service: "service-2", Path: "/x", Header: header},
		"any":      {Service: "other", Path: fmt.Sprintf("/api/v%d/items", last+3), Header: header},
		"query":    {Service: "service-4", Path: "/x", Header: header, Query: fmt.Sprintf("page=7&tenant=%d&sort=name", last+4)},
		"escaped":  {Service: "service-4", Path: "/x", Header: header, Query: fmt.Sprintf("page=7&tenant=%%3%d%d&sort=na+me", (last+4)/100, (last+4)%100)},
		"cookie":   {Service: "service-5", Path: "/x", Header: header},
		"rpc":      {Service: "service-6", Path: fmt.Sprintf("/pkg.Service/Method%d", last+6), Header: header},
		"lane":     {Service: "service-7", Path: fmt.Sprintf("/api/v%d/items", last+7), Header: header, Lane: "red"},
		"wildcard": {Service: fmt.Sprintf("a.b.d%d.example.com", last+8), Path: fmt.Sprintf("/api/v%d/items", last+8), Header: header},
		"none":     {Service: "service-x", Path: "/v1/items/42", Header: header},
		"deep":     {Service: "service-0", Path: strings.Repeat("/segment", 200), Header: header},
		"odd":      {Service: "service-0", Path: "/a/../b", Header: header},
	}
}

// crowdedRules is n rules for one service and path, told apart by a header, a parameter or a cookie.
func crowdedRules(n int, part string) []Rule {
	rules := make([]Rule, n)
	for i := range rules {
		fields := []Field{{Name: "x-tenant", Value: fmt.Sprint(i)}}
		switch part {
		case "header":
			rules[i].Match.Headers = fields
		case "query":
			rules[i].Match.Query = fields
		case "cookie":
			rules[i].Match.Cookies = fields
		case "names": // which no look-up helps against
			rules[i].Match.Headers = []Field{{Name: fmt.Sprintf("x-%d", i), Present: true}}
		}
		rules[i].Match.Path.Exact = "/x"
	}
	return rules
}

func crowdedRequest(n int) Request {
	v := fmt.Sprint(n - 1)
	return Request{Path: "/x", Header: http.Header{"X-Tenant": {v}, "Cookie": {"x-tenant=" + v}, "X-" + v: {"1"}}, Query: "x-tenant=" + v}
}

func TestRouteDoesNotAllocate(t *testing.T) {
	table := mustCompile(t, literalRules(1000)...)
	check := func(name string, table *Table, r Request) {
		header := r.Header
		if got := testing.AllocsPerRun(100, func() {
			r.Header = header
			table.Route(&r, 1<<63)
		}); got != 0 {
			t.Errorf("%s: Route() allocates %v times, want 0", name, got)
		}
	}
	for name, r := range literalRequests(1000) {
		if d := table.Route(&r, 0); (d.Rule < 990) != (name == "none" || name == "deep" || name == "odd") {
			t.Errorf("%s: Route() = %v", name, d)
		}
		check(name, table, r)
	}
	for _, part := range []string{"header", "query", "cookie", "names"} {
		table := mustCompile(t, crowdedRules(100, part)...)
		r := crowdedRequest(100)
		if got := table.Route(&r, 0).Rule; got != 99 {
			t.Errorf("%s: Route() = rule %d, want 99", part, got)
		}
		check(part, table, r)
	}
	regexes := mustCompile(t, Rule{Match: Match{Path: Path{Regex: `/caf[é](/.*)?`}, Query: []Field{{Name: "q", Regex: "[a é]+"}}}})
	for _, path := range []string{"/café", "/caf%C3%A9/x"} {
		r := Request{Path: path, Query: "q=%61+%c3%a9"}
		if got := regexes.Route(&r, 0).Rule; got != 0 {
			t.Errorf("Route(%s) = rule %d, want 0", path, got)
		}
		check(path, regexes, r)
	}
}

func BenchmarkRoute(b *testing.B) {
	table := mustCompile(b, literalRules(1000)...)
	for name, r := range literalRequests(1000) {
		b.Run("rules=1000/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table.Route(&r, 1<<63)
			}
		})
	}
	one := mustCompile(b, Rule{Match: Match{Service: "orders", Path: Path{Prefix: "/v1"}}})
	b.Run("rules=1/prefix", func(b *testing.B) {
		for r := (Request{Service: "orders", Path: "/v1/items/42"}); b.Loop(); {
			one.Route(&r, 1<<63)
		}
	})
	for _, part := range []string{"header", "query", "cookie", "names"} {
		table, r := mustCompile(b, crowdedRules(1000, part)...), crowdedRequest(1000)
		b.Run("rules=1000/crowd/"+part, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table.Route(&r, 1<<63)
			}
		})
	}
}

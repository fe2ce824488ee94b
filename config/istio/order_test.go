package istio

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/zerohop/zerohop/routing"
)

// TestTheFirstRouteThatFitsIsTaken compares tables with what Istio does: it asks one route after the other.
func TestTheFirstRouteThatFitsIsTaken(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	one := func(of ...string) string { return of[r.IntN(len(of))] }
	match := func() routing.Match {
		m := routing.Match{Service: one("", "a.b", "*.b"), Method: one("", "", "GET", "POST")}
		switch r.IntN(4) {
		case 0:
			m.Path.Exact = one("/x", "/x/y", "/z")
		case 1:
			m.Path.Prefix = one("/x", "/x/y", "/z")
		case 2:
			m.Path.Regex = one("/x.*", "/[xz]", "/x/[a-z]+", ".*y")
		}
		for _, name := range []string{"A", "B"} {
			switch r.IntN(4) {
			case 0:
				m.Headers = append(m.Headers, routing.Field{Name: name, Value: one("1", "2")})
			case 1:
				m.Headers = append(m.Headers, routing.Field{Name: name, Present: true, Not: r.IntN(2) == 0})
			}
		}
		if r.IntN(3) == 0 {
			m.Query = []routing.Field{{Name: "q", Value: one("1", "2")}}
		}
		return m
	}
	added := 0
	for n := range 400 {
		var lists [][]routing.Match
		var rules []routing.Rule
		for range 1 + r.IntN(5) {
			lists = append(lists, []routing.Match{match(), match()}[:1+r.IntN(2)])
		}
		naive := make([]*routing.Table, len(lists)) // a table of one rule each
		for i := range lists {
			rule := routing.Rule{Match: lists[i][0], Or: lists[i][1:]}
			table, err := routing.Compile([]routing.Rule{rule})
			if err != nil {
				t.Fatal(err)
			}
			naive[i] = table
			added -= len(lists[i])
		}
		if !firstWins(lists) {
			t.Fatal("too many matches")
		}
		for i := range lists {
			added += len(lists[i])
			for from := 0; from < len(lists[i]); from += 64 {
				part := lists[i][from:min(from+64, len(lists[i]))]
				rules = append(rules, routing.Rule{Match: part[0], Or: part[1:], Policy: fmt.Sprint(i)})
			}
		}
		table, err := routing.Compile(rules)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			h := http.Header{}
			for _, name := range []string{"A", "B"} {
				if v := one("", "1", "2"); v != "" {
					h.Set(name, v)
				}
			}
			q := routing.Request{
				Service: one("a.b", "c.b", "c"), Method: one("GET", "POST", "PUT"), Path: one("/x", "/x/", "/x/y", "/x/y/z", "/z", "/xy", "/"),
				Header: h, Query: one("", "q=1", "q=2"),
			}
			want := "-1"
			for i := range naive {
				if naive[i].Route(&q, 0).Rule >= 0 {
					want = fmt.Sprint(i)
					break
				}
			}
			got := "-1"
			if d := table.Route(&q, 0); d.Rule >= 0 {
				got = rules[d.Rule].Policy
			}
			if got != want {
				t.Fatalf("list %d: %+v goes to rule %s, want %s of\n%+v", n, q, got, want, rules)
			}
		}
	}
	if added == 0 {
		t.Error("no match was added: the test compares nothing")
	}
}

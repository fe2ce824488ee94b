package routing

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestShadowed(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	half, none, all := 50.0, 0.0, 100.0
	headers := func(fs ...Field) Match { return Match{Headers: fs} }
	tests := []struct {
		name string
		a, b Match // a is the first rule, b the second
		want []Shadow
	}{
		{"catch-all twice", Match{}, Match{}, []Shadow{{1, 0, 0, 0}}},
		{"another service", Match{}, Match{Service: "s"}, nil},
		{"the same path", Match{Path: Path{Prefix: "/v1"}}, Match{Path: Path{Prefix: "/v1/"}}, []Shadow{{1, 0, 0, 0}}},
		{"a narrower path", Match{Path: Path{Prefix: "/v1"}}, Match{Path: Path{Prefix: "/v1/x"}}, nil},
		{"a path of the same length", Match{Path: Path{Exact: "/a"}}, Match{Path: Path{Exact: "/b"}}, nil},
		{"the same expression", Match{Path: Path{Regex: "/a+"}}, Match{Path: Path{Regex: "/a+"}}, []Shadow{{1, 0, 0, 0}}},
		{"an RPC as a path", Match{Path: Path{Exact: "/s/m"}}, Match{RPC: RPC{"s", "m"}}, []Shadow{{1, 0, 0, 0}}},
		{"RPCs of a service before its paths", Match{RPC: RPC{Service: "s"}}, Match{Path: Path{Prefix: "/s"}}, nil},
		{"more conditions first", headers(Field{Name: "a", Value: "1"}), Match{}, nil},
		{"the same header", headers(Field{Name: "a", Value: "1"}), headers(Field{Name: "A", Value: "1"}), []Shadow{{1, 0, 0, 0}}},
		{"a wider header first", headers(Field{Name: "a", Present: true}), headers(Field{Name: "a", Regex: "1+"}), []Shadow{{1, 0, 0, 0}}},
		{"an expression that the value fits", headers(Field{Name: "a", Regex: "1+"}), headers(Field{Name: "a", Value: "11"}), []Shadow{{1, 0, 0, 0}}},
		{"a shorter prefix first", headers(Field{Name: "a", Prefix: "1"}), headers(Field{Name: "a", Prefix: "12"}), []Shadow{{1, 0, 0, 0}}},
		{"a longer prefix first", headers(Field{Name: "a", Prefix: "12"}), headers(Field{Name: "a", Prefix: "1"}), nil},
		{"not another value", headers(Field{Name: "a", Value: "1", Not: true}), headers(Field{Name: "a", Value: "2"}), []Shadow{{1, 0, 0, 0}}},
		{"not the same value", headers(Field{Name: "a", Value: "1", Not: true}), headers(Field{Name: "a", Value: "1"}), nil},
		{"no value", headers(Field{Name: "a", Prefix: "1", Not: true}), headers(Field{Name: "a", Present: true, Not: true}), []Shadow{{1, 0, 0, 0}}},
		{"a header and a cookie", headers(Field{Name: "a", Value: "1"}), Match{Cookies: []Field{{Name: "a", Value: "1"}}}, nil},
		{"a part of the calls", Match{Percent: &half}, Match{Percent: &half}, nil},
		{"all of the calls", Match{Percent: &all}, Match{Percent: &all}, []Shadow{{1, 0, 0, 0}}},
		{"none of the calls", Match{Path: Path{Exact: "/a"}, Percent: &none}, Match{}, []Shadow{{0, 0, -1, -1}}},
		{"contradiction", headers(Field{Name: "a", Value: "1"}, Field{Name: "a", Value: "2"}), Match{}, []Shadow{{0, 0, -1, -1}}},
		{"a longer time first", Match{After: at(1), Before: at(9)}, Match{After: at(2), Before: at(8)}, []Shadow{{1, 0, 0, 0}}},
		{"a shorter time first", Match{After: at(2), Before: at(8)}, Match{After: at(1), Before: at(8)}, nil},
		{"without an end", Match{Before: at(8)}, Match{After: at(2)}, nil},
		{"lanes", Match{Lane: "red"}, Match{Lane: "blue"}, nil},
		{"methods", Match{Method: "GET"}, Match{Method: "GET"}, []Shadow{{1, 0, 0, 0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := mustCompile(t, Rule{Match: tt.a}, Rule{Match: tt.b})
			if diff := cmp.Diff(tt.want, table.Shadowed()); diff != "" {
				t.Errorf("Shadowed() (-want +got):\n%s", diff)
			}
		})
	}
	table := mustCompile(t, Rule{Match: Match{Service: "a"}, Or: []Match{{Service: "b"}, {Service: "a", Lane: "x"}, {Service: "a"}}}, Rule{Match: Match{Service: "b"}})
	if diff := cmp.Diff([]Shadow{{0, 3, 0, 0}, {1, 0, 0, 1}}, table.Shadowed()); diff != "" {
		t.Errorf("Shadowed() (-want +got):\n%s", diff)
	}
}

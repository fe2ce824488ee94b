package routing

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// hostilePatterns take a long time to match or to compile.
var hostilePatterns = []string{
	`(x+x+)+y`, `(x?){300}x{20}`, `.*x.{9}`, `.*x.{20}`, `(a|aa|x)*y`, `(\w*x){40}y`, `\b(x?){300}y`, `(.*)(.*)(.*)(.*)(.*)[^x]`, `(x{1,30}){1,30}`, `(?i)(\pL*x\pN?){60}`,
}

// hostileTables are as bad as the limits allow, with a call for each.
func hostileTables(tb testing.TB) map[string]*Table {
	tables := map[string]*Table{}
	for _, text := range hostilePatterns {
		var rules []Rule
		for n := 1; n <= maxRegexes; n *= 2 { // as many of them as are allowed
			list := make([]Rule, n)
			for i := range list {
				list[i].Match.Path.Regex = fmt.Sprintf("/.{%d}(?:%s)", i%4, text)
			}
			if _, err := Compile(list); err != nil {
				break
			}
			rules = list
		}
		if rules != nil {
			tables[fmt.Sprintf("%d of %s", len(rules), text)] = mustCompile(tb, rules...)
		}
	}
	return tables
}

// tediousRules are as many conditions as are allowed on what has to be looked for from the beginning, or has long names.
func tediousRules(part string) []Rule {
	rules := make([]Rule, 250)
	none := 0.0
	for i := range rules {
		r := &rules[i]
		for j := range 4 {
			fields := []Field{{Name: fmt.Sprintf("n%d-%d", i, j), Present: true, Not: true}}
			switch part {
			case "query":
				r.Match.Query = append(r.Match.Query, fields...)
			case "cookies":
				r.Match.Cookies = append(r.Match.Cookies, fields...)
			case "keys":
				r.Split.Key = append(r.Split.Key, Key{Query: fields[0].Name})
				r.Match.Percent = &none
			case "headers":
				for k := range 8 {
					fields[0].Name = fmt.Sprintf("%s-%d-%s", fields[0].Name, k, strings.Repeat("x", 230))
					r.Match.Headers = append(r.Match.Headers, fields...)
					fields[0].Name = fmt.Sprintf("n%d-%d", i, j)
				}
			}
		}
		if part != "keys" {
			r.Match.Percent = &none
		}
	}
	return rules
}

// tediousRequests are as long as is looked at.
func tediousRequests() []Request {
	var list []Request
	for _, pair := range []string{"n", "n1-11111=", "%6E00001=", "n=" + strings.Repeat("%61", 20)} {
		pair += strings.Repeat("x", 30)
		list = append(list, Request{
			Query:  strings.Repeat(pair+"&", maxPairs-1),
			Header: http.Header{"Cookie": {strings.Repeat(pair+"; ", maxPairs-1)}},
		})
		list = append(list, Request{Query: strings.Repeat(pair+"&", 10_000), Header: http.Header{"Cookie": {strings.Repeat("a=;", 30_000)}}})
	}
	return list
}

func TestNoConditionsStallACall(t *testing.T) {
	for _, part := range []string{"query", "cookies", "keys", "headers"} {
		table := mustCompile(t, tediousRules(part)...)
		for i, r := range tediousRequests() {
			if took := quickest(table, &r); took > stall {
				t.Errorf("%s: Route(request %d) takes %v, want at most %v", part, i, took, stall)
			}
		}
	}
}

// stall is what no call may take to be routed, however hostile it is. It takes 10 ms at worst, see BenchmarkRouteHostile, and
// tests run under the race detector on machines that do something else. What backtracks takes hours.
const stall = 2 * time.Second

// quickest returns how long it takes to route a call, the first time of several that it is no stall: other processes may
// hold one up.
func quickest(table *Table, r *Request) (took time.Duration) {
	for range 5 {
		start := time.Now()
		table.Route(r, 0)
		if took = time.Since(start); took <= stall {
			break
		}
	}
	return took
}

func TestTooMuchToLookForIsRefused(t *testing.T) {
	one := tediousRules("keys")[0]
	for part, r := range map[string]Rule{
		"query":   {Match: Match{Query: []Field{{Name: "x", Present: true}}}},
		"cookies": {Match: Match{Cookies: []Field{{Name: "x", Present: true}}}},
		"keys":    one,
	} {
		rules := tediousRules(part)
		if _, err := Compile(rules); err != nil {
			t.Errorf("%s: Compile() error = %v", part, err)
		}
		_, err := Compile(append(rules, r))
		if err == nil || !strings.Contains(err.Error(), "conditions on query and cookies in all, at most 1000 are allowed") {
			t.Errorf("%s: Compile() of one more: error = %v", part, err)
		}
	}
}

// More than is looked at meets neither a condition nor its contrary.
func TestTooMuchMeetsNoCondition(t *testing.T) {
	for _, not := range []bool{false, true} {
		fields := []Field{{Name: "a", Present: true, Not: not}}
		table := mustCompile(t, Rule{Match: Match{Query: fields}}, Rule{Match: Match{Cookies: fields}})
		name := map[bool]string{false: "a", true: "b"}[not]
		for n, want := range map[int]int{maxPairs: 0, maxPairs + 1: -1} {
			query := strings.Repeat(name+"=1&", n-1) + name + "=1"
			if got := table.Route(&Request{Query: query, Header: http.Header{"Cookie": {strings.Repeat("a=1;", 200)}}}, 0).Rule; got != want {
				t.Errorf("not %v: Route(%d parameters) = rule %d, want %d", not, n, got, want)
			}
			want = min(want+1, 1)
			if want == 0 {
				want = -1
			}
			header := http.Header{"Cookie": {strings.ReplaceAll(query, "&", ";")}}
			if got := table.Route(&Request{Query: "a;b", Header: header}, 0).Rule; got != want {
				t.Errorf("not %v: Route(%d cookies) = rule %d, want %d", not, n, got, want)
			}
		}
	}
}

func hostileRequest() Request {
	x := strings.Repeat("x", maxSubject-1)
	return Request{Path: "/" + x, Query: "q=" + x, Header: http.Header{"X": {x}}}
}

func TestNoExpressionStallsACall(t *testing.T) {
	tables := hostileTables(t)
	if len(tables) < len(hostilePatterns)/2 {
		t.Fatalf("%d tables are within the limits, want more to try", len(tables))
	}
	r := hostileRequest()
	for name, table := range tables {
		if took := quickest(table, &r); took > stall {
			t.Errorf("%s: Route() takes %v, want at most %v", name, took, stall)
		}
	}
}

func TestHostileExpressionsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		`(a{1,1000}){1,1000}`:                       "invalid repeat count",
		`(?:` + strings.Repeat("a", 500) + `){900}`: "becomes more than 4000 instructions, at most 1000 are allowed",
		`(a{1,1000})b`:                              "becomes",
		strings.Repeat("a", 1025):                   "1025 bytes, at most 1024 are allowed",
		`(`:                                         "missing closing )",
		`(?=a)`:                                     "invalid or unsupported Perl syntax",
	} {
		_, err := Compile([]Rule{{Match: Match{Path: Path{Regex: text}}}})
		if err == nil || !strings.HasPrefix(err.Error(), "routes[0].match.path.regex: "+want) {
			t.Errorf("%.40s: Compile() error = %v, want %s", text, err, want)
		}
	}
	slow := make([]Rule, 3)
	for i := range slow {
		slow[i].Match.Headers = []Field{{Name: "a", Regex: `\b(a?){200}`}}
	}
	if _, err := Compile(slow); err == nil || !strings.Contains(err.Error(), "that are slow to match") {
		t.Errorf("Compile() error = %v, want that they are slow", err)
	}
	if _, err := Compile(slow[:1]); err != nil {
		t.Errorf("Compile(one of them) error = %v", err)
	}
}

// The longest expressions that are allowed, a tenth as many as there may be, each of them other than the rest.
func TestTablesCompileInBoundedTime(t *testing.T) {
	for _, part := range []string{`(x?y?[a-z]{9}){6}(\pL|z){9}.*[^/]`, strings.Repeat(`\pL`, 18), strings.Repeat(`[^\pL]\PN(?i:\pM)`, 3)} {
		rules := make([]Rule, maxRegexes/10)
		for i := range rules {
			rules[i].Match.Path.Regex = fmt.Sprintf("/%d%s", i, part)
		}
		start := time.Now()
		_, err := Compile(rules)
		t.Logf("%v, %v", time.Since(start), err)
		if took, limit := time.Since(start), 20*time.Second; took > limit { // 1 s, and the race detector on a busy machine
			t.Errorf("Compile() takes %v, want at most %v", took, limit)
		}
	}
}

func BenchmarkRouteHostile(b *testing.B) {
	for name, table := range hostileTables(b) {
		b.Run(strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
			for r := hostileRequest(); b.Loop(); {
				table.Route(&r, 0)
			}
		})
	}
}

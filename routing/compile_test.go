package routing

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestCompileNamesEveryMistake(t *testing.T) {
	const notPlain = ` must not hold an empty, "." or ".." segment, any of ; \ ? # % or a control character`
	header := func(hs ...Field) Rule { return Rule{Match: Match{Headers: hs}} }
	path := func(exact, prefix string) Rule { return Rule{Match: Match{Path: Path{Exact: exact, Prefix: prefix}}} }
	tests := []struct {
		name string
		rule Rule
		want string // without the leading "routes[0]."; empty: accepted
	}{
		{"zero rule", Rule{}, ""},
		{"longest name", Rule{Name: strings.Repeat("n", 253)}, ""},
		{"name too long", Rule{Name: strings.Repeat("n", 254)}, `name: 254 bytes, at most 253 are allowed`},
		{"space in policy", Rule{Policy: "a b"}, `policy: "a b" must be printable ASCII without spaces`},
		{"line break in service", Rule{Match: Match{Service: "a\n"}}, `match.service: "a\n" must be printable ASCII without spaces`},
		{"invalid UTF-8 in service", Rule{Match: Match{Service: "\xff"}}, `match.service: "\xff" must be printable ASCII without spaces`},
		{"method", Rule{Match: Match{Method: "M-SEARCH"}}, ""},
		{"method in lower case", Rule{Match: Match{Method: "get"}}, `match.method: "get" must be in upper case`},
		{"method not a token", Rule{Match: Match{Method: "GET /"}}, `match.method: "GET /" is not a valid token`},
		{"method too long", Rule{Match: Match{Method: strings.Repeat("M", 254)}}, `match.method: 254 bytes, at most 253 are allowed`},
		{"exact and prefix", path("/a", "/b"), `match.path: exact, prefix and regex exclude each other`},
		{"relative prefix", path("", "v1"), `match.path.prefix: must start with "/"`},
		{"relative exact", path("pkg.Service/Method", ""), `match.path.exact: must start with "/"`},
		{"longest path", path("/"+strings.Repeat("p", 1023), ""), ""},
		{"path too long", path("/"+strings.Repeat("p", 1024), ""), `match.path.exact: 1025 bytes, at most 1024 are allowed`},
		{"root", path("", "/"), ""},
		{"path with space and accent", path("/a b/café", ""), ""},
		{"encoded path", path("/a%20b", ""), `match.path.exact: "/a%20b"` + notPlain},
		{"empty segment", path("", "/a//b"), `match.path.prefix: "/a//b"` + notPlain},
		{"dot segment", path("", "/a/.."), `match.path.prefix: "/a/.."` + notPlain},
		{"query", path("/a?b", ""), `match.path.exact: "/a?b"` + notPlain},
		{"header present", header(Field{Name: "x-a", Present: true}), ""},
		{"header without name", header(Field{Value: "v"}), `match.headers[0].name: must not be empty`},
		{"pseudo-header", header(Field{Name: ":path", Value: "/"}), `match.headers[0].name: ":path" is not a valid token`},
		{"header not a token", header(Field{Name: "a b", Value: "v"}), `match.headers[0].name: "a b" is not a valid token`},
		{"hop-by-hop header", header(Field{Name: "transfer-ENCODING", Value: "v"}),
			`match.headers[0].name: "transfer-ENCODING" is not a header that a call can be routed by`},
		{"host header", header(Field{Name: "host", Value: "v"}),
			`match.headers[0].name: "host" is not a header that a call can be routed by`},
		{"header twice", header(Field{Name: "x-a", Value: "v"}, Field{Name: "X-A", Value: "w"}), ""},
		{"header without condition", header(Field{Name: "x-a"}), `match.headers[0]: needs a value, prefix, regex or present`},
		{"header with two conditions", header(Field{Name: "x-a", Value: "v", Present: true}),
			`match.headers[0]: value, prefix, regex and present exclude each other`},
		{"header value with line break", header(Field{Name: "x-a", Value: "v\r\nx: y"}),
			`match.headers[0].value: must not hold control characters`},
		{"header value too long", header(Field{Name: "x-a", Value: strings.Repeat("v", 1025)}),
			`match.headers[0].value: 1025 bytes, at most 1024 are allowed`},
		{"too many headers", header(make([]Field, 65)...), `match.headers: 65 headers, at most 64 are allowed`},
		{"too many backends", Rule{Backends: make([]Backend, 65)}, `backends: 65 backends, at most 64 are allowed`},
		{"backend without service", Rule{Backends: []Backend{{}}}, `backends[0].service: must not be empty`},
		{"backend name too long", Rule{Backends: []Backend{{Service: strings.Repeat("b", 254)}}},
			`backends[0].service: 254 bytes, at most 253 are allowed`},
		{"heaviest weight", Rule{Backends: []Backend{{Service: "a", Weight: 1_000_000}}}, ""},
		{"weight too large", Rule{Backends: []Backend{{Service: "a", Weight: 1}, {Service: "b", Weight: 1_000_001}}},
			`backends[1].weight: 1000001, at most 1000000 is allowed`},
		{"no weight for several", Rule{Backends: []Backend{{Service: "a", Weight: 0}, {Service: "b", Weight: 0}}}, `backends: every weight is 0`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table, err := Compile([]Rule{tt.rule})
			if (table == nil) != (err != nil) {
				t.Errorf("Compile() = %v, %v, want exactly one of them", table, err)
			}
			got := ""
			if err != nil {
				got = strings.TrimPrefix(err.Error(), "routes[0].")
			}
			if got != tt.want {
				t.Errorf("Compile() error = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestCompileReportsAllMistakes(t *testing.T) {
	_, err := Compile([]Rule{
		{Name: "same", Match: Match{Method: "get", Path: Path{Exact: "x", Prefix: "/a/../b"}}},
		{},
		{Name: "same", Backends: []Backend{{Service: "", Weight: 2_000_000}}},
		{},
	})
	if err == nil {
		t.Fatal("Compile() error = nil")
	}
	var got []string
	for line := range strings.Lines(err.Error()) {
		field, _, _ := strings.Cut(line, ": ")
		got = append(got, field)
	}
	want := []string{
		"routes[0].match.method", "routes[0].match.path", "routes[0].match.path.exact", "routes[0].match.path.prefix",
		"routes[2].backends[0].service", "routes[2].backends[0].weight", "routes[2].name",
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestCompileBoundsTheList(t *testing.T) {
	if _, err := Compile(make([]Rule, 1000)); err != nil {
		t.Errorf("Compile(1,000 rules) error = %v", err)
	}
	_, err := Compile(make([]Rule, 1001))
	if got, want := fmt.Sprint(err), "routes: 1001 rules, at most 1000 are allowed"; got != want {
		t.Errorf("Compile(1,001 rules) error = %s, want %s", got, want)
	}
}

func TestCompileCopiesTheRules(t *testing.T) {
	rules := []Rule{{
		Match:    Match{Headers: []Field{{Name: "x-tenant", Value: "a"}}},
		Backends: []Backend{{Service: "old", Weight: 1}},
	}}
	table, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	rules[0].Match.Headers[0].Value = "b"
	rules[0].Backends[0].Service = "new"
	want := Rule{Match: Match{Headers: []Field{{Name: "x-tenant", Value: "a"}}}, Backends: []Backend{{Service: "old", Weight: 1}}}
	if diff := gocmp.Diff(want, table.Rule(0)); diff != "" {
		t.Errorf("Rule(0) (-want +got):\n%s", diff)
	}
	if got := table.Route(&Request{Header: http.Header{"X-Tenant": {"a"}}}, 0).Rule; got != 0 {
		t.Errorf("Route() = %d, want 0", got)
	}
}

func TestRuleRoundTripsThroughJSON(t *testing.T) {
	for _, text := range []string{
		`{}`,
		`{"name":"n","match":{"service":"s","method":"GET","path":{"prefix":"/p"},` +
			`"headers":[{"name":"a","value":"v"},{"name":"b","present":true}]},` +
			`"backends":[{"service":"x","weight":3},{"service":"y"}],"policy":"p"}`,
		`{"match":{"path":{"exact":"/e"}}}`,
	} {
		var r Rule
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(r)
		if err != nil || string(got) != text {
			t.Errorf("Marshal() = %s, %v, want %s", got, err, text)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(`[{"name":"n","match":{"service":"s","method":"GET","path":{"prefix":"/p"},"headers":[{"name":"a","value":"v"}]},"backends":[{"service":"x","weight":3}]}]`)
	f.Add(`[{"match":{"path":{"exact":"/%2e%2e"}}},{"match":{"headers":[{"name":":path","present":true}]}}]`)
	f.Add(`[{"backends":[{"service":"x"},{"service":"y"}]},{},{"name":"\u0000"}]`)
	f.Fuzz(func(t *testing.T, text string) {
		var rules []Rule
		if json.Unmarshal([]byte(text), &rules) != nil {
			return
		}
		table, err := Compile(rules)
		if (table == nil) != (err != nil) {
			t.Fatalf("Compile() = %v, %v, want exactly one of them", table, err)
		}
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "routes") {
					t.Errorf("error line %q does not begin with the path of a field", line)
				}
			}
			return
		}
		for i, r := range rules {
			if r.Match.Path.Exact == "" || r.Match.Service == "" {
				continue
			}
			header := make(http.Header)
			for _, h := range r.Match.Headers {
				header.Set(h.Name, cmp.Or(h.Value, "any"))
			}
			got := table.Route(&Request{Service: r.Match.Service, Method: r.Match.Method, Path: r.Match.Path.Exact, Header: header}, 0).Rule
			if got < 0 {
				t.Errorf("Route() = no rule for the request that rule %d describes", i)
			}
		}
	})
}

package routing

import (
	"cmp"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// naiveCall is a request as the naive matcher reads it.
type naiveCall struct {
	*Request
	random   uint64
	segments []string // of the decoded path; nil if it is ambiguous
	path     string
	header   http.Header
	query    url.Values // nil if it is ambiguous
}

func (q *naiveCall) value(kind, name string) (v string, known bool) {
	switch kind {
	case "header":
		if vs := q.header[textproto.CanonicalMIMEHeaderKey(name)]; len(vs) > 0 {
			return vs[0], true
		}
	case "query":
		return q.query.Get(name), q.query != nil
	case "cookie":
		if cookies := q.header.Get("Cookie"); len(cookies) > 8192 || strings.Count(cookies, ";") >= 128 {
			return "", false
		}
		for pair := range strings.SplitSeq(q.header.Get("Cookie"), ";") {
			if k, v, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && k == name {
				return strings.Trim(v, `"`), true
			}
		}
	}
	return "", true
}

func (q *naiveCall) field(kind string, f Field) bool {
	v, known := q.value(kind, f.Name)
	if !known || f.Regex != "" && len(v) > 1024 {
		return false
	}
	return f.Not != (v != "" && (f.Present || f.Value == v && v != "" || f.Prefix != "" && strings.HasPrefix(v, f.Prefix) ||
		f.Regex != "" && regexp.MustCompile("^(?:"+f.Regex+")$").MatchString(v)))
}

// naiveRank returns how a match ranks for the call, nil if it does not fit.
func naiveRank(q *naiveCall, r *Rule, rule, match int) []int {
	m := r.match(match)
	suffix, wild := strings.CutPrefix(m.Service, "*")
	served := m.Service == "" || m.Service == q.Service
	if wild {
		served = len(q.Service) > len(suffix) && strings.HasSuffix(q.Service, suffix)
	}
	trimmed := strings.TrimSuffix(m.Path.Prefix, "/")
	isRPC := len(q.segments) == 2 && q.segments[1] != "" && len(q.path) <= 1024
	fits := served &&
		(m.Method == "" || m.Method == cmp.Or(q.Method, "GET")) &&
		(m.Path.Exact == "" || q.segments != nil && m.Path.Exact == q.path) &&
		(m.Path.Prefix == "" || q.segments != nil && strings.HasPrefix(q.path+"/", trimmed+"/")) &&
		(m.Path.Regex == "" || q.segments != nil && len(q.path) <= 1024 && regexp.MustCompile("^(?:"+m.Path.Regex+")$").MatchString(q.path)) &&
		(m.RPC.Service == "" || isRPC && q.segments[0] == m.RPC.Service) &&
		(m.RPC.Method == "" || isRPC && q.segments[1] == m.RPC.Method) &&
		(m.Lane == "" || m.Lane == q.Lane) &&
		(m.After.IsZero() || q.Now.Compare(m.After) >= 0) && (m.Before.IsZero() || q.Now.Compare(m.Before) < 0)
	for kind, fields := range map[string][]Field{"header": m.Headers, "query": m.Query, "cookie": m.Cookies} {
		for _, f := range fields {
			fits = fits && q.field(kind, f)
		}
	}
	if fits && m.Percent != nil && *m.Percent < 100 {
		draw := mix(q.random ^ mix(uint64(rule)<<8|uint64(match)))
		key := ""
		if len(r.Split.Key) > 0 || r.Split.Name != "" {
			key = q.Key
			for _, k := range r.Split.Key {
				for kind, name := range map[string]string{"header": k.Header, "query": k.Query, "cookie": k.Cookie} {
					if v, _ := q.value(kind, name); key == "" && name != "" {
						key = v
					}
				}
			}
		}
		if key != "" {
			draw = mix(hash(hash(0, cmp.Or(r.Split.Name, m.Service)), key) ^ percentID)
		}
		fits = float64(draw) < *m.Percent/100*(1<<64)
	}
	if !fits {
		return nil
	}
	is := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	rank := []int{0, len(m.Service), 0, 0, 0, is(m.Method != ""), len(m.Headers), len(m.Query), len(m.Cookies), is(m.Lane != ""),
		is(!m.After.IsZero() || !m.Before.IsZero()), is(m.Percent != nil && *m.Percent < 100), -rule, -match}
	switch {
	case m.Service == q.Service && m.Service != "":
		rank[0] = 2
	case wild:
		rank[0] = 1
	}
	switch {
	case m.Path.Exact != "", m.RPC.Service != "" && m.RPC.Method != "":
		rank[2] = 4
	case m.Path.Regex != "":
		rank[2], rank[3] = 3, len(m.Path.Regex)
	case m.Path.Prefix != "":
		rank[2], rank[3] = 2, len(trimmed)
	case m.RPC.Service != "":
		rank[2], rank[3], rank[4] = 2, 1+len(m.RPC.Service), 1
	case m.RPC.Method != "":
		rank[2] = 1
	}
	return rank
}

// naiveRoute goes through all matches and keeps the one of highest precedence.
func naiveRoute(rules []Rule, r *Request, header http.Header, random uint64) (rule, match int) {
	q := &naiveCall{Request: r, header: header, random: random}
	if path := cmp.Or(r.Path, "/"); naiveForm(path) != ambiguous {
		q.path, _ = url.PathUnescape(path)
		q.segments = strings.Split(q.path, "/")[1:]
	}
	if values, err := url.ParseQuery(r.Query); err == nil && len(r.Query) <= 8192 && strings.Count(r.Query, "&") < 128 {
		q.query = values
	}
	rule, match = -1, -1
	var best []int
	for i := range rules {
		for j := range rules[i].matches() {
			if rank := naiveRank(q, &rules[i], i, j); rank != nil && (best == nil || slices.Compare(rank, best) > 0) {
				rule, match, best = i, j, rank
			}
		}
	}
	return rule, match
}

var (
	fuzzServices = []string{"s", "t", "a.b.c", "x.b.c", "b.c", ".b.c", "", "s.c"}
	fuzzPaths    = []string{"/a", "/a/b", "/a/b/c/", "/%61/b", "/a/../b", "", "*", "/a%2fb", "/é/a", "/%c3%a9", "/a//b", "/b;/a", "/a/", "/p.S/M", "/p.S/M/x"}
	fuzzQueries  = []string{"", "x=1", "x=2&y=1", "%78=1", "x=%31", "x=1&x=2", "x=a+b", "x=1;y=2", "x=%zz", "y=&x=12", "x", "&&x=1&", "é=1&x=%c3%a9"}
	fuzzValues   = []string{"1", "2", "12", "a b", "", "é"}
)

func fuzzMatch(random *rand.Rand) (m Match) {
	oneOf := func(values ...string) string { return values[random.IntN(len(values))] }
	rarely := func(n int) bool { return random.IntN(n) == 0 }
	m.Service = oneOf("", "", "s", "s", "t", "*.c", "*.b.c", "a.b.c")
	paths := []string{"/", "/a", "/a/", "/a/b", "/a/b/c", "/b", "/é", "/é/a", "/p.S/M", "/p.S"}
	switch random.IntN(8) {
	case 0:
		m.Path.Exact = oneOf(paths...)
	case 1, 2:
		m.Path.Prefix = oneOf(paths...)
	case 3:
		m.Path.Regex = oneOf("/a.*", "/[ab]/?.*", "/é(/a)?", ".*", `/\w+\b.*`, "/p.S/M")
	case 4:
		m.RPC = RPC{oneOf("", "p.S", "a"), oneOf("", "M", "b")}
	}
	if m.RPC == (RPC{}) {
		m.Method = oneOf("", "", "GET", "PUT")
	}
	for _, fields := range []*[]Field{&m.Headers, &m.Query, &m.Cookies} {
		for rarely(3) && len(*fields) < 4 {
			f := Field{Name: oneOf("x", "y"), Not: rarely(3)}
			switch random.IntN(5) {
			case 0:
				f.Present = true
			case 1:
				f.Prefix = oneOf("1", "a ")
			case 2:
				f.Regex = oneOf("[0-9]+", "1?", ".*", `\b12\b`, "é|a.b")
			default:
				f.Value = oneOf("1", "2", "12", "a b", "é")
			}
			*fields = append(*fields, f)
		}
	}
	if rarely(6) {
		m.Lane = oneOf("red", "blue")
	}
	if rarely(8) {
		m.After = time.Unix(int64(random.IntN(3)), 0)
	}
	if rarely(8) {
		m.Before = time.Unix(int64(3+random.IntN(3)), 0)
	}
	if rarely(5) {
		p := []float64{0, 10, 50, 99.9, 100}[random.IntN(5)]
		m.Percent = &p
	}
	return m
}

// checkRoute compares Route and Explain with naiveRoute on rules made from the seed.
func checkRoute(t *testing.T, seed uint64, service, method, path, query, value string) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	oneOf := func(values ...string) string { return values[random.IntN(len(values))] }
	rules := make([]Rule, random.IntN(16))
	if random.IntN(8) == 0 { // more than are looked at one by one
		rules = make([]Rule, 60)
	}
	for i := range rules {
		r := &rules[i]
		r.Match = fuzzMatch(random)
		for random.IntN(4) == 0 {
			r.Or = append(r.Or, fuzzMatch(random))
		}
		if random.IntN(2) == 0 {
			r.Split.Name = oneOf("", "n")
			r.Split.Key = []Key{{Header: "X"}, {Query: "y"}, {Cookie: "x"}}[:random.IntN(4)]
		}
		r.Backends = []Backend{{Service: "a", Weight: 1}, {Service: "b", Weight: random.Uint32N(3)}}
	}
	table, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"X": {value}, "Y": {oneOf("", "1", "2")}, "Cookie": {oneOf("", "x=1", `y=1; x="12"`, "x = 1;x=2;;y", "x=1; y="+strings.Map(noSemicolon, value))}}
	r := &Request{Service: service, Method: method, Path: path, Header: header, Query: query, Key: oneOf("", "", "k"), Lane: oneOf("", "red", "blue"),
		Now: time.Unix(int64(random.IntN(6)), 0)}
	word := random.Uint64()
	got := table.Route(r, word)
	if rule, match := naiveRoute(rules, r, header, word); got.Rule != rule || got.Match != match {
		t.Fatalf("Route(%+v) = %v, want rule %d, match %d; rules %+v", *r, got, rule, match, rules)
	}
	if got.Rule >= 0 && (got.Backend < 0 || rules[got.Rule].Backends[got.Backend].Weight == 0) {
		t.Errorf("Route() = backend %d of %+v", got.Backend, rules[got.Rule].Backends)
	}
	e := table.Explain(r, word)
	if (Decision{e.Rule, e.Match, e.Backend}) != got || slices.ContainsFunc(e.Steps, func(s Step) bool { return s.Why == "" }) {
		t.Errorf("Explain(%+v) = %+v, want that of %v", *r, e, got)
	}
	if matches := len(e.Steps) + min(e.Rule+1, 1); matches != allMatches(rules) {
		t.Errorf("Explain() tells of %d matches, want all", matches)
	}
	for _, shadow := range table.Shadowed() {
		if shadow.Rule == got.Rule && shadow.Match == got.Match {
			t.Errorf("Route(%+v) = %v, which is shadowed: %+v; rules %+v", *r, got, shadow, rules)
		}
	}
	if table.Covers(service) && !slices.ContainsFunc(rules, func(r Rule) bool { return r.Match.Service != "" || len(r.Or) > 0 }) {
		t.Errorf("Covers(%q) = true", service)
	}
}

func allMatches(rules []Rule) (n int) {
	for i := range rules {
		n += rules[i].matches()
	}
	return n
}

func noSemicolon(r rune) rune {
	if r == ';' || r == '"' {
		return '_'
	}
	return r
}

func TestRouteAgreesWithNaiveMatcher(t *testing.T) {
	rounds := uint64(6000)
	if raced {
		rounds /= 10
	}
	for seed := range rounds {
		random := rand.New(rand.NewPCG(seed, 1))
		oneOf := func(values []string) string { return values[random.IntN(len(values))] }
		checkRoute(t, seed, oneOf(fuzzServices), oneOf([]string{"GET", "PUT", ""}), oneOf(fuzzPaths), oneOf(fuzzQueries), oneOf(fuzzValues))
	}
}

func FuzzRoute(f *testing.F) {
	for i, path := range fuzzPaths {
		f.Add(uint64(i), fuzzServices[i%len(fuzzServices)], "GET", path, fuzzQueries[i%len(fuzzQueries)], fuzzValues[i%len(fuzzValues)])
	}
	f.Fuzz(checkRoute)
}

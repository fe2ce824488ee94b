package routing

import (
	"cmp"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// naiveRoute goes through all rules and keeps the one of highest precedence.
func naiveRoute(rules []Rule, r *Request, header http.Header) int {
	path := cmp.Or(r.Path, "/")
	safe := naiveForm(path) != ambiguous
	decoded, _ := url.PathUnescape(path)
	best, bestRank := -1, []int(nil)
	for i := range rules {
		m := &rules[i].Match
		trimmed := strings.TrimSuffix(m.Path.Prefix, "/")
		fits := (m.Service == "" || m.Service == r.Service) &&
			(m.Method == "" || m.Method == cmp.Or(r.Method, "GET")) &&
			(m.Path.Exact == "" || safe && m.Path.Exact == decoded) &&
			(m.Path.Prefix == "" || safe && strings.HasPrefix(decoded+"/", trimmed+"/"))
		for _, h := range m.Headers {
			v := ""
			if vs := header[textproto.CanonicalMIMEHeaderKey(h.Name)]; len(vs) > 0 {
				v = vs[0]
			}
			fits = fits && v != "" && (h.Present || v == h.Value)
		}
		rank := []int{len(m.Service), len(m.Path.Exact), len(trimmed), len(m.Path.Prefix), len(m.Method), len(m.Headers)}
		for _, j := range []int{0, 1, 3, 4} { // what counts is whether they are set
			rank[j] = min(rank[j], 1)
		}
		if fits && (best < 0 || slices.Compare(rank, bestRank) > 0) {
			best, bestRank = i, rank
		}
	}
	return best
}

// checkRoute compares Route with naiveRoute on rules made from the seed.
func checkRoute(t *testing.T, seed uint64, service, method, path, value string) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	oneOf := func(values ...string) string { return values[random.IntN(len(values))] }
	paths := []string{"/", "/a", "/a/", "/a/b", "/a/b/c", "/b", "/é", "/é/a"}
	rules := make([]Rule, random.IntN(12))
	for i := range rules {
		m := &rules[i].Match
		m.Service, m.Method = oneOf("", "s", "t"), oneOf("", "", "GET", "PUT")
		switch random.IntN(3) {
		case 0:
			m.Path.Exact = oneOf(paths...)
		case 1:
			m.Path.Prefix = oneOf(paths...)
		}
		for _, name := range []string{"x", "Y"} {
			switch random.IntN(4) {
			case 0:
				m.Headers = append(m.Headers, Header{Name: name, Value: oneOf("1", "2")})
			case 1:
				m.Headers = append(m.Headers, Header{Name: name, Present: true})
			}
		}
		rules[i].Backends = []Backend{{"a", 1}, {"b", random.Uint32N(3)}}
	}
	table, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"X": {value}, "Y": {oneOf("", "1", "2")}}
	r := &Request{service, method, path, header}
	got, backend := table.Route(r, random.Uint64())
	if want := naiveRoute(rules, r, header); got != want {
		t.Fatalf("Route(%+v) = %d, want %d; rules %+v", *r, got, want, rules)
	}
	if got >= 0 && (backend < 0 || rules[got].Backends[backend].Weight == 0) {
		t.Errorf("Route() = backend %d of %+v", backend, rules[got].Backends)
	}
}

var fuzzPaths = []string{"/a", "/a/b", "/a/b/c/", "/%61/b", "/a/../b", "", "*", "/a%2fb", "/é/a", "/%c3%a9", "/a//b", "/b;/a"}

func TestRouteAgreesWithNaiveMatcher(t *testing.T) {
	for seed := range uint64(1000) {
		for i, path := range fuzzPaths {
			n := int(seed) + i
			checkRoute(t, seed, []string{"s", "t"}[n%2], []string{"GET", "PUT", ""}[n%3], path, []string{"1", "2"}[n/2%2])
		}
	}
}

func FuzzRoute(f *testing.F) {
	for i, path := range fuzzPaths {
		f.Add(uint64(i), "s", "GET", path, "1")
		f.Add(uint64(i+100), "t", "", path, "")
	}
	f.Fuzz(checkRoute)
}

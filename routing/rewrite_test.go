package routing

import (
	"errors"
	"strings"
	"testing"
)

func TestRewritePathReplacesPrefix(t *testing.T) {
	// The first rows are the table of HTTPPathModifier in the Gateway API.
	tests := []struct{ prefix, with, path, want string }{
		{"/foo", "/xyz", "/foo/bar", "/xyz/bar"},
		{"/foo", "/xyz/", "/foo/bar", "/xyz/bar"},
		{"/foo/", "/xyz", "/foo/bar", "/xyz/bar"},
		{"/foo/", "/xyz/", "/foo/bar", "/xyz/bar"},
		{"/foo", "/xyz", "/foo", "/xyz"},
		{"/foo", "/xyz", "/foo/", "/xyz/"},
		{"/foo", "", "/foo/bar", "/bar"},
		{"/foo", "", "/foo/", "/"},
		{"/foo", "", "/foo", "/"},
		{"/foo", "/", "/foo/", "/"},
		{"/foo", "/", "/foo", "/"},
		{"/", "/xyz", "/foo", "/xyz/foo"},
		{"/", "/xyz", "", "/xyz/"},
		{"/foo", "/é x", "/%66oo/caf%C3%A9%20", "/%C3%A9%20x/caf%C3%A9%20"},
		{"/é", "/e", "/%c3%A9/é", "/e/%C3%A9"},
		{"/foo", "/xyz", "/foo/a%3Fb", "/xyz/a%3Fb"},
		{"/foo", "/xyz", "/foobar", "/foobar"}, // did not match
		{"/foo", "/xyz", "/fo", "/fo"},
	}
	for _, tt := range tests {
		table := mustCompile(t, Rule{Match: Match{Path: Path{Prefix: tt.prefix}}, Rewrite: Rewrite{Path: PathRewrite{Prefix: &tt.with}}})
		got, err := table.RewritePath(0, 0, tt.path)
		if err != nil || got != tt.want {
			t.Errorf("%s -> %q: RewritePath(%s) = %q, %v, want %s", tt.prefix, tt.with, tt.path, got, err, tt.want)
		}
	}
}

func TestRewritePathReplacesThePrefixOfTheMatch(t *testing.T) {
	with := "/new"
	table := mustCompile(t, Rule{
		Match:   Match{Path: Path{Prefix: "/a"}},
		Or:      []Match{{Path: Path{Prefix: "/a/b"}}},
		Rewrite: Rewrite{Path: PathRewrite{Prefix: &with}},
	})
	for match, want := range []string{"/new/b/c", "/new/c"} {
		if got, err := table.RewritePath(0, match, "/a/b/c"); err != nil || got != want {
			t.Errorf("RewritePath(match %d) = %q, %v, want %s", match, got, err, want)
		}
	}
}

func TestRewritePath(t *testing.T) {
	tests := []struct {
		rewrite    PathRewrite
		path, want string // no want: ErrAmbiguousPath
	}{
		{PathRewrite{}, "/a/../b", "/a/../b"},
		{PathRewrite{}, "", ""},
		{PathRewrite{Full: "/new"}, "/old/x", "/new"},
		{PathRewrite{Full: "/né w"}, "", "/n%C3%A9%20w"},
		{PathRewrite{Full: "/new"}, "/old/../x", ""},
		{PathRewrite{Full: "/new"}, "*", ""},
		{PathRewrite{Regex: `^/v[0-9]+/`, Replacement: "/"}, "/v12/x", "/x"},
		{PathRewrite{Regex: `^/v[0-9]+/`, Replacement: "/"}, "/x/v12/", "/x/v12/"},
		{PathRewrite{Regex: `/(\w+)/(?P<id>\w+)`, Replacement: "/${id}/$1"}, "/a/b/c/d", "/b/a/d/c"},
		{PathRewrite{Regex: `é`, Replacement: "e"}, "/caf%C3%A9/%3f", "/cafe/%3F"},
		{PathRewrite{Regex: `o`, Replacement: "?x#"}, "/foo", "/f%3Fx%23%3Fx%23"},
		{PathRewrite{Regex: `\b`, Replacement: "-"}, "/ab", "/-ab-"},
		{PathRewrite{Regex: `/b`, Replacement: "/.."}, "/a/b/c", ""},
		{PathRewrite{Regex: `b`, Replacement: ""}, "/a/b/c", ""},
		{PathRewrite{Regex: `b`, Replacement: ";"}, "/a/b/c", ""},
		{PathRewrite{Regex: `b`, Replacement: "%2e"}, "/a/b/c", ""},
		{PathRewrite{Regex: `.+`, Replacement: "b"}, "/a/b/c", ""},
		{PathRewrite{Regex: `.*`, Replacement: ""}, "/a/b/c", "/"},
	}
	for _, tt := range tests {
		table := mustCompile(t, Rule{Rewrite: Rewrite{Path: tt.rewrite}})
		got, err := table.RewritePath(0, 0, tt.path)
		if tt.want == "" && tt.path != "" && !errors.Is(err, ErrAmbiguousPath) || (tt.want != "" || tt.path == "") && err != nil || got != tt.want {
			t.Errorf("%+v: RewritePath(%s) = %q, %v, want %q", tt.rewrite, tt.path, got, err, tt.want)
		}
	}
}

func TestRewritePathIsBounded(t *testing.T) {
	grow := mustCompile(t, Rule{Rewrite: Rewrite{Path: PathRewrite{Regex: "a", Replacement: strings.Repeat("$0", 500)}}})
	slow := mustCompile(t, Rule{Rewrite: Rewrite{Path: PathRewrite{Regex: "(a?){200}b|a", Replacement: "x"}}})
	full := mustCompile(t, Rule{Rewrite: Rewrite{Path: PathRewrite{Full: "/x"}}})
	long := "/" + strings.Repeat("a", maxRewritten-1)
	for i, c := range []struct {
		table *Table
		path  string
	}{{grow, long[:100]}, {slow, long}, {full, long + "a"}} {
		if got, err := c.table.RewritePath(0, 0, c.path); err == nil {
			t.Errorf("%d: RewritePath(%d bytes) = %d bytes, want an error", i, len(c.path), len(got))
		}
	}
	if got, err := full.RewritePath(0, 0, long); err != nil || got != "/x" {
		t.Errorf("RewritePath(%d bytes) = %q, %v, want /x", len(long), got, err)
	}
}

package routing

import (
	"net/url"
	"strings"
	"testing"
)

func TestFormOf(t *testing.T) {
	tests := []struct {
		path string
		want form
	}{
		{"/", plain}, {"/v1", plain}, {"/v1/", plain}, {"/pkg.Service/Method", plain}, {"/...", plain}, {"/.hidden", plain},
		{"/a..b", plain}, {"/a:b@c+(d)", plain}, {"/café", plain}, {"/a b", plain},
		{"/caf%C3%A9", encoded}, {"/caf%c3%a9", encoded}, {"/%61", encoded}, {"/a%20b/", encoded}, {"/a%3Fb", encoded}, {"/a%23", encoded},

		{"", ambiguous}, {"*", ambiguous}, {"v1", ambiguous}, {"pkg.Service/Method", ambiguous}, {"http://a/b", ambiguous},
		{"//", ambiguous}, {"//v1", ambiguous}, {"/v1//x", ambiguous}, {"/v1//", ambiguous},
		{"/.", ambiguous}, {"/..", ambiguous}, {"/./v1", ambiguous}, {"/../v1", ambiguous}, {"/v1/.", ambiguous},
		{"/v1/..", ambiguous}, {"/v1/../x", ambiguous}, {"/v1/./x", ambiguous}, {"/v1/../", ambiguous},
		{"/%2e%2e/v1", ambiguous}, {"/%2E./v1", ambiguous}, {"/.%2e", ambiguous}, {"/a%2eb", ambiguous},
		{"/a%2fb", ambiguous}, {"/a%2Fb", ambiguous}, {"/a%5cb", ambiguous}, {"/a%3bb", ambiguous},
		{"/%252e", ambiguous}, {"/a%25", ambiguous}, {"/a%00", ambiguous}, {"/a%0d%0a", ambiguous}, {"/a%7F", ambiguous},
		{"/a\\b", ambiguous}, {"/a;b", ambiguous}, {"/..;/b", ambiguous}, {"/a?b", ambiguous}, {"/a#b", ambiguous},
		{"/a\x00", ambiguous}, {"/a\n", ambiguous}, {"/a\x7f", ambiguous},
		{"/%", ambiguous}, {"/%4", ambiguous}, {"/%zz", ambiguous}, {"/%4g", ambiguous}, {"/%g4", ambiguous},
	}
	for _, tt := range tests {
		if got := formOf(tt.path); got != tt.want {
			t.Errorf("formOf(%q) = %d, want %d", tt.path, got, tt.want)
		}
	}
}

// naiveForm says the same as formOf, by decoding and splitting.
func naiveForm(path string) form {
	decoded, err := url.PathUnescape(path)
	for _, bad := range []string{"%2f", "%2e", "%5c", "%3b", "%25", "?", "#"} {
		if strings.Contains(strings.ToLower(path), bad) {
			return ambiguous
		}
	}
	if err != nil || !strings.HasPrefix(path, "/") || strings.ContainsAny(decoded, ";\\\x7f") ||
		strings.ContainsFunc(decoded, func(r rune) bool { return r < ' ' }) {
		return ambiguous
	}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		if s == "." || s == ".." || s == "" && i < len(segments)-1 {
			return ambiguous
		}
	}
	if decoded != path {
		return encoded
	}
	return plain
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e%2e/b", "/caf%C3%a9/", "/a;b", "//", "/%", "/%252e", "*", "/\xff%ff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := formOf(path)
		if want := naiveForm(path); got != want {
			t.Fatalf("formOf(%q) = %d, want %d", path, got, want)
		}
		if got != encoded {
			return
		}
		buf := make([]byte, len(path))
		want, err := url.PathUnescape(path)
		if n := decode(buf, path); err != nil || string(buf[:n]) != want {
			t.Errorf("decode(%q) = %q, want %q, %v", path, buf[:n], want, err)
		}
	})
}

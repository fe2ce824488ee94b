package routing

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// maxRewritten is the length in bytes of the longest path that a rule may rewrite, and of the longest that may come of it.
const maxRewritten = 8 << 10

// ErrAmbiguousPath is why a path is not rewritten: it has more than one reading, or would have; see the package comment.
var ErrAmbiguousPath = errors.New("routing: ambiguous path")

// pathRewrite is what a rule does to paths.
type pathRewrite struct {
	full        string   // encoded; empty if there is none
	prefixes    []string // of the matches, without the "/" at the end, where they are replaced
	with        string   // encoded, without the "/" at the end
	regex       *regexp.Regexp
	cost        int // instructions of regex
	replacement string
}

// newPathRewrite returns nil if the rule leaves the path.
func newPathRewrite(r *Rule) *pathRewrite {
	switch p := &r.Rewrite.Path; {
	case p.Full != "":
		return &pathRewrite{full: encode(p.Full)}
	case p.Prefix != nil:
		w := &pathRewrite{with: encode(strings.TrimSuffix(*p.Prefix, "/"))}
		for i := range r.matches() {
			w.prefixes = append(w.prefixes, strings.TrimSuffix(r.match(i).Path.Prefix, "/"))
		}
		return w
	case p.Regex != "":
		cost, _ := instructions(p.Regex) // which was found to be valid
		return &pathRewrite{regex: regexp.MustCompile(p.Regex), cost: cost, replacement: p.Replacement}
	}
	return nil
}

// RewritePath returns what Rewrite.Path of a rule makes of a path, when the call has come under the given match of it; see
// Decision. Both paths are encoded and without a query; the empty path counts as "/". A path that the rule leaves comes back as
// it was. The error is ErrAmbiguousPath, or that the path is longer than 8 KiB, would become so, or has more in it for the regular
// expression than can be done in a few milliseconds. There must be such a rule and match.
func (t *Table) RewritePath(rule, match int, path string) (string, error) {
	w := t.paths[rule]
	if w == nil {
		return path, nil
	}
	path = cmp.Or(path, "/")
	if len(path) > maxRewritten {
		return "", fmt.Errorf("routing: path of %d bytes is too long to be rewritten", len(path))
	}
	if formOf(path) == ambiguous {
		return "", ErrAmbiguousPath
	}
	var to string
	switch {
	case w.full != "":
		return w.full, nil
	case w.regex == nil:
		rest, ok := afterPrefix(path, w.prefixes[match])
		if !ok {
			return path, nil // not of that match
		}
		to = w.with + rest
	default:
		var err error
		if to, err = w.replace(path); err != nil {
			return "", err
		}
	}
	if to == "" {
		to = "/"
	}
	if len(to) > maxRewritten {
		return "", fmt.Errorf("routing: path would become longer than %d bytes", maxRewritten)
	}
	if formOf(to) == ambiguous {
		return "", ErrAmbiguousPath
	}
	return to, nil
}

// afterPrefix returns what of the path comes after the decoded prefix, which ends where a segment does.
func afterPrefix(path, prefix string) (rest string, ok bool) {
	i := 0
	for j := range len(prefix) {
		if i == len(path) {
			return "", false
		}
		c := path[i]
		if c == '%' {
			c, _ = decodeAt(path, i)
			i += 2
		}
		if i++; c != prefix[j] {
			return "", false
		}
	}
	return tidy(path[i:]), i == len(path) || path[i] == '/'
}

// maxWork bounds what the regular expression of a rewrite may cost on one path: instructions times bytes times places that it
// fits, which take a few nanoseconds each.
const maxWork = 1_000_000

// replace replaces all that the regular expression fits, as [regexp.Regexp.ReplaceAllString] does, but in bounded time and space.
func (w *pathRewrite) replace(path string) (string, error) {
	buf := make([]byte, len(path))
	text := string(buf[:decode(buf, path)])
	most := maxWork / w.cost / len(text)
	places := w.regex.FindAllStringSubmatchIndex(text, most+1)
	if most == 0 || len(places) > most {
		return "", fmt.Errorf("routing: path of %d bytes takes a regular expression of %d instructions too long", len(path), w.cost)
	}
	if len(places) == 0 {
		return path, nil
	}
	var to []byte
	kept := 0
	for _, p := range places {
		to = append(to, text[kept:p[0]]...)
		to = w.regex.ExpandString(to, w.replacement, text, p)
		kept = p[1]
		if len(to) > maxRewritten {
			return "", fmt.Errorf("routing: path would become longer than %d bytes", maxRewritten)
		}
	}
	return encode(string(append(to, text[kept:]...))), nil
}

// encode returns the encoded form of a decoded path: all bytes that may stand for themselves in a path do (RFC 3986, section 3.3).
func encode(path string) string { return escape(path, false) }

// tidy returns an encoded path with the bytes encoded that may not be in it as they are.
func tidy(path string) string { return escape(path, true) }

func escape(path string, encoded bool) string {
	stays := func(c byte) bool { return c == '%' && encoded || strings.IndexByte(pathChars, c) >= 0 }
	i := 0
	for i < len(path) && stays(path[i]) {
		i++
	}
	if i == len(path) {
		return path
	}
	to := append(make([]byte, 0, len(path)+16), path[:i]...)
	for ; i < len(path); i++ {
		if c := path[i]; stays(c) {
			to = append(to, c)
		} else {
			to = append(to, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		}
	}
	return string(to)
}

const pathChars = "/ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@"

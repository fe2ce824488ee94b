package incident

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// name returns a name of somebody else, cut, and without what is not printable.
func name(s string) string { return printable(cut(s, maxName)) }

// text returns the text of an error, cut, and without what looks like a secret.
func text(s string) string {
	s = printable(cut(s, 8*maxText)) // so that hiding costs little
	return cut(hide(s), maxText)
}

// cut returns at most n bytes of s, whole runes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// printable replaces what is not, and what a terminal or a browser might obey.
func printable(s string) string {
	ok := func(r rune) bool { return r != utf8.RuneError && unicode.IsPrint(r) }
	if !strings.ContainsFunc(s, func(r rune) bool { return !ok(r) }) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if ok(r) {
			return r
		}
		return '�'
	}, s)
}

// hidden stands for what is left out.
const hidden = "***"

// secretWords make what follows them, after "=", ":" or a space, a secret.
var secretWords = []string{
	"authorization", "bearer", "basic", "token", "secret", "password", "passwd", "pwd", "apikey", "api-key", "api_key", "cookie", "session",
	"credential", "signature", "jwt", "access_key", "access-key",
}

// hide leaves out of a text what looks like the user or the query of a URL, and what follows words like password. It is no proof
// against all that people write into errors.
func hide(s string) string {
	var b strings.Builder
	for i, word := 0, ""; i < len(s); {
		n := strings.IndexAny(s[i:], " \t\"'`,;(){}<>[]|")
		if n == 0 {
			b.WriteByte(s[i])
			i++
			continue
		}
		if n < 0 {
			n = len(s) - i
		}
		part := s[i : i+n]
		i += n
		lower := strings.ToLower(part)
		switch at := strings.IndexAny(lower, "=:"); {
		case secret(word) && strings.Trim(part, "=:") != "" && lower != "bearer" && lower != "basic":
			b.WriteString(hidden)
			word = ""
			continue
		case at > 0 && at+1 < len(part) && secret(lower[:at]) && !strings.HasPrefix(lower[at:], "://"):
			b.WriteString(part[:at+1] + hidden)
			word = ""
			continue
		case strings.Trim(part, "=:") == "": // "password : x"
			b.WriteString(part)
			continue
		case strings.HasPrefix(lower, "eyj") && strings.Count(lower, ".") >= 2: // a JWT
			b.WriteString(hidden)
			word = ""
			continue
		}
		b.WriteString(hideURL(part))
		word = strings.TrimRight(lower, "=:")
	}
	return b.String()
}

// secret reports whether a word says that a secret follows.
func secret(word string) bool {
	if i := strings.LastIndexAny(word, "?&/.#"); i >= 0 {
		word = word[i+1:]
	}
	for _, w := range secretWords {
		if strings.HasSuffix(word, w) {
			return true
		}
	}
	return false
}

// hideURL leaves out the user and the query of a URL or a path.
func hideURL(s string) string {
	if i := strings.IndexAny(s, "?#"); i >= 0 && i+1 < len(s) {
		s = s[:i+1] + hidden
	}
	scheme := strings.Index(s, "://")
	if scheme < 0 {
		return s
	}
	host := s[scheme+3:]
	end := strings.IndexByte(host, '/')
	if end < 0 {
		end = len(host)
	}
	if at := strings.LastIndexByte(host[:end], '@'); at >= 0 {
		s = s[:scheme+3] + hidden + host[at:]
	}
	return s
}

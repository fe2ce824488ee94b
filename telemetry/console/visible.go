package console

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText is how many bytes of a name or a text are shown; addresses and names of services are shorter.
const maxText = 600

// visible returns the text with what does not print, or changes the order of what does, spelled out: \u{202e} for a character, \x{ff}
// for a byte that is no UTF-8. A backslash becomes two, so that no two texts of up to most bytes look the same.
func visible(s string, most int) string {
	cut := len(s) > most
	if cut {
		s = s[:most]
		for range utf8.UTFMax - 1 { // not amid a character
			if r, size := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || size != 1 {
				break
			}
			s = s[:len(s)-1]
		}
	}
	plain := !cut
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= ' ' && s[i] < 0x7f && s[i] != '\\'
	}
	if plain {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x{%02x}`, s[i])
		case r == '\\':
			b.WriteString(`\\`)
		case !shows(r):
			fmt.Fprintf(&b, `\u{%04x}`, r)
		default:
			b.WriteRune(r)
		}
		i += size
	}
	if cut {
		b.WriteString("…")
	}
	return b.String()
}

// shows reports whether a character is seen as what it is. Marks that combine could pile up over other lines.
func shows(r rune) bool {
	return r == ' ' || r != utf8.RuneError && unicode.IsPrint(r) && !unicode.Is(unicode.Mn, r) && !unicode.Is(unicode.Me, r) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) && !unicode.Is(unicode.Variation_Selector, r)
}

// lines is visible for a text of several lines.
func lines(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	var b strings.Builder
	for line := range strings.SplitSeq(s, "\n") {
		b.WriteString(visible(strings.ReplaceAll(line, "\t", "    "), most))
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n")
}

const redacted = "[redacted]"

var (
	// secretName fits names under which secrets are kept. It rather fits too much.
	secretName = regexp.MustCompile(`(?i)(^|[^a-z])pass($|[^a-z])|passw|passphrase|secret|token|api[-_.]?key|private|credential|(^|[^a-z])(auth|pwd|key|sig|jwt|sas)($|[^a-z])|authorization|cookie|session|signature|accesskey|bearer|connectionstring|conn[-_]?str|dsn`)
	// urlText fits URLs: what comes before the user, the user, the host, the path, and the query or fragment.
	urlText = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)([^/\s"'<>?#]*@)?([^/\s"'<>?#]*)([^\s"'<>?#]*)([?#][^\s"'<>]*)?`)
	// secretText fits secrets in running text: in plain words, in JSON, in JSON that was quoted, and where the end was cut off.
	secretText = regexp.MustCompile(`(?i)((?:[a-z0-9_.-]*(?:passw(?:or)?d|passphrase|pwd|secret|token|api[-_]?key|access[-_]?key|authorization|credential|cookie|session[-_]?id|signature|private[-_]?key)[a-z0-9_-]*)\\*["']?\s*[:=]\s*)` +
		`(\\+"[^"]*"?|"(?:[^"\\]|\\.)*"?|'[^']*'?|(?:(?:bearer|basic|digest|negotiate|api[-_]?key|token)\s+)?[^\s,;"')}\]]+)`)
	bearerText = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[a-z0-9+/=_.~-]{8,}`)
)

// discreet returns the text without the parts that are likely to be secret: users, queries and fragments of URLs, and what follows names of
// secrets. It cannot know them all.
func discreet(s string) string {
	if strings.Contains(s, "://") {
		s = urlText.ReplaceAllStringFunc(s, func(u string) string {
			p := urlText.FindStringSubmatch(u)
			host := p[3]
			if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.Trim(host[i+1:], "0123456789") != "" && !strings.HasSuffix(host, "]") {
				// No port: a user, of a URL that was cut or has a slash there that is not escaped.
				return p[1] + redacted
			}
			u = p[1] + host + p[4]
			if p[5] != "" {
				u += p[5][:1] + redacted
			}
			return u
		})
	}
	s = secretText.ReplaceAllString(s, "${1}"+redacted)
	return bearerText.ReplaceAllString(s, "${1} "+redacted)
}

// name returns a name as it is shown.
func name(s string) string { return visible(s, maxText) }

// text returns a message, which may be of a server, as it is shown.
func text(s string) string { return visible(discreet(s[:min(len(s), 4*maxText)]), maxText) }

// value returns what is kept under a name, as it is shown.
func value(key, s string) string {
	if secretName.MatchString(key) {
		return redacted
	}
	return text(s)
}

package main

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// clean returns text of somebody else without what a terminal would obey: control sequences, line ends and marks that
// reverse the direction. They appear as \x1b or \u202e do.
func clean(s string) string {
	if !strings.ContainsFunc(s, unsafeRune) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n <= 1:
			b.WriteString(`\x`)
			writeHex(&b, uint32(s[0]), 2)
		case !unsafeRune(r):
			b.WriteString(s[:n])
		case r < 0x80:
			b.WriteString(`\x`)
			writeHex(&b, uint32(r), 2)
		case r < 0x10000:
			b.WriteString(`\u`)
			writeHex(&b, uint32(r), 4)
		default:
			b.WriteString(`\U`)
			writeHex(&b, uint32(r), 8)
		}
		s = s[n:]
	}
	return b.String()
}

// unsafeRune reports whether a terminal may do something else with r than show it. IsPrint is false for U+FFFD of text that is
// not UTF-8 only if asked for the bytes, so it counts here.
func unsafeRune(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

func writeHex(b *strings.Builder, v uint32, digits int) {
	for i := digits - 1; i >= 0; i-- {
		b.WriteByte(hexDigits[v>>(4*i)&15])
	}
}

// quote returns text of somebody else, quoted and cut.
func quote(s string) string { return `"` + cut(clean(s), 80) + `"` }

// cut returns the first n runes of s, the last of them an ellipsis if there is more.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	if n < 1 {
		return ""
	}
	return string([]rune(s)[:n-1]) + "…"
}

package routing

import "strings"

// form is how a path may be matched.
type form uint8

const (
	ambiguous form = iota // only by rules without a path condition
	plain                 // as it is
	encoded               // after percent-decoding
)

// formOf classifies a path; see the package comment for the rules and why they exist.
func formOf(path string) form {
	if path == "" || path[0] != '/' {
		return ambiguous
	}
	f := plain
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '/':
			if startsOddSegment(path[i+1:]) {
				return ambiguous
			}
		case c == '%':
			d, ok := decodeAt(path, i)
			if !ok || d == '/' || d == '.' || d == '%' || splits(d) {
				return ambiguous
			}
			f = encoded
		case c == '?' || c == '#' || splits(c):
			return ambiguous
		}
	}
	return f
}

// splits reports whether some server ends a path or a segment at c, encoded or not.
func splits(c byte) bool { return c == ';' || c == '\\' || c < ' ' || c == 0x7f }

// startsOddSegment reports whether the first segment of s is "." or "..", or is empty without being the last.
func startsOddSegment(s string) bool {
	if s == "" || s[0] != '.' && s[0] != '/' { // all but a few segments leave here
		return false
	}
	segment, _, _ := strings.Cut(s, "/")
	return segment == "" || segment == "." || segment == ".."
}

// decode writes the decoded path to buf as far as it fits and returns the number of bytes written. The path must be
// of form encoded.
func decode(buf []byte, path string) int {
	n := 0
	for i := 0; i < len(path) && n < len(buf); i++ {
		c := path[i]
		if c == '%' {
			c, _ = decodeAt(path, i)
			i += 2
		}
		buf[n] = c
		n++
	}
	return n
}

// decodeAt returns the byte that the percent-encoding at path[i:] stands for.
func decodeAt(path string, i int) (c byte, ok bool) {
	if len(path)-i < 3 {
		return 0, false
	}
	hi, lo := unhex(path[i+1]), unhex(path[i+2])
	return hi<<4 | lo, hi < 16 && lo < 16
}

// unhex returns the value of a hexadecimal digit, 16 or more for other bytes.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}

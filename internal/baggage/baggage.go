// Package baggage reads and changes one member of W3C baggage (https://www.w3.org/TR/baggage/) and leaves all others as they
// are, byte for byte, whatever they are: they belong to somebody else.
//
// Baggage comes from anybody. No more of it is looked at than the specification has everybody carry, and what is no member
// is passed over.
package baggage

import (
	"net/url"
	"strings"
)

// Name is the name of the header, and of the metadata in gRPC.
const Name = "baggage"

const (
	// MaxBytes and MaxMembers are what the specification has everybody carry. Others may cut what is longer.
	MaxBytes   = 8192
	MaxMembers = 64
)

// Get returns the value of the member under key in a header with the given values, and whether there is one. Of several the
// last counts, as for OpenTelemetry. It does not allocate unless the value is encoded.
func Get(values []string, key string) (value string, ok bool) {
	left, members := MaxBytes, 0
	for _, list := range values {
		for more := true; more; {
			var member string
			member, list, more = strings.Cut(list, ",")
			if left -= len(member); left < 0 {
				return value, ok
			}
			left-- // the comma
			if blank(member) {
				continue
			}
			if members++; members > MaxMembers {
				return value, ok
			}
			if v, is := valueOf(member, key); is {
				value, ok = v, true
			}
		}
	}
	return value, ok
}

// Set returns the value of a header that has value under key, and otherwise what the header with the given values has. ok is
// false if it would be longer than what everybody carries, and longer than it was.
func Set(values []string, key, value string) (list string, ok bool) {
	bytes, members := len(values)-1, 0
	size := len(key) + 1 + 3*len(value)
	for _, v := range values {
		bytes += len(v)
		size += len(v) + 1
	}
	var b strings.Builder
	b.Grow(size)
	kept := 0
	for _, rest := range values {
		for more := true; more; {
			var member string
			member, rest, more = strings.Cut(rest, ",")
			if blank(member) {
				continue
			}
			members++
			if named(member, key) {
				continue
			}
			if kept > 0 {
				b.WriteByte(',')
			}
			b.WriteString(member)
			kept++
		}
	}
	if kept > 0 {
		b.WriteByte(',')
	}
	b.WriteString(key)
	b.WriteByte('=')
	encode(&b, value)
	return b.String(), b.Len() <= max(MaxBytes, bytes) && kept+1 <= max(MaxMembers, members)
}

// Delete returns the value of a header without the member under key, empty if nothing is left.
func Delete(values []string, key string) string {
	var kept []string
	for _, list := range values {
		for member := range strings.SplitSeq(list, ",") {
			if !blank(member) && !named(member, key) {
				kept = append(kept, member)
			}
		}
	}
	return strings.Join(kept, ",")
}

// Has reports whether there is anything under key, be it no valid member.
func Has(values []string, key string) bool {
	for _, list := range values {
		for more := true; more; {
			var member string
			if member, list, more = strings.Cut(list, ","); named(member, key) {
				return true
			}
		}
	}
	return false
}

// space is what may stand around the parts of a member.
const space = " \t"

func blank(member string) bool { return strings.Trim(member, space) == "" }

// named reports whether the member is, or was to be, one under key.
func named(member, key string) bool {
	member = strings.TrimLeft(member, space)
	if !strings.HasPrefix(member, key) {
		return false
	}
	rest := strings.TrimLeft(member[len(key):], space)
	return rest == "" || rest[0] == '=' || rest[0] == ';'
}

// valueOf returns the value of a member, decoded, if it is one under key.
func valueOf(member, key string) (string, bool) {
	if !named(member, key) {
		return "", false
	}
	member, _, _ = strings.Cut(member, ";") // properties follow
	_, v, ok := strings.Cut(member, "=")
	if v = strings.Trim(v, space); !ok || strings.ContainsFunc(v, foreign) {
		return "", false
	}
	v, err := url.PathUnescape(v)
	return v, err == nil
}

// foreign reports whether a value cannot hold a character as it is: controls, whitespace, DQUOTE, comma, semicolon, backslash and
// what is not ASCII.
func foreign(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`",;\`, r) }

// encode writes a value, with "%" and what a value cannot hold in its encoding.
func encode(b *strings.Builder, value string) {
	const digits = "0123456789ABCDEF"
	for i := range len(value) {
		if c := value[i]; c == '%' || foreign(rune(c)) {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
}

package config

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// text returns the text of a scalar with its variables expanded, and whether there were any.
func (r *reader) text(n *yaml.Node, at *step) (text string, expanded, ok bool) {
	text = n.Value
	if r.expand == nil || !strings.Contains(text, "$") || !textual(n) {
		return text, false, true
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		b.WriteString(before)
		switch {
		case !found:
			text = b.String()
			if r.expanded += len(text); r.expanded > maxSize {
				r.blame(n, at, "the values of variables have more than %d bytes in all", maxSize)
				return "", true, false
			}
			return text, expanded, true
		case strings.HasPrefix(after, "$"):
			b.WriteByte('$')
			text = after[1:]
		case strings.HasPrefix(after, "{"):
			inner, rest, closed := strings.Cut(after[1:], "}")
			name, instead, hasDefault := strings.Cut(inner, ":-")
			if !closed || !variable.MatchString(name) {
				r.blame(n, at, "${%.64s is no variable: want ${NAME} or ${NAME:-text}, and $$ for a dollar sign", after[1:])
				return "", true, false
			}
			value, set := r.expand(name)
			switch {
			case hasDefault && value == "":
				value = instead
			case !set:
				r.blame(n, at, "the variable %s is not set", name)
				return "", true, false
			}
			if b.Len()+len(value) <= maxSize { // else it is refused at the end
				b.WriteString(value)
			} else {
				r.expanded += maxSize
			}
			expanded, text = true, rest
		default: // a dollar sign that means nothing
			b.WriteByte('$')
			text = after
		}
	}
}

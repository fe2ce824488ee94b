package file

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/zerohop/zerohop/discovery"
)

// Limits of what a file may hold; they are those of discovery.Run, which would leave out what is beyond.
const (
	maxEndpoints = 10_000
	maxWeight    = 1_000_000
	maxMetaKeys  = 64
	maxText      = 256
	maxName      = 253
)

// maxMistakes bounds the mistakes that an error lists.
const maxMistakes = 10

// reader makes endpoints of the values in a file and notes all mistakes.
type reader struct {
	path     string
	mistakes []error
	more     int
}

// err returns the mistakes, or nil if there is none.
func (r *reader) err() error {
	if r.more > 0 {
		r.mistakes = append(r.mistakes, fmt.Errorf("%s: and %d mistakes more", r.path, r.more))
	}
	return errors.Join(r.mistakes...)
}

// blame notes a mistake. field may be empty: the whole file.
func (r *reader) blame(n *yaml.Node, field, format string, args ...any) {
	if len(r.mistakes) == maxMistakes {
		r.more++
		return
	}
	where := fmt.Sprintf("%s:%d: ", r.path, n.Line)
	if field != "" {
		where += field + " "
	}
	r.mistakes = append(r.mistakes, errors.New(where+fmt.Sprintf(format, args...)))
}

func (r *reader) file(root *yaml.Node) map[string][]discovery.Endpoint {
	var services map[string][]discovery.Endpoint
	found := false
	r.mapping(root, "", func(key, value *yaml.Node) {
		if key.Value != "services" {
			r.blame(key, "", "has the unknown field %.64q, want services", key.Value)
			return
		}
		found = true
		services = r.services(value)
	})
	if root.Kind == yaml.MappingNode && !found {
		r.blame(root, "services", "is missing")
	}
	return services
}

func (r *reader) services(n *yaml.Node) map[string][]discovery.Endpoint {
	services := make(map[string][]discovery.Endpoint, len(n.Content)/2)
	r.mapping(n, "services", func(key, value *yaml.Node) {
		name := strings.ToLower(key.Value)
		field := fmt.Sprintf("services.%.64s", strconv.Quote(key.Value))
		if printableName(key.Value) {
			field = "services." + key.Value
		}
		if name == "" || len(name) > maxName || !printable(name) {
			r.blame(key, field, "has a name that is empty, too long or not printable")
			return
		}
		if _, ok := services[name]; ok { // equal but for the case
			r.blame(key, field, "is there twice, as the case of names does not matter")
			return
		}
		services[name] = r.endpoints(value, field)
	})
	return services
}

func (r *reader) endpoints(n *yaml.Node, field string) []discovery.Endpoint {
	if n.Kind != yaml.SequenceNode {
		r.blame(n, field, "is %s, want a list of endpoints", kindOf(n))
		return nil
	}
	if len(n.Content) > maxEndpoints {
		r.blame(n, field, "has %d endpoints, more than %d", len(n.Content), maxEndpoints)
		return nil
	}
	set := make([]discovery.Endpoint, 0, len(n.Content))
	lines := make(map[string]int, len(n.Content))
	for i, item := range n.Content {
		ep := r.endpoint(item, fmt.Sprintf("%s[%d]", field, i))
		if ep.Addr == "" {
			continue
		}
		if line, ok := lines[ep.Addr]; ok {
			r.blame(item, fmt.Sprintf("%s[%d]", field, i), "has the address %s of line %d", ep.Addr, line)
			continue
		}
		lines[ep.Addr] = item.Line
		set = append(set, ep)
	}
	return set
}

func (r *reader) endpoint(n *yaml.Node, field string) (ep discovery.Endpoint) {
	switch n.Kind {
	case yaml.ScalarNode:
		ep.Addr = r.addr(n, field)
		return ep
	case yaml.SequenceNode:
		r.blame(n, field, `is a list, want "host:port" or fields; an IPv6 address needs quotes`)
		return ep
	}
	bad := len(r.mistakes) + r.more
	found := false
	r.mapping(n, field, func(key, value *yaml.Node) {
		sub := field + "." + key.Value
		switch key.Value {
		case "addr":
			found = true
			ep.Addr = r.addr(value, sub)
		case "weight":
			ep.Weight = uint32(r.number(value, sub, 1, maxWeight))
		case "zone":
			ep.Zone = r.text(value, sub)
		case "priority":
			ep.Priority = uint8(r.number(value, sub, 0, 255))
		case "health":
			ep.Health = r.health(value, sub)
		case "meta":
			ep.Meta = r.meta(value, sub)
		default:
			r.blame(key, field, "has the unknown field %.64q", key.Value)
		}
	})
	if !found && len(r.mistakes)+r.more == bad {
		r.blame(n, field+".addr", "is missing")
	}
	return ep
}

// mapping calls f with the keys of a mapping and their values, each key once.
func (r *reader) mapping(n *yaml.Node, field string, f func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.blame(n, field, "is %s, want fields", kindOf(n))
		return
	}
	var lines map[string]int
	if len(n.Content) > 16 { // most mappings are endpoints with a few fields
		lines = make(map[string]int, len(n.Content)/2)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			r.blame(key, field, "has a key that is %s", kindOf(key))
			continue
		}
		line := lines[key.Value]
		if lines != nil {
			lines[key.Value] = cmp.Or(line, key.Line)
		} else {
			line = lineOf(n.Content[:i], key.Value)
		}
		if line > 0 {
			r.blame(key, field, "has %.64q twice, first in line %d", key.Value, line)
			continue
		}
		f(key, value)
	}
}

// lineOf returns the line of a key in the content of a mapping, or 0.
func lineOf(content []*yaml.Node, key string) int {
	for i := 0; i < len(content); i += 2 {
		if content[i].Kind == yaml.ScalarNode && content[i].Value == key {
			return content[i].Line
		}
	}
	return 0
}

func (r *reader) addr(n *yaml.Node, field string) string {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		r.blame(n, field, `is %s, want "host:port"`, kindOf(n))
		return ""
	}
	host, port, err := net.SplitHostPort(n.Value)
	if err != nil || host == "" || len(host) > maxName || strings.ContainsAny(host, " \t\r\n/@%\\") || !printable(host) {
		r.blame(n, field, `is %.256q, want "host:port"`, n.Value)
		return ""
	}
	if p, err := strconv.ParseUint(port, 10, 16); err != nil || p == 0 {
		r.blame(n, field, "is %.256q, whose port is not in 1..65535", n.Value)
		return ""
	}
	return n.Value
}

func (r *reader) number(n *yaml.Node, field string, least, most uint64) uint64 {
	v, err := strconv.ParseUint(n.Value, 10, 32)
	octal := len(n.Value) > 1 && n.Value[0] == '0' // to some readers of YAML
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil || octal || v < least || v > most {
		hint := ""
		if v == 0 && least > 0 && err == nil {
			hint = " (health: draining takes an endpoint out)"
		}
		r.blame(n, field, "is %s, want %d to %d%s", shown(n), least, most, hint)
		return 0
	}
	return v
}

func (r *reader) text(n *yaml.Node, field string) string {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		r.blame(n, field, "is %s, want text", kindOf(n))
		return ""
	}
	if len(n.Value) > maxText || !printable(n.Value) {
		r.blame(n, field, "is longer than %d bytes or not printable", maxText)
		return ""
	}
	return n.Value
}

func (r *reader) health(n *yaml.Node, field string) discovery.Health {
	for _, h := range []discovery.Health{discovery.Healthy, discovery.Draining, discovery.Unhealthy, discovery.Terminating} {
		if n.Kind == yaml.ScalarNode && n.Value == h.String() {
			return h
		}
	}
	r.blame(n, field, "is %s, want healthy, draining, unhealthy or terminating", shown(n))
	return discovery.Unhealthy
}

func (r *reader) meta(n *yaml.Node, field string) map[string]string {
	if len(n.Content)/2 > maxMetaKeys {
		r.blame(n, field, "has %d keys, more than %d", len(n.Content)/2, maxMetaKeys)
		return nil
	}
	meta := make(map[string]string, len(n.Content)/2)
	r.mapping(n, field, func(key, value *yaml.Node) {
		if len(key.Value) > maxText || !printable(key.Value) {
			r.blame(key, field, "has a key that is longer than %d bytes or not printable", maxText)
			return
		}
		meta[key.Value] = r.text(value, field+"."+key.Value)
	})
	if len(meta) == 0 {
		return nil
	}
	return meta
}

// kindOf returns what a value is, for errors.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if n.ShortTag() == "!!null" {
		return "empty"
	}
	return shown(n)
}

func shown(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		if n.Kind == yaml.ScalarNode {
			return "empty"
		}
		return kindOf(n)
	}
	return fmt.Sprintf("%.64q", n.Value)
}

// printable reports whether s may stand in logs, labels and headers.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// printableName reports whether a name needs no quotes in errors.
func printableName(s string) bool {
	return len(s) <= 64 && s != "" && !slices.ContainsFunc([]rune(s), func(c rune) bool { return c <= ' ' || c > '~' })
}

package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// reader makes a Spec of the values in a document and notes all mistakes.
type reader struct {
	name     string
	expand   func(string) (string, bool)
	expanded int // bytes
	mistakes []error
	more     int
}

// step is one on the way to a value. nil is the document itself.
type step struct {
	up   *step
	name string       // ".retry" or "[2]"
	typ  reflect.Type // of the struct that the field is in; nil for keys of maps and items of lists
}

func (s *step) String() string {
	if s == nil {
		return ""
	}
	return strings.TrimPrefix(s.up.String()+s.name, ".")
}

func (s *step) field(key string, of reflect.Type) *step {
	if !printable(key) {
		key = fmt.Sprintf("%.64q", key)
	}
	return &step{s, "." + key, of}
}

func (s *step) item(i int) *step { return &step{s, "[" + strconv.Itoa(i) + "]", nil} }

// printable reports whether a key needs no quotes in errors.
func printable(s string) bool {
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

// blame notes a mistake in the value at a path.
func (r *reader) blame(n *yaml.Node, at *step, format string, args ...any) {
	if len(r.mistakes) == maxMistakes {
		r.more++
		return
	}
	path, text := at.String(), fmt.Sprintf(format, args...)
	if r.expand == nil && strings.Contains(n.Value, "${") {
		text += "; ${...} stands for itself here, as no variables are asked for"
	}
	if path != "" {
		text = path + ": " + text
	}
	r.mistakes = append(r.mistakes, &Error{r.name, n.Line, n.Column, path, errors.New(text)})
}

// value reads n into v. What is null leaves v as it is.
func (r *reader) value(n *yaml.Node, v reflect.Value, at *step) {
	if null(n) {
		return
	}
	if scalar(v.Type()) {
		r.scalar(n, v, at)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		bad := len(r.mistakes)
		if r.value(n, p.Elem(), at); len(r.mistakes) == bad {
			v.Set(p)
		}
	case reflect.Struct:
		r.fields(n, v, at)
	case reflect.Map:
		r.entries(n, v, at)
	case reflect.Slice:
		r.items(n, v, at)
	default:
		panic("config: no document can hold a " + v.Type().String())
	}
}

// fields reads a struct.
func (r *reader) fields(n *yaml.Node, v reflect.Value, at *step) {
	fields := fieldsOf(v.Type())
	r.mapping(n, at, wantFields(n, v.Type()), func(key, value *yaml.Node) {
		for _, f := range fields {
			if f.name == key.Value {
				r.value(value, v.Field(f.index), at.field(f.name, v.Type()))
				return
			}
		}
		r.blame(key, at.field(key.Value, nil), "unknown field%s", suggestion(key.Value, v.Type(), at))
	})
}

// entries reads a map. The value of an entry may be null where it has fields, none of which it sets.
func (r *reader) entries(n *yaml.Node, v reflect.Value, at *step) {
	m := reflect.MakeMap(v.Type())
	r.mapping(n, at, "names and values", func(key, value *yaml.Node) {
		at := at.field(key.Value, nil)
		elem := reflect.New(v.Type().Elem()).Elem()
		if null(value) && elem.Kind() != reflect.Struct {
			r.blame(value, at, `is empty, want %s ("" if there is none)`, want(elem.Type()))
			return
		}
		r.value(value, elem, at)
		m.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), elem)
	})
	if m.Len() > 0 {
		v.Set(m)
	}
}

// maxItems bounds a list. A rule takes a kilobyte, and more than a thousand of them are refused anyway.
const maxItems = 10_000

// items reads a list. An item must not be null: a rule that is would be for every call.
func (r *reader) items(n *yaml.Node, v reflect.Value, at *step) {
	if n.Kind != yaml.SequenceNode {
		r.blame(n, at, "is %s, want %s", shown(n), wantList(n, v.Type().Elem()))
		return
	}
	if len(n.Content) > maxItems {
		r.blame(n, at, "has %d items, at most %d are allowed", len(n.Content), maxItems)
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		at := at.item(i)
		if null(item) {
			r.blame(item, at, "is empty, want %s", want(v.Type().Elem()))
			continue
		}
		r.value(item, list.Index(i), at)
	}
	if list.Len() > 0 {
		v.Set(list)
	}
}

// wantFields returns what a struct should be, for errors: with its fields, if they are few.
func wantFields(n *yaml.Node, t reflect.Type) string {
	names := namesOf(t)
	switch {
	case n.Kind == yaml.ScalarNode && slices.Contains(names, "mode") && slices.Contains([]string{"on", "off", "true", "false"}, n.Value):
		return "fields, such as {mode: " + strings.NewReplacer("true", "on", "false", "off").Replace(n.Value) + "}"
	case len(names) <= fewNames:
		return "fields (" + strings.Join(names, ", ") + ")"
	}
	return "fields"
}

// wantList returns what a list should be, for errors.
func wantList(n *yaml.Node, elem reflect.Type) string {
	if elem.Kind() == reflect.Struct && n.Kind == yaml.MappingNode {
		return "a list of " + wantFields(n, elem)
	}
	return "a list"
}

// mapping calls f with the keys of a mapping and their values, each key once.
func (r *reader) mapping(n *yaml.Node, at *step, want string, f func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.blame(n, at, "is %s, want %s", shown(n), want)
		return
	}
	lines := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || !textual(key) {
			r.blame(key, at, "has a key that is %s, want text%s", shown(key), quoted(key))
			continue
		}
		if line := lines[key.Value]; line > 0 {
			r.blame(key, at.field(key.Value, nil), "is there twice, first in line %d", line)
			continue
		}
		lines[key.Value] = key.Line
		f(key, value)
	}
}

// null reports whether a value is empty or null.
func null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// textual reports whether a scalar is text. Dates are text to all but YAML 1.1.
func textual(n *yaml.Node) bool { return n.ShortTag() == "!!str" || n.ShortTag() == "!!timestamp" }

// shown returns what a value is, for errors.
func shown(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case null(n):
		return "empty"
	case textual(n):
		return fmt.Sprintf("%.64q", n.Value)
	}
	return fmt.Sprintf("%.64s", n.Value)
}

// quoted returns the hint at quotes for a scalar that YAML takes for something else than text.
func quoted(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || null(n) || textual(n) {
		return ""
	}
	return fmt.Sprintf(": write %.64q", n.Value)
}

// want returns what a value should be, for errors.
func want(t reflect.Type) string {
	switch {
	case t == durationType:
		return "a duration such as 250ms"
	case t == timeType:
		return "a time such as 2006-01-02T15:04:05Z"
	case scalar(t):
		if list := enumOf(t); len(list) > 0 {
			return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
		}
	}
	switch t.Kind() {
	case reflect.Struct:
		return "fields"
	case reflect.Map:
		return "names and values"
	case reflect.Slice:
		return "a list"
	case reflect.Pointer:
		return want(t.Elem())
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	timeType     = reflect.TypeFor[time.Time]()
)

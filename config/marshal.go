package config

import (
	"bytes"
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/zerohop/zerohop"
)

// Marshal returns the Spec as a document of YAML, which Parse reads back to an equal one: without the fields that are not set,
// with names in order and times in UTC. It is to be read without ParseOptions.Expand, as it does not double dollar signs.
//
// It fails for a Spec that no document can hold: text that is not UTF-8, numbers that are not finite, years beyond 9999.
func Marshal(spec zerohop.Spec) ([]byte, error) {
	n, err := node(reflect.ValueOf(spec))
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return b.Bytes(), e.Close()
}

// node returns a value as it stands in a document.
func node(v reflect.Value) (*yaml.Node, error) {
	if scalar(v.Type()) {
		return scalarNode(v)
	}
	switch v.Kind() {
	case reflect.Pointer:
		return node(v.Elem())
	case reflect.Struct:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, f := range fieldsOf(v.Type()) {
			if unset(v.Field(f.index)) {
				continue
			}
			if err := add(n, f.name, v.Field(f.index)); err != nil {
				return nil, err
			}
		}
		return n, nil
	case reflect.Map:
		n := &yaml.Node{Kind: yaml.MappingNode}
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) })
		for _, key := range keys {
			if err := add(n, key.String(), v.MapIndex(key)); err != nil {
				return nil, err
			}
		}
		return n, nil
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			child, err := node(v.Index(i))
			if err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
			n.Content = append(n.Content, child)
		}
		return n, nil
	}
	panic("config: no document can hold a " + v.Type().String())
}

func add(n *yaml.Node, key string, v reflect.Value) error {
	name, err := textNode(key)
	if err != nil {
		return err
	}
	child, err := node(v)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	n.Content = append(n.Content, name, child)
	return nil
}

// unset reports whether a field needs no place in a document.
func unset(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice:
		return v.Len() == 0
	case reflect.Struct:
		if scalar(v.Type()) {
			break
		}
		for _, f := range fieldsOf(v.Type()) {
			if !unset(v.Field(f.index)) {
				return false
			}
		}
		return true
	}
	return v.IsZero()
}

func scalarNode(v reflect.Value) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.ScalarNode} // without a tag: 10 is no !!float to the encoder, which would write so
	switch x := v.Interface().(type) {
	case time.Duration:
		return textNode(x.String())
	case time.Time:
		x = x.UTC()
		if y := x.Year(); y < 0 || y > 9999 {
			return nil, fmt.Errorf("the year must be between 0 and 9999, got %d", y)
		}
		n.Tag, n.Value = "!!timestamp", x.Format(time.RFC3339Nano)
		return n, nil
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		if err != nil {
			return nil, err
		}
		return textNode(string(text))
	}
	switch {
	case v.Kind() == reflect.String:
		return textNode(v.String())
	case v.Kind() == reflect.Bool:
		n.Value = strconv.FormatBool(v.Bool())
	case v.CanFloat():
		n.Value = strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits())
		if !number.MatchString(n.Value) {
			return nil, fmt.Errorf("must be finite, got %v", v.Float())
		}
	case v.CanInt():
		n.Value = strconv.FormatInt(v.Int(), 10)
	default:
		n.Value = strconv.FormatUint(v.Uint(), 10)
	}
	return n, nil
}

// textNode quotes what is not plain letters. The encoder quotes what would be no text without.
func textNode(text string) (*yaml.Node, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("%.64q is not UTF-8", text)
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if text == "" || strings.TrimSpace(text) != text || strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n, nil
}

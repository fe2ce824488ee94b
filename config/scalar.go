package config

import (
	"encoding"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/zerohop/zerohop"
)

// number is that of JSON, which all readers of YAML take for the same.
var (
	number    = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)
	unitless  = regexp.MustCompile(`^[-+]?[0-9]*\.?[0-9]+$`)
	days      = regexp.MustCompile(`^[0-9.]+ ?(d|days?|w|weeks?)$`)
	durations = regexp.MustCompile(durationPattern)
	times     = regexp.MustCompile(timePattern)
)

const (
	durationPattern = `^-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`
	timePattern     = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$`
)

var (
	textType    = reflect.TypeFor[encoding.TextUnmarshaler]()
	marshalType = reflect.TypeFor[encoding.TextMarshaler]()
)

// scalar reports whether values of a type are scalars in a document.
func scalar(t reflect.Type) bool {
	if t == timeType || reflect.PointerTo(t).Implements(textType) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return true
	}
	return false
}

// enumOf returns the words that values of a type are written as, if these are few.
func enumOf(t reflect.Type) []string {
	switch {
	case t == reflect.TypeFor[zerohop.Switch]():
		return []string{string(zerohop.On), string(zerohop.Off)}
	case t == reflect.TypeFor[zerohop.Fallback]():
		return []string{string(zerohop.FallbackNone), string(zerohop.FallbackAny), string(zerohop.FallbackDefault), string(zerohop.FallbackStable)}
	case t.Kind() == reflect.Uint8 && t.Implements(marshalType):
		var list []string
		for i := range math.MaxUint8 + 1 {
			text, err := reflect.ValueOf(uint8(i)).Convert(t).Interface().(encoding.TextMarshaler).MarshalText()
			if err == nil && len(text) > 0 {
				list = append(list, string(text))
			}
		}
		return list
	}
	return nil
}

// scalar reads a scalar into v.
func (r *reader) scalar(n *yaml.Node, v reflect.Value, at *step) {
	if n.Kind != yaml.ScalarNode {
		r.blame(n, at, "is %s, want %s", shown(n), want(v.Type()))
		return
	}
	text, expanded, ok := r.text(n, at)
	if !ok {
		return
	}
	if expanded { // its type is what it is wanted for
		n = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Line: n.Line, Column: n.Column}
	}
	plain := func(tags ...string) bool { // whether the value is of one of the tags
		for _, tag := range tags {
			if n.ShortTag() == tag {
				return true
			}
		}
		return expanded
	}
	t := v.Type()
	switch {
	case t == durationType:
		d, err := time.ParseDuration(text)
		switch {
		case unitless.MatchString(text):
			r.blame(n, at, "is %s, want a duration with its unit, such as %sms or %[2]ss", shown(n), text)
		case !textual(n) || err != nil || !durations.MatchString(text):
			hint := ""
			if days.MatchString(text) {
				hint = "; the largest unit is h"
			}
			r.blame(n, at, "is %s, want %s%s", shown(n), want(t), hint)
		default:
			v.SetInt(int64(d))
		}
	case t == timeType:
		when, err := time.Parse(time.RFC3339Nano, text)
		if !textual(n) || err != nil || !times.MatchString(text) {
			r.blame(n, at, "is %s, want %s", shown(n), want(t))
			return
		}
		v.Set(reflect.ValueOf(when))
	case reflect.PointerTo(t).Implements(textType):
		if !textual(n) || v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)) != nil {
			r.blame(n, at, "is %s, want %s", shown(n), want(t))
		}
	case v.Kind() == reflect.String:
		if !textual(n) {
			r.blame(n, at, "is %s, want %s%s", shown(n), want(t), meant(n, t))
			return
		}
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		if !plain("!!bool") || text != "true" && text != "false" {
			r.blame(n, at, "is %s, want true or false", shown(n))
			return
		}
		v.SetBool(text == "true")
	case v.CanFloat():
		f, err := strconv.ParseFloat(text, t.Bits())
		if !plain("!!int", "!!float") || err != nil || !number.MatchString(text) {
			r.blame(n, at, "is %s, want a number", shown(n))
			return
		}
		v.SetFloat(f)
	default:
		r.integer(n, text, plain("!!int"), v, at)
	}
}

func (r *reader) integer(n *yaml.Node, text string, plain bool, v reflect.Value, at *step) {
	t := v.Type()
	if !plain || !number.MatchString(text) {
		r.blame(n, at, "is %s, want a whole number", shown(n))
		return
	}
	if v.CanInt() {
		i, err := strconv.ParseInt(text, 10, t.Bits())
		if err != nil {
			r.blame(n, at, "is %s, want a whole number of %d bits", shown(n), t.Bits())
		}
		v.SetInt(i)
		return
	}
	u, err := strconv.ParseUint(text, 10, t.Bits())
	if err != nil {
		most := uint64(math.MaxUint64) >> (64 - t.Bits())
		r.blame(n, at, "is %s, want a whole number from 0 to %d", shown(n), most)
	}
	v.SetUint(u)
}

// meant returns a hint for a scalar that should be text and is not.
func meant(n *yaml.Node, t reflect.Type) string {
	if t == reflect.TypeFor[zerohop.Switch]() {
		return "; what turned on into true reads YAML 1.1, so put it into quotes"
	}
	return quoted(n)
}

package zerohop

import (
	"cmp"
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FieldChange is a field in which two specs differ.
type FieldChange struct {
	// Path is where the field is, such as "services.orders.retry.attempts". Routes are told apart by their names, as in
	// "routes.canary.backends[0].weight", and by their places if they have none: "routes[2].policy". "routes" alone is the order of
	// those with a name.
	Path string
	// Old and New are its values as text; empty where the field is not set. Of long ones the beginning is told.
	Old, New string
}

// String returns the change in a line.
func (c FieldChange) String() string {
	switch {
	case c.Old == "":
		return fmt.Sprintf("%s: set to %s", c.Path, c.New)
	case c.New == "":
		return fmt.Sprintf("%s: was %s, is no longer set", c.Path, c.Old)
	}
	return fmt.Sprintf("%s: %s -> %s", c.Path, c.Old, c.New)
}

// Diff returns the fields in which two specs differ, in the order of their paths. Those that are not set are equal to those that
// are empty. It says nothing of what a field that is not set inherits.
func Diff(old, new Spec) []FieldChange { return diff(old.flat(), new.flat()) }

func diff(old, new map[string]string) []FieldChange {
	var list []FieldChange
	for path, is := range new {
		if was := old[path]; was != is && path != orderPath {
			list = append(list, FieldChange{path, brief(was), brief(is)})
		}
	}
	for path, was := range old {
		if _, ok := new[path]; !ok && path != orderPath {
			list = append(list, FieldChange{path, brief(was), ""})
		}
	}
	if was, is := common(old, new), common(new, old); was != is {
		list = append(list, FieldChange{"routes", brief(was), brief(is)})
	}
	slices.SortFunc(list, func(a, b FieldChange) int { return cmp.Compare(a.Path, b.Path) })
	return list
}

// orderPath is where a flat spec has the names of its routes in order. No field has such a path.
const orderPath = "\x00"

// common returns the names of the routes of a flat spec that another one has, too, in order.
func common(of, other map[string]string) string {
	if of[orderPath] == other[orderPath] {
		return ""
	}
	there := map[string]bool{}
	for name := range strings.SplitSeq(other[orderPath], "\n") {
		there[name] = true
	}
	var names []string
	for name := range strings.SplitSeq(of[orderPath], "\n") {
		if there[name] {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// brief shortens what would fill the screen.
func brief(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// flat returns the values of all fields that are set, by path.
func (s Spec) flat() map[string]string {
	out := map[string]string{}
	flatten(out, "defaults", reflect.ValueOf(s.Defaults))
	for name, p := range s.Services {
		flattenEntry(out, "services."+name, reflect.ValueOf(p))
	}
	for name, p := range s.Policies {
		flattenEntry(out, "policies."+name, reflect.ValueOf(p))
	}
	var order []string
	for i, r := range s.Routes {
		path := fmt.Sprintf("routes[%d]", i)
		if r.Name != "" {
			path = "routes." + r.Name
			order = append(order, r.Name)
		}
		r.Name = ""
		flattenEntry(out, path, reflect.ValueOf(r))
	}
	out[orderPath] = strings.Join(order, "\n")
	return out
}

// flattenEntry is flatten for what is something even if nothing in it is set, or only what is empty.
func flattenEntry(out map[string]string, path string, v reflect.Value) {
	before := len(out)
	if flatten(out, path, v); len(out) == before {
		out[path] = "{}"
	}
}

// flatten adds what is set of a value.
func flatten(out map[string]string, path string, v reflect.Value) {
	switch x := v.Interface().(type) {
	case time.Duration:
		if x != 0 {
			out[path] = x.String()
		}
		return
	case encoding.TextMarshaler:
		if text, err := x.MarshalText(); err == nil && !v.IsZero() {
			out[path] = string(text)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if f := v.Field(i); f.Kind() != reflect.Struct || !f.IsZero() {
				flatten(out, path+"."+name, f)
			}
		}
	case reflect.Map:
		for _, k := range slices.Sorted(maps.Keys(texts(v))) {
			flattenSet(out, path+"."+k, v.MapIndex(reflect.ValueOf(k)))
		}
	case reflect.Slice:
		for i := range v.Len() {
			flattenSet(out, path+"["+strconv.Itoa(i)+"]", v.Index(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			flattenSet(out, path, v.Elem())
		}
	default:
		if !v.IsZero() {
			out[path] = fmt.Sprint(v.Interface())
		}
	}
}

// flattenSet is flatten for what is there even if it is zero.
func flattenSet(out map[string]string, path string, v reflect.Value) {
	switch {
	case v.Kind() == reflect.Struct:
		flattenEntry(out, path, v)
	case !v.IsZero():
		flatten(out, path, v)
	case v.Kind() == reflect.String:
		out[path] = `""`
	default:
		out[path] = fmt.Sprint(v.Interface())
	}
}

// texts returns the keys of a map of strings.
func texts(v reflect.Value) map[string]struct{} {
	keys := make(map[string]struct{}, v.Len())
	for _, k := range v.MapKeys() {
		keys[k.String()] = struct{}{}
	}
	return keys
}

// Package importtest checks that importers drop nothing silently.
package importtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
)

// Import is what the importers have in common.
type Import func(docs []byte, opts importing.Options) (zerohop.Spec, importing.Report, error)

// Suite changes each value of an object that has all fields set, one at a time. Either the Spec or the report has to be another
// one then, or the report has to say that the field is lost. Under the race detector it changes some of them.
type Suite struct {
	Import  Import
	Options importing.Options
	// Object is the object in YAML, with each field set somewhere.
	Object string
	// Values are other values for fields that cannot have any, by their path without indexes.
	Values map[string]any
	// Books are paths, with all below, that do not matter: what a cluster keeps in its books.
	Books []string
}

var index = regexp.MustCompile(`\[[0-9]+\]`)

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	t.Helper()
	var object any
	if err := yaml.UnmarshalStrict([]byte(s.Object), &object); err != nil {
		t.Fatal(err)
	}
	before, _ := s.told(t, "", object)
	n := 0
	s.walk(object, "", func(path string, set func(any), old any) {
		for _, b := range s.Books {
			if path == b || strings.HasPrefix(path, b+".") {
				return
			}
		}
		value, ok := s.Values[index.ReplaceAllString(path, "[]")]
		if !ok {
			value = other(old)
		}
		if n++; n%every != 1%every { // the first is always changed
			return
		}
		set(value)
		after, report := s.told(t, path, object)
		set(old)
		if before == after && !slices.ContainsFunc(report.Losses, func(l importing.Loss) bool { return tells(l, path) }) {
			t.Errorf("%s = %v: neither the spec nor the report says so", path, value)
		}
	})
	if n == 0 {
		t.Error("there is nothing to change")
	}
}

// tells reports whether a loss is of the field, or of all that holds it.
func tells(l importing.Loss, path string) bool {
	return l.Path == path || l.Severity != importing.Approximated && (strings.HasPrefix(path, l.Path+".") || strings.HasPrefix(path, l.Path+"["))
}

// told returns what an object is imported as, in text.
func (s Suite) told(t *testing.T, path string, object any) (string, importing.Report) {
	t.Helper()
	doc, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	spec, report, err := s.Import(doc, s.Options)
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	text, err := json.Marshal([]any{spec, report})
	if err != nil {
		t.Fatal(err)
	}
	return string(text), report
}

func (s Suite) walk(v any, path string, visit func(path string, set func(any), old any)) {
	each := func(path string, v any, set func(any)) {
		switch v.(type) {
		case map[string]any, []any:
			s.walk(v, path, visit)
		default:
			visit(path, set, v)
		}
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			each(importing.Join(path, k), v[k], func(x any) { v[k] = x })
		}
	case []any:
		for i := range v {
			each(fmt.Sprintf("%s[%d]", path, i), v[i], func(x any) { v[i] = x })
		}
	}
}

func other(v any) any {
	switch v := v.(type) {
	case string:
		return v + "x"
	case float64:
		return v + 1
	case int64:
		return v + 1
	case bool:
		return !v
	}
	return v
}

// Covers fails the test for each field of the type that is set nowhere in v, by its path without indexes.
func Covers(t *testing.T, v any, books []string) {
	t.Helper()
	all, set := map[string]bool{}, map[string]bool{}
	types(reflect.TypeOf(v), "", all, 0)
	values(reflect.ValueOf(v), "", set)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if set[path] || slices.ContainsFunc(books, func(b string) bool { return path == b || strings.HasPrefix(path, b+".") }) {
			continue
		}
		t.Errorf("the object does not set %s", path)
	}
}

func types(t reflect.Type, path string, all map[string]bool, depth int) {
	if depth > 20 {
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		types(t.Elem(), path, all, depth+1)
	case reflect.Slice:
		types(t.Elem(), path+"[]", all, depth+1)
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() {
				types(f.Type, named(f, path), all, depth+1)
			}
		}
	default:
		all[path] = true
	}
}

func values(v reflect.Value, path string, set map[string]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			set[path] = true
			values(v.Elem(), path, set)
		}
	case reflect.Slice:
		for i := range v.Len() {
			values(v.Index(i), path+"[]", set)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				values(v.Field(i), named(f, path), set)
			}
		}
	default:
		set[path] = set[path] || !v.IsZero()
	}
}

func named(f reflect.StructField, path string) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" || name == "-" {
		return path
	}
	return importing.Join(path, name)
}

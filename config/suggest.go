package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// field is a field of a struct that a document can set.
type field struct {
	name  string
	index int
	typ   reflect.Type
}

var fieldCache sync.Map // reflect.Type to []field

// fieldsOf returns the fields of a struct in their order, by the names that they have in documents.
func fieldsOf(t reflect.Type) []field {
	if list, ok := fieldCache.Load(t); ok {
		return list.([]field)
	}
	var list []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if f.IsExported() && name != "-" {
			if name == "" {
				panic(fmt.Sprintf("config: %v.%s has no name in documents", t, f.Name))
			}
			list = append(list, field{name, i, f.Type})
		}
	}
	fieldCache.Store(t, list)
	return list
}

// suggestion returns what may have been meant by a field that a struct does not have, as the end of an error: a field with
// almost the same name, one of this name further in, or one of this name further out.
func suggestion(key string, t reflect.Type, at *step) string {
	switch {
	case len(key) > 64:
		return ""
	case at == nil && key == "apiVersion":
		return ": for objects of Kubernetes there is zerohop import"
	}
	key = folded(key)
	best, least := "", 1+min(2, (len(key)-1)/2)
	for _, f := range fieldsOf(t) {
		if d := distance(key, folded(f.name)); d < least {
			best, least = f.name, d
		}
	}
	if best != "" {
		return fmt.Sprintf(", did you mean %q?", best)
	}
	if path := inside(key, t, 0); path != "" {
		return fmt.Sprintf(", did you mean %q?", strings.TrimPrefix(at.String()+"."+path, "."))
	}
	for s := at; s != nil; s = s.up {
		if s.typ == nil {
			continue
		}
		for _, f := range fieldsOf(s.typ) {
			if folded(f.name) == key {
				further := fmt.Sprintf(", did you mean %q?", strings.TrimPrefix(s.up.String()+"."+f.name, "."))
				if names := namesOf(t); len(names) <= fewNames {
					further += " Here are " + strings.Join(names, ", ")
				}
				return further
			}
		}
	}
	if names := namesOf(t); len(names) <= fewNames {
		return ", want one of " + strings.Join(names, ", ")
	}
	return ""
}

// fewNames is how many names an error lists.
const fewNames = 12

// namesOf returns the names of the fields of a struct in order.
func namesOf(t reflect.Type) []string {
	var names []string
	for _, f := range fieldsOf(t) {
		names = append(names, f.name)
	}
	slices.Sort(names)
	return names
}

// inside returns the path of the nearest field with the folded name in the structs of a struct.
func inside(name string, t reflect.Type, depth int) string {
	found := ""
	for _, f := range fieldsOf(t) {
		elem := f.typ
		if elem.Kind() == reflect.Pointer {
			elem = elem.Elem()
		}
		if elem.Kind() != reflect.Struct || scalar(elem) || depth > 2 {
			continue
		}
		for _, inner := range fieldsOf(elem) {
			if folded(inner.name) == name {
				return f.name + "." + inner.name
			}
		}
		if path := inside(name, elem, depth+1); path != "" && (found == "" || strings.Count(path, ".") < strings.Count(found, ".")-1) {
			found = f.name + "." + path
		}
	}
	return found
}

// folded makes names alike that differ in how words are joined.
func folded(name string) string {
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name))
}

// distance is how many bytes have to be inserted, removed, replaced or swapped with the next to make b of a.
func distance(a, b string) int {
	before, last, now := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		now[0] = i + 1
		for j := range len(b) {
			differ := 1
			if a[i] == b[j] {
				differ = 0
			}
			now[j+1] = min(last[j]+differ, last[j+1]+1, now[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				now[j+1] = min(now[j+1], before[j-1]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}

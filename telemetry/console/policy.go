package console

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/zerohop/zerohop"
)

// policyView returns the policy of calls to a service under a route with the named policy, and false if there is no such service or policy.
func (c *Console) policyView(mesh, service, policy string) (PolicyView, bool) {
	o, s, _ := c.find(mesh, service)
	if s == nil {
		return PolicyView{}, false
	}
	spec, number := o.specNow()
	v := PolicyView{ServiceName: ServiceName{o.id, service}, Policy: policy, Generation: number, Layers: []string{}, Fields: []PolicyField{}}
	own := ""
	for _, p := range slices.Sorted(maps.Keys(spec.Policies)) {
		if v.Policies = append(v.Policies, name(p)); name(p) == policy {
			own = p
		}
	}
	if policy != "" && own == "" {
		return PolicyView{}, false
	}
	for _, l := range spec.Layers(s.Name, own) {
		v.Layers = append(v.Layers, name(l.Path))
	}
	add := func(path, value string) {
		v.Fields = append(v.Fields, PolicyField{Path: name(path), Value: value, Origin: name(spec.Origin(s.Name, own, path))})
	}
	fields(reflect.ValueOf(spec.Effective(s.Name, own)), "", add)
	return v, true
}

// fields calls add with the fields of a policy that are set.
func fields(v reflect.Value, path string, add func(path, value string)) {
	for i := range v.NumField() {
		f := v.Field(i)
		tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if f.IsZero() || tag == "" || tag == "-" {
			continue
		}
		at := tag
		if path != "" {
			at = path + "." + tag
		}
		if _, ok := f.Interface().(encoding.TextMarshaler); f.Kind() == reflect.Struct && !ok {
			fields(f, at, add)
			continue
		}
		add(at, fieldText(at, f))
	}
}

// fieldText returns the value of a field. Policies name headers and cookies, but what is in those is up to the call; values under names
// that sound secret are left out all the same.
func fieldText(path string, f reflect.Value) string {
	switch x := f.Interface().(type) {
	case time.Duration:
		return x.String()
	case map[string]string:
		var list []string
		for _, k := range slices.Sorted(maps.Keys(x)) {
			list = append(list, name(k)+"="+value(k, x[k]))
		}
		return strings.Join(list, ", ")
	case []zerohop.HashSource:
		var list []string
		for _, h := range x {
			list = append(list, hashText(h))
		}
		return strings.Join(list, ", ")
	case encoding.TextMarshaler:
		if t, err := x.MarshalText(); err == nil {
			return text(string(t))
		}
	}
	if f.Kind() == reflect.Pointer {
		return text(fmt.Sprint(f.Elem().Interface()))
	}
	return text(fmt.Sprint(f.Interface()))
}

func hashText(h zerohop.HashSource) string {
	switch {
	case h.Header != "":
		return "header " + name(h.Header)
	case h.Cookie != "":
		return "cookie " + name(h.Cookie)
	case h.Query != "":
		return "parameter " + name(h.Query)
	case h.Path:
		return "path"
	default:
		return "client"
	}
}

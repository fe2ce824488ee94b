package zerohop

import (
	"errors"
	"fmt"
	"reflect"
)

// Limits on a Spec. They bound what one from afar can cost before anything else is looked at.
const (
	// maxServices is how many services a spec may name: each is watched. Ten thousand watches are what a large registry has to offer.
	maxServices = 10_000
	maxPolicies = 1000
	// maxSpecBytes is how much text there may be in a spec: names, values and keys. A ConfigMap may have 1 MiB, an entry of Consul 512 KiB.
	maxSpecBytes = 8 << 20
)

// bounded reports what there is too much of.
func (s *Spec) bounded() error {
	var errs []error
	check := func(field string, n, most int) {
		if n > most {
			errs = append(errs, fmt.Errorf("%s: %d %s, at most %d are allowed", field, n, field, most))
		}
	}
	check("services", len(s.Services), maxServices)
	check("policies", len(s.Policies), maxPolicies)
	check("routes", len(s.Routes), maxRoutes)
	if errs != nil { // the rest may take long
		return errors.Join(errs...)
	}
	names := map[string]struct{}{}
	note := func(name string) { names[name] = struct{}{} }
	for name, p := range s.Services {
		note(name)
		note(p.Fallback.Service)
	}
	for _, p := range s.Policies {
		note(p.Fallback.Service)
	}
	for i := range s.Routes {
		r := &s.Routes[i]
		note(r.Match.Service)
		for j := range r.Or {
			note(r.Or[j].Service)
		}
		for j := range r.Backends {
			note(r.Backends[j].Service)
		}
		for j := range r.Mirrors {
			note(r.Mirrors[j].Service)
		}
	}
	if n := len(names); n > maxServices {
		errs = append(errs, fmt.Errorf("services: %d are named in all, with those of routes and fallbacks, at most %d are allowed", n, maxServices))
	}
	if n := textOf(reflect.ValueOf(*s)); n > maxSpecBytes {
		errs = append(errs, fmt.Errorf("spec: %d bytes of text, at most %d are allowed", n, maxSpecBytes))
	}
	return errors.Join(errs...)
}

// maxRoutes is what package routing allows.
const maxRoutes = 1000

// textOf returns how many bytes of text there are in a value.
func textOf(v reflect.Value) (n int) {
	switch v.Kind() {
	case reflect.String:
		return v.Len()
	case reflect.Struct:
		if v.IsZero() {
			return 0
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				n += textOf(v.Field(i))
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			n += textOf(it.Key()) + textOf(it.Value())
		}
	case reflect.Slice:
		for i := range v.Len() {
			n += textOf(v.Index(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			n = textOf(v.Elem())
		}
	}
	return n
}

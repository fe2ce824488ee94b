package zerohop

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
)

// Select keeps calls to the endpoints that have some metadata (discovery.Endpoint.Meta), such as a version or a
// shard. Among these, priorities, zones and panic are decided as if there were no others. A route that has one sends part of
// the calls of a service to part of its endpoints.
type Select struct {
	// Mode switches the selection. The built-in default is On, which matters only if there is a Match or there are Headers.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Match is what endpoints must have: values by key. Empty inherits.
	Match map[string]string `json:"match,omitempty" yaml:"match,omitempty"`
	// Headers are names of headers (HTTP) or metadata (gRPC) of the call, by the key whose value they hold: {"version":
	// "X-API-Version"}. Where the call does not have the header, the value is that of Match, or else the key does not
	// matter. There may be four. Empty inherits.
	Headers map[string]string `json:"headers,omitempty" yaml:"headers,omitempty"`
	// Fallback is where calls go if no endpoint matches, healthy or not. The built-in default is FallbackNone.
	Fallback Fallback `json:"fallback,omitempty" yaml:"fallback,omitempty"`
	// Default is what endpoints must have for FallbackDefault. Empty inherits, but not in a policy with that Fallback.
	Default map[string]string `json:"default,omitempty" yaml:"default,omitempty"`
}

// Fallback says where calls go if no endpoint has the metadata that they ask for. The zero value inherits.
type Fallback string

const (
	// FallbackNone makes them fail with loadbalance.ErrNoMatch.
	FallbackNone Fallback = "none"
	// FallbackAny sends them to any endpoint.
	FallbackAny Fallback = "any"
	// FallbackDefault sends them to endpoints with other metadata, Select.Default, and else makes them fail.
	FallbackDefault Fallback = "default"
)

const (
	// maxSelectHeaders bounds what callers can leave out: each combination of keys divides the endpoints anew.
	maxSelectHeaders = 4
	maxSelectKeys    = 16
)

func (s Select) over(wide Select) Select {
	return Select{
		Mode:     pick(s.Mode, wide.Mode),
		Match:    mapped(s.Match, wide.Match),
		Headers:  mapped(s.Headers, wide.Headers),
		Fallback: pick(s.Fallback, wide.Fallback),
		Default:  mapped(s.Default, wide.Default),
	}
}

// mapped is pick for maps, of which the narrow one replaces the wide one.
func mapped(narrow, wide map[string]string) map[string]string {
	if len(narrow) > 0 {
		return narrow
	}
	return wide
}

// validate reports every mistake but those of switches.
func (s *Select) validate(path string) error {
	var errs []error
	fail := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s.%s: %s", path, field, fmt.Sprintf(format, args...)))
	}
	for _, f := range []struct {
		field string
		pairs map[string]string
		most  int
	}{{"match", s.Match, maxSelectKeys}, {"headers", s.Headers, maxSelectHeaders}, {"default", s.Default, maxSelectKeys}} {
		if len(f.pairs) > f.most {
			fail(f.field, "must have at most %d keys, got %d", f.most, len(f.pairs))
		}
		if _, ok := f.pairs[""]; ok {
			fail(f.field, "a key must not be empty")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Headers)) {
		if name := s.Headers[key]; !routing.ValidHeader(name) {
			fail("headers."+key, "%q is not a header that can hold a value", name)
		}
	}
	switch s.Fallback {
	case "", FallbackNone, FallbackAny:
	case FallbackDefault:
		if len(s.Default) == 0 {
			fail("default", `must be set where fallback is "default"`)
		}
	default:
		fail("fallback", `must be "none", "any" or "default", got %q`, string(s.Fallback))
	}
	return errors.Join(errs...)
}

// selector is a Select made ready for calls.
type selector struct {
	fixed    metadata          // of all calls, if there are no headers
	keys     []string          // in order, if there are
	match    map[string]string // by key
	headers  map[string]string // by key
	fallback Fallback
	instead  metadata // for FallbackDefault
}

// metadata are keys in order and their values.
type metadata struct{ keys, values []string }

func metadataOf(pairs map[string]string) (m metadata) {
	m.keys = slices.Sorted(maps.Keys(pairs))
	for _, k := range m.keys {
		m.values = append(m.values, pairs[k])
	}
	return m
}

func newSelector(s *Select) *selector {
	x := &selector{fallback: s.Fallback, instead: metadataOf(s.Default)}
	if s.Mode == Off {
		return x
	}
	x.match, x.headers = s.Match, s.Headers
	if len(s.Headers) == 0 {
		x.fixed = metadataOf(s.Match)
		return x
	}
	all := maps.Clone(s.Headers)
	maps.Copy(all, s.Match)
	x.keys = slices.Sorted(maps.Keys(all))
	return x
}

// active reports whether calls are selected for that do not ask for anything themselves.
func (x *selector) active() bool { return len(x.fixed.keys)+len(x.keys) > 0 }

// of returns what a call with the headers asks for. own comes from its CallOptions.
func (x *selector) of(h routing.Values, own map[string]string) metadata {
	if len(x.keys)+len(own) == 0 {
		return x.fixed
	}
	if len(own) > 0 {
		all := maps.Clone(own)
		for _, m := range []metadata{x.fixed, x.told(h)} {
			for i, k := range m.keys {
				if _, ok := own[k]; !ok {
					all[k] = m.values[i]
				}
			}
		}
		return metadataOf(all)
	}
	return x.told(h)
}

// told returns what the headers of a call ask for, and Match where they do not.
func (x *selector) told(h routing.Values) metadata {
	m := metadata{make([]string, 0, len(x.keys)), make([]string, 0, len(x.keys))}
	for _, k := range x.keys {
		v, ok := x.match[k]
		if name := x.headers[k]; name != "" && h != nil {
			if s := h.Get(name); s != "" {
				v, ok = s, true
			}
		}
		if ok {
			m.keys, m.values = append(m.keys, k), append(m.values, v)
		}
	}
	return m
}

// nothing is an empty set.
var nothing loadbalance.Set

// choose returns the part of set that a call may go to that asks for m. What there is to fall back on is decided by known, all
// endpoints of the service, of which set are those that can be reached. It returns loadbalance.ErrNoMatch if that is nothing.
func (x *selector) choose(m metadata, set, known *loadbalance.Set) (*loadbalance.Set, error) {
	if len(m.keys) == 0 || len(known.Nodes()) == 0 {
		return set, nil
	}
	if known.Matching(m.keys, m.values) == nil {
		switch x.fallback {
		case FallbackAny:
			return set, nil
		case FallbackDefault:
			m = x.instead
			if len(m.keys) > 0 && known.Matching(m.keys, m.values) != nil {
				break
			}
			fallthrough
		default:
			return nil, loadbalance.ErrNoMatch
		}
	}
	if sub := set.Matching(m.keys, m.values); sub != nil {
		return sub, nil
	}
	return &nothing, nil
}

package routing

import (
	"maps"
	"slices"
)

// clone returns a copy that shares nothing with the rule that can change.
func (r Rule) clone() Rule {
	r.Match = r.Match.clone()
	r.Or = slices.Clone(r.Or)
	for i := range r.Or {
		r.Or[i] = r.Or[i].clone()
	}
	r.Backends = slices.Clone(r.Backends)
	for i := range r.Backends {
		b := &r.Backends[i]
		b.Select, b.Headers = maps.Clone(b.Select), b.Headers.clone()
	}
	r.Split.Key = slices.Clone(r.Split.Key)
	r.Mirrors = slices.Clone(r.Mirrors)
	for i := range r.Mirrors {
		m := &r.Mirrors[i]
		m.Select, m.Percent = maps.Clone(m.Select), copyOf(m.Percent)
	}
	w := &r.Rewrite
	w.Path.Prefix = copyOf(w.Path.Prefix)
	w.Query, w.Request, w.Response = w.Query.clone(), w.Request.clone(), w.Response.clone()
	r.Fault.DelayPercent, r.Fault.AbortPercent = copyOf(r.Fault.DelayPercent), copyOf(r.Fault.AbortPercent)
	if r.Response = copyOf(r.Response); r.Response != nil {
		r.Response.Headers = maps.Clone(r.Response.Headers)
	}
	return r
}

func (m Match) clone() Match {
	m.Headers, m.Query, m.Cookies = slices.Clone(m.Headers), slices.Clone(m.Query), slices.Clone(m.Cookies)
	m.Percent = copyOf(m.Percent)
	return m
}

func (h Headers) clone() Headers {
	return Headers{Set: maps.Clone(h.Set), Add: maps.Clone(h.Add), Remove: slices.Clone(h.Remove)}
}

func copyOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

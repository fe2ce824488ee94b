package telemetry

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/propagation"
)

const (
	// maxHeader and maxMembers are what the specifications of trace context and baggage have everybody carry. Who sends more wants
	// something else: to parse it costs memory, and it would be sent on with each call that is made for the request.
	maxHeader  = 8192
	maxMembers = 64
)

// Extract returns a context with the trace and the baggage that a request has in its headers, for servers that are not instrumented
// otherwise: calls made with the context continue the trace and hand on the baggage. values returns the values of a header:
// http.Header.Values, or metadata.MD.Get of gRPC. p is usually that of Config.Propagator; nil means the global one.
//
//	next.ServeHTTP(w, r.WithContext(telemetry.Extract(r.Context(), nil, r.Header.Values)))
//
// Headers come from anybody. Of each at most 8 KiB are read and 64 members: one that is longer is taken as absent, and members
// beyond the 64th are left out. What is not valid is left out, too. Nothing of it becomes an attribute of a metric. Servers that
// trust no caller extract nothing and begin a trace of their own.
func Extract(ctx context.Context, p propagation.TextMapPropagator, values func(key string) []string) context.Context {
	if p = propagatorOr(p); p == nil {
		return ctx
	}
	return p.Extract(ctx, received(values))
}

// received lets a propagator read headers, within limits. It implements propagation.ValuesGetter.
type received func(key string) []string

// Values returns the values of a header, as one.
func (r received) Values(key string) []string {
	if v := r.Get(key); v != "" {
		return []string{v}
	}
	return nil
}

// Get returns the values of a header, joined as lists are.
func (r received) Get(key string) string {
	values := r(key)
	if len(values) == 0 {
		return ""
	}
	size := len(values) - 1
	for _, v := range values {
		if size += len(v); size > maxHeader {
			return ""
		}
	}
	text := values[0]
	if len(values) > 1 {
		text = strings.Join(values, ",")
	}
	rest := text
	for range maxMembers {
		_, after, more := strings.Cut(rest, ",")
		if !more {
			return text
		}
		rest = after
	}
	return strings.TrimSuffix(text[:len(text)-len(rest)], ",")
}

// Set does nothing: what was received stays as it is.
func (received) Set(string, string) {}

// Keys returns none: what is not asked for by name is not read.
func (received) Keys() []string { return nil }

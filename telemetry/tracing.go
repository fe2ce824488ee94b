package telemetry

import (
	"context"
	"reflect"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/zerohop/zerohop"
)

// tracing makes the spans.
type tracing struct {
	configured   trace.TracerProvider // nil: the global one
	names        *names
	instrumented bool // others make the spans of clients
	last         atomic.Pointer[source]
}

// source is a provider and its tracer, nil if it makes no spans.
type source struct {
	provider trace.TracerProvider
	tracer   trace.Tracer
}

// traced is a span of ours in a context. That of a context need not be: it may be the caller's, which is not ours
// to end.
type traced struct {
	span   trace.Span
	tracer trace.Tracer
	call   *traced      // nil for that of a call
	start  time.Time    // of an attempt
	begun  atomic.Bool  // of a call: it had an attempt
	last   atomic.Int64 // of a call: when its last attempt ended, in ns since 1970; 0 while none has
}

// ours returns the innermost span of ours, nil if the call is not recorded. Other hooks of this package have others in the same context.
func (t *tracing) ours(ctx context.Context) *traced {
	s, _ := ctx.Value(t).(*traced)
	return s
}

// tracer returns the tracer of the provider that is in force, nil if it makes no spans.
func (t *tracing) tracer() trace.Tracer {
	p := t.configured
	if p == nil {
		p = otel.GetTracerProvider()
	}
	if s := t.last.Load(); s != nil && s.provider == p {
		return s.tracer
	}
	if p == nil {
		return nil
	}
	s := &source{provider: p}
	if !t.silent(p) {
		s.tracer = p.Tracer(scope, trace.WithSchemaURL(schema))
	}
	if reflect.ValueOf(p).Comparable() {
		t.last.Store(s)
	}
	return s.tracer
}

// silent reports whether a provider is known to make no spans: that of package noop, and the one that stands in for
// the global one until there is one. To ask it for spans would cost allocations. Once a provider is set, the stand-in
// is the global one no more; it may still be the configured one, and then its spans are real.
func (t *tracing) silent(p trace.TracerProvider) bool {
	if _, ok := p.(noop.TracerProvider); ok {
		return true
	}
	typ := reflect.TypeOf(p)
	return t.configured == nil && typ.Kind() == reflect.Pointer && typ.Elem().PkgPath() == "go.opentelemetry.io/otel/internal/global"
}

func (t *tracing) callStart(ctx context.Context, call *zerohop.CallInfo) context.Context {
	tracer := t.tracer()
	if tracer == nil {
		return t.detach(ctx)
	}
	name := t.names.hosts.bound(call.Service)
	list := append(common(call), criticality.String(call.Criticality.String()))
	list = appendName(appendName(list, lane, clean(call.Lane)), instead, clean(call.Instead))
	if call.Mirror {
		list = append(list, mirror.Bool(true))
	}
	ctx, span := tracer.Start(ctx, "call "+name, trace.WithAttributes(list...))
	if !span.IsRecording() {
		return t.detach(ctx)
	}
	return context.WithValue(ctx, t, &traced{span: span, tracer: tracer})
}

// detach hides the span of a call around this one.
func (t *tracing) detach(ctx context.Context) context.Context {
	if t.ours(ctx) == nil {
		return ctx
	}
	return context.WithValue(ctx, t, (*traced)(nil))
}

// common are the attributes that all spans of a call have.
func common(call *zerohop.CallInfo) []attribute.KeyValue {
	list := make([]attribute.KeyValue, 0, 12)
	list = append(list, service.String(clean(call.Service)))
	return appendName(list, route, clean(call.Route))
}

func (t *tracing) attemptStart(ctx context.Context, call *zerohop.CallInfo, a *zerohop.AttemptInfo) context.Context {
	parent := t.ours(ctx)
	if parent == nil {
		return ctx
	}
	now := time.Now()
	parent.attempting(now, call, a)
	list := append(common(call), attemptNumber.Int(a.Number), attemptBackup.Bool(a.Backup))
	name, kind := "attempt "+t.names.hosts.bound(call.Service), trace.SpanKindInternal
	if !t.instrumented {
		kind = trace.SpanKindClient
		list, name = t.conventional(list, name, call, a)
	}
	if trace.SpanContextFromContext(ctx).SpanID() != parent.span.SpanContext().SpanID() { // other hooks have begun one
		ctx = trace.ContextWithSpan(ctx, parent.span)
	}
	ctx, span := parent.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(list...))
	return context.WithValue(ctx, t, &traced{span: span, tracer: parent.tracer, call: parent, start: now})
}

// conventional returns the attributes and the name that the conventions want the span of an attempt to have.
func (t *tracing) conventional(list []attribute.KeyValue, name string, call *zerohop.CallInfo, a *zerohop.AttemptInfo) ([]attribute.KeyValue, string) {
	list = appendHost(list, serverAddress, serverPort, clean(call.Host))
	method := t.names.method(call.Protocol, call.Method)
	switch call.Protocol {
	case protocolHTTP:
		name = method
		if list = append(list, httpMethod.String(method)); method == other {
			name = "HTTP"
			list = append(list, httpMethodOriginal.String(clean(call.Method)))
		}
		if a.Number > 0 {
			list = append(list, httpResendCount.Int(a.Number))
		}
	case protocolGRPC:
		name = method
		if list = append(list, rpcSystem.String("grpc"), rpcMethod.String(method)); method == other {
			name = "grpc"
			list = append(list, rpcMethodOriginal.String(clean(call.Method)))
		}
	}
	return list, name
}

func (t *tracing) attemptDone(ctx context.Context, call *zerohop.CallInfo, a *zerohop.AttemptInfo, r *zerohop.AttemptResult) {
	s := t.ours(ctx)
	if s == nil || s.call == nil {
		return
	}
	now := time.Now()
	s.call.last.Store(now.UnixNano())
	if s.span.IsRecording() {
		list := make([]attribute.KeyValue, 0, 6)
		if a.Node != nil {
			list = appendHost(list, peerAddress, peerPort, clean(a.Node.Addr()))
		}
		switch r.Network { // what is not TCP; to say so of that could be wrong, as the dialer may be the user's own
		case zerohop.NetworkUnix, zerohop.NetworkInProcess:
			list = append(list, transport.String(transportOf(r.Network)))
		}
		list = append(list, outcome.String(r.Outcome.String()))
		if r.Resends > 0 {
			list = append(list, attemptResends.Int(r.Resends))
		}
		errType := typeOfAnswer(call.Protocol, r.Status, r.Err)
		if t.instrumented {
			list = appendName(list, errorType, errType)
		} else {
			list = appendStatus(list, call.Protocol, r.Status, errType)
		}
		s.span.SetAttributes(list...)
		s.ended(now, a, r)
		s.fail(errType, r.Err)
	}
	s.span.End()
}

func (t *tracing) callDone(ctx context.Context, call *zerohop.CallInfo, r *zerohop.CallResult) {
	s := t.ours(ctx)
	if s == nil {
		return
	}
	list := []attribute.KeyValue{outcome.String(r.Outcome.String()), detail.String(word(r.Detail.String())), callAttempts.Int(r.Attempts)}
	if r.Delayed > 0 {
		list = append(list, delay.Float64(r.Delayed.Seconds()))
	}
	errType := typeOfCall(call, r)
	s.span.SetAttributes(appendName(appendName(list, errorType, errType), responseFlag, string(flagOf(call, r)))...)
	s.fail(errType, r.Err)
	s.span.End()
}

// fail sets the status of a span, which is left unset unless there was an error.
func (t *traced) fail(errType string, err error) {
	switch {
	case errType == "":
	case err == nil: // the status of the answer says it all
		t.span.SetStatus(codes.Error, "")
	default:
		t.span.SetStatus(codes.Error, textOfError(err))
	}
}

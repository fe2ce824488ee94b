package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/zerohop/zerohop"
)

// Events of spans.
const (
	eventDelayed     = "zerohop.call.delayed"
	eventPickDelayed = "zerohop.pick.delayed"
	eventRetry       = "zerohop.retry"
	eventBackup      = "zerohop.backup"
	eventEjected     = "zerohop.ejected"
	eventRefused     = "zerohop.refused"
	eventFallback    = "zerohop.fallback"
	eventExplanation = "zerohop.explanation"

	eventServerRefused = "zerohop.server.refused"
)

const (
	// worthTelling is how long something must have waited for that to be told: a pick takes less than a microsecond, and a
	// goroutine may have to wait for a processor for as long as this where nothing is wrong.
	worthTelling = time.Millisecond
	// maxExplanation is how much of the text of an explanation a span gets, in bytes: it is some 2 KiB for five attempts, and
	// back ends cut or drop what is much longer.
	maxExplanation = 4096
)

// attempting tells on the span of a call why another attempt is made, or why the first one is late.
func (t *traced) attempting(now time.Time, call *zerohop.CallInfo, a *zerohop.AttemptInfo) {
	first := !t.begun.Swap(true)
	switch {
	case a.Backup:
		t.span.AddEvent(eventBackup, trace.WithTimestamp(now), trace.WithAttributes(attemptNumber.Int(a.Number)))
	case a.Number > 0:
		list := append(make([]trace.EventOption, 0, 2), trace.WithTimestamp(now))
		if last := t.last.Load(); last > 0 {
			list = append(list, trace.WithAttributes(attemptNumber.Int(a.Number), delay.Float64(now.Sub(time.Unix(0, last)).Seconds())))
		} else {
			list = append(list, trace.WithAttributes(attemptNumber.Int(a.Number)))
		}
		t.span.AddEvent(eventRetry, list...)
	case first && !call.Start.IsZero():
		if d := now.Sub(call.Start); d >= worthTelling {
			t.span.AddEvent(eventDelayed, trace.WithTimestamp(now), trace.WithAttributes(delay.Float64(d.Seconds())))
		}
	}
}

// ended tells on the span of an attempt when its endpoint was chosen, if it was waited for, and if that is out of service now.
func (t *traced) ended(now time.Time, a *zerohop.AttemptInfo, r *zerohop.AttemptResult) {
	if a.Node == nil {
		return
	}
	if d := now.Sub(t.start) - r.Duration; d >= worthTelling {
		t.span.AddEvent(eventPickDelayed, trace.WithTimestamp(t.start.Add(d)), trace.WithAttributes(delay.Float64(d.Seconds())))
	}
	if a.Node.Ejected() {
		t.span.AddEvent(eventEjected, trace.WithTimestamp(now))
	}
}

func (t *tracing) refused(ctx context.Context, r *zerohop.Refusal) {
	s := t.ours(ctx)
	if s == nil {
		return
	}
	list := []attribute.KeyValue{stage.String(word(string(r.Stage))), enforced.Bool(r.Enforced)}
	if r.Attempt >= 0 {
		list = append(list, attemptNumber.Int(r.Attempt))
	}
	if r.After > 0 {
		list = append(list, delay.Float64(r.After.Seconds()))
	}
	s.span.AddEvent(eventRefused, trace.WithAttributes(list...))
}

// fellBack tells what has answered for a call. The span of the call may have ended; then there is another one for that below it.
func (t *tracing) fellBack(ctx context.Context, by string) {
	s := t.ours(ctx)
	if s == nil {
		return
	}
	list := trace.WithAttributes(append(appendName(nil, fallbackBy, clean(by)), fallback.String(kindOfAnswer(by)))...)
	if s.span.IsRecording() {
		s.span.AddEvent(eventFallback, list)
		return
	}
	_, span := s.tracer.Start(ctx, eventFallback, list)
	span.End()
}

// explained puts an explanation on the span of its call. Nothing in it is of a request but what other attributes of spans have, too.
func (t *tracing) explained(ctx context.Context, e *zerohop.Explanation) {
	s := t.ours(ctx)
	if s == nil {
		return
	}
	s.span.SetAttributes(appendName(nil, reason, string(e.Reason))...)
	s.span.SetAttributes(explained.String(whyExplained(e)), generation.Int64(int64(e.Generation)))
	s.span.AddEvent(eventExplanation, trace.WithAttributes(explanation.String(cut(textOf(e), maxExplanation))))
}

package httpmesh

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// admitted is a reply to a request that an Admission decides on.
type admitted struct {
	reply
	visit zerohop.Visit
}

// reply returns what becomes the http.ResponseWriter of the service.
func (h *Handler) reply(w http.ResponseWriter, r *http.Request) *reply {
	if h.o.Admission == nil || h.o.Exempt != nil && h.o.Exempt(r) {
		return &reply{ResponseWriter: w, handler: h, version: int32(r.ProtoMajor)}
	}
	a := &admitted{reply: reply{ResponseWriter: w, handler: h, version: int32(r.ProtoMajor)}}
	a.reply.visit = &a.visit
	return &a.reply
}

// admit waits until the request may be worked on.
func (h *Handler) admit(ctx context.Context, a *reply, r *http.Request, left time.Duration) error {
	v := a.visit
	v.Operation, v.Criticality, v.Attempt = h.operation(r), a.inbound.Criticality, a.inbound.Attempt
	a.upgrade = r.Method != http.MethodConnect && upgrades(r)
	v.Stream = r.Method == http.MethodConnect || a.upgrade
	if v.Left = left; left == 0 {
		if d, ok := ctx.Deadline(); ok { // that the server has set itself
			v.Left = max(time.Until(d), 1)
		}
	}
	if most, ok := span(r.Header[AttemptTimeoutHeader]); ok {
		v.AttemptLeft = max(most, 1)
	}
	return h.o.Admission.Admit(ctx, v)
}

// operation names what a request asks for. Methods that nobody has heard of share a name, or they would fill the memory.
func (h *Handler) operation(r *http.Request) string {
	if h.o.Operation != nil {
		return h.o.Operation(r)
	}
	if r.Pattern != "" {
		return r.Pattern
	}
	if mux, ok := h.next.(*http.ServeMux); ok {
		if _, pattern := mux.Handler(r); pattern != "" {
			return pattern
		}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return ""
}

// answered notes that the header of the answer is complete. It is not that of an upgrade: those answer with 101, or by
// themselves, and to ask for one is not enough to give up the place early.
func (a *reply) answered(code int) {
	a.status = int32(code)
	a.visit.Answered()
	if a.visit.Stream && !a.upgrade || strings.HasPrefix(first(a.Header()["Content-Type"]), "text/event-stream") {
		a.visit.Leave(resilience.HTTPStatus(code, 0).Outcome)
	}
}

// leave gives the place of the request back when the handler has returned, or panicked.
func (a *reply) leave(ctx context.Context) {
	o := resilience.Failure
	switch {
	case a.status > 0:
		o = resilience.HTTPStatus(int(a.status), 0).Outcome
	case errors.Is(ctx.Err(), context.Canceled): // the caller went away
		o = resilience.Neutral
	}
	a.visit.Leave(o)
}

// turnAway answers a request that is refused.
func (a *reply) turnAway(ctx context.Context, err error) {
	a.visit = nil
	e := (*zerohop.AdmissionError)(nil)
	if !errors.As(err, &e) {
		e = &zerohop.AdmissionError{NoTime: errors.Is(err, context.DeadlineExceeded)} // the context ended while the request waited
	}
	if e.NoTime {
		a.refuse()
		return
	}
	a.refused = true
	h := a.Header()
	h.Set(RefusedHeader, "limit")
	if e.Final {
		h.Set(NoRetryHeader, "1")
	}
	if e.After >= time.Second { // less cannot be said
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.After.Seconds()))))
	}
	http.Error(a, "too many requests are being worked on", http.StatusServiceUnavailable)
}

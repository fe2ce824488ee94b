package httpmesh

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// announce sets the headers that an attempt has besides those of the caller. sent is how often the call was sent before.
// The headers of the caller stay as they are.
func (x *exchange) announce(ctx context.Context, req *http.Request, a *zerohop.Attempt, sent int) {
	h := headers{req: req}
	if y := x.routed(); y != nil {
		y.edit(&h, a.Number == 0)
	}
	if a.Policy().Propagate == zerohop.On {
		// The attempt timeout is over with the head of the answer, and so has a header of its own: with that of the deadline
		// the server would end the body.
		d, limited := ctx.Deadline()
		var left time.Duration
		if limited {
			left = time.Until(d)
			h.timeout(left)
		}
		if most := a.Timeout(); most > 0 && (!limited || most < left) {
			h.set(AttemptTimeoutHeader, strconv.FormatInt(max(most.Milliseconds(), 1), 10))
		} else if _, ok := req.Header[AttemptTimeoutHeader]; ok {
			h.set(AttemptTimeoutHeader, "")
		}
		if in := x.call.Inbound(); in != nil { // who repeats a request repeats all that is done for it
			sent += in.Attempt
		}
		if sent > 0 {
			h.set(AttemptHeader, strconv.Itoa(sent))
		} else if _, ok := req.Header[AttemptHeader]; ok {
			h.set(AttemptHeader, "") // it is about the request that the caller works on, if about any
		}
		if level := a.Criticality(); level != resilience.Critical {
			h.set(CriticalityHeader, level.String())
		} else if _, ok := req.Header[CriticalityHeader]; ok {
			h.set(CriticalityHeader, "")
		}
	}
	if n := a.Node(); n != nil && n.WantsLoad() && a.Policy().Propagate == zerohop.On {
		h.set(WantLoadHeader, "1")
	} else if _, ok := req.Header[WantLoadHeader]; ok {
		h.set(WantLoadHeader, "") // it asks for the load of this server
	}
	if x.call.Propagates() {
		x.propagate(ctx, &h)
	}
	if x.call.Tags() {
		if v, ok := x.call.Baggage(spelled(req.Header, BaggageHeader)); ok {
			h.set(BaggageHeader, v)
		}
	}
}

// propagate lets the hook set headers.
func (x *exchange) propagate(ctx context.Context, h *headers) {
	s := setters.Get().(*setter)
	s.headers = *h
	x.call.Propagate(ctx, s.set)
	*h, s.headers = s.headers, headers{}
	if !s.used { // else a hook that kept the function could change what others send
		setters.Put(s)
	}
}

// setter is a function for hooks. Most attempts have no header to be set, and the function shall cost those nothing.
type setter struct {
	headers
	used bool
	set  func(key, value string)
}

var setters = sync.Pool{New: func() any {
	s := &setter{}
	s.set = func(key, value string) {
		if s.req == nil { // the hook has returned
			return
		}
		s.used = true
		s.own()
		s.req.Header.Set(key, value)
	}
	return s
}}

// spelled returns the values of a header, however the caller has spelled it.
func spelled(h http.Header, name string) []string {
	var other []string
	for k, v := range h {
		if k != name && len(k) == len(name) && strings.EqualFold(k, name) {
			other = append(other, v...)
		}
	}
	if other == nil {
		return h[name]
	}
	return append(slices.Clone(h[name]), other...)
}

// headers are those of a request, copied at the first change.
type headers struct {
	req    *http.Request
	copied bool
	values []string // room for new ones
}

// own makes the headers ones that may be changed.
func (h *headers) own() {
	if h.copied {
		return
	}
	h.copied = true
	if h.req.Header = maps.Clone(h.req.Header); h.req.Header == nil {
		h.req.Header = http.Header{}
	}
}

// timeout tells the time that is left, unless the caller has told a shorter one.
func (h *headers) timeout(left time.Duration) {
	ms := max(left.Milliseconds(), 1)
	if old := h.req.Header[TimeoutHeader]; len(old) == 1 {
		if said, err := strconv.ParseUint(old[0], 10, 63); err == nil && int64(said) <= ms {
			return
		}
	}
	h.set(TimeoutHeader, strconv.FormatInt(ms, 10))
}

// set replaces a header, however the caller has spelled it: net/http sends names as they are. Empty values remove it.
func (h *headers) set(name, value string) {
	h.own()
	for k := range h.req.Header {
		if len(k) == len(name) && strings.EqualFold(k, name) {
			delete(h.req.Header, k)
		}
	}
	if value != "" {
		h.req.Header[name] = []string{value}
	}
}

package grpcmesh

import (
	"context"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/baggage"
	"github.com/zerohop/zerohop/resilience"
)

// outgoing gives routes the metadata of a call.
type outgoing struct{ ctx context.Context }

// Get returns the first value of a key, "" if there is none.
func (o *outgoing) Get(name string) string {
	if v := o.Values(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Values returns the values of a key.
func (o *outgoing) Values(name string) []string {
	return metadata.ValueFromOutgoingContext(o.ctx, name)
}

// announce adds to the metadata of an attempt, which is that of the caller otherwise, how often the call was sent before,
// how critical it is, and how long the attempt may take if that is less than its deadline.
func announce(ctx context.Context, call *zerohop.Call, a *zerohop.Attempt, sent int) context.Context {
	if a.Policy().Propagate != zerohop.On {
		return ctx
	}
	if in := call.Inbound(); in != nil { // who repeats a request repeats all that is done for it
		sent += in.Attempt
	}
	var said [3]string // in the order of announcedKeys
	if sent > 0 {
		said[0] = strconv.Itoa(sent)
	}
	if level := a.Criticality(); level != resilience.Critical {
		said[1] = level.String()
	}
	if most := a.Timeout(); most > 0 {
		if d, ok := ctx.Deadline(); !ok || most < time.Until(d) {
			said[2] = strconv.FormatInt(max(most.Milliseconds(), 1), 10)
		}
	}
	if said == [3]string{} && !tells(ctx) {
		return ctx
	}
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if md == nil {
		md = metadata.MD{}
	}
	for i, key := range announcedKeys {
		delete(md, key) // it is about the request that the caller works on, if about any
		if said[i] != "" {
			md[key] = []string{said[i]}
		}
	}
	return metadata.NewOutgoingContext(ctx, md)
}

var announcedKeys = [...]string{attemptsKey, criticalityKey, attemptTimeoutKey}

// tells reports whether the metadata of the caller has something that is for announce to say.
func tells(ctx context.Context) bool {
	for _, key := range announcedKeys {
		if metadata.ValueFromOutgoingContext(ctx, key) != nil {
			return true
		}
	}
	return false
}

// setter is a function for hooks. Most attempts have nothing to be set, and the function shall cost those nothing.
type setter struct {
	pairs []string
	open  bool // the hook has not returned
	set   func(key, value string)
}

var setters = sync.Pool{New: func() any {
	s := &setter{}
	s.set = func(key, value string) {
		if s.open {
			s.pairs = append(s.pairs, key, value)
		}
	}
	return s
}}

// propagate adds what hooks set to the metadata of an attempt, and the lane of the call.
func propagate(ctx context.Context, call *zerohop.Call) context.Context {
	if call.Propagates() {
		s := setters.Get().(*setter)
		s.open = true
		call.Propagate(ctx, s.set)
		s.open = false
		if len(s.pairs) == 0 {
			setters.Put(s)
		} else { // not to be used again: a hook that kept the function could change what others send
			ctx = metadata.AppendToOutgoingContext(ctx, s.pairs...)
		}
	}
	if !call.Tags() {
		return ctx
	}
	if v, ok := call.Baggage(metadata.ValueFromOutgoingContext(ctx, baggage.Name)); ok {
		md, _ := metadata.FromOutgoingContext(ctx) // a copy
		if md == nil {
			md = metadata.MD{}
		}
		delete(md, baggage.Name)
		if v != "" {
			md[baggage.Name] = []string{v}
		}
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	return ctx
}

package grpcmesh

import (
	"context"
	"strconv"

	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// outgoing gives routes the metadata of a call.
type outgoing struct{ ctx context.Context }

// Get returns the first value of a key, "" if there is none.
func (o *outgoing) Get(name string) string {
	if v := metadata.ValueFromOutgoingContext(o.ctx, name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// announce adds to the metadata of an attempt, which is that of the caller otherwise, how often the call was sent before,
// and how critical it is.
func announce(ctx context.Context, call *zerohop.Call, a *zerohop.Attempt, sent int) context.Context {
	if a.Policy().Propagate != zerohop.On {
		return ctx
	}
	if in := call.Inbound(); in != nil { // who repeats a request repeats all that is done for it
		sent += in.Attempt
	}
	level := a.Criticality()
	if sent == 0 && level == resilience.Critical && metadata.ValueFromOutgoingContext(ctx, attemptsKey) == nil && metadata.ValueFromOutgoingContext(ctx, criticalityKey) == nil {
		return ctx
	}
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if md == nil {
		md = metadata.MD{}
	}
	delete(md, attemptsKey) // it is about the request that the caller works on, if about any
	if sent > 0 {
		md[attemptsKey] = []string{strconv.Itoa(sent)}
	}
	delete(md, criticalityKey)
	if level != resilience.Critical {
		md[criticalityKey] = []string{level.String()}
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// propagate adds what hooks set to the metadata of an attempt.
func propagate(ctx context.Context, call *zerohop.Call) context.Context {
	if !call.Propagates() {
		return ctx
	}
	var pairs []string
	call.Propagate(ctx, func(key, value string) { pairs = append(pairs, key, value) })
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

package zerohop

import (
	"context"
	"sync/atomic"

	"github.com/zerohop/zerohop/resilience"
)

// Inbound is what a server knows of the request it works on, for the calls it makes meanwhile: if every layer
// repeats what the layer below has repeated already, an outage at the bottom of n layers of 3 attempts is hit with
// 3^n times the load. Servers get one from httpmesh.NewHandler. The fields must not change after WithInbound.
type Inbound struct {
	// Attempt is how often the request was sent before: 0 for a first attempt. Calls made for a request that is
	// itself a repetition are repeated only if they were provably not sent, and get no backups. They tell their servers
	// that they are repetitions, too.
	Attempt int
	// Criticality is how bad it is if the request fails. Calls made for it are as critical, unless their CallOptions say
	// otherwise. Unspecified leaves it to their policies.
	Criticality resilience.Criticality
	// Lane is the lane that the request is in. Calls made for it are in it, too, unless WithLane says otherwise; see
	// Policy.Lane. Empty means that it is in none, or that only what the calls carry themselves tells.
	Lane string
	// IgnoreLane says that calls made for the request are in no lane, unless WithLane says otherwise, whatever the baggage
	// says that they may hand on.
	IgnoreLane bool

	spent atomic.Bool
}

// WithInbound returns a context for work on an inbound request.
func WithInbound(ctx context.Context, in *Inbound) context.Context {
	s := said(ctx)
	s.inbound = in
	return &saying{ctx, s}
}

// Spent reports whether a call made for the request has failed although it was repeated, or was not because the
// retry budget was empty or the server wanted no retry. The caller of this server should not repeat the request then.
func (in *Inbound) Spent() bool { return in != nil && in.spent.Load() }

// Inbound returns the request that the call is made for, nil if it is not known.
func (c *Call) Inbound() *Inbound { return c.said.inbound }

// learn takes note of how a call ended.
func (in *Inbound) learn(o resilience.Outcome, why resilience.Reason, attempts int) {
	if in == nil || o == resilience.Success || o == resilience.Neutral && why != resilience.Declined {
		return
	}
	if why == resilience.OverBudget || why == resilience.Declined || attempts > 1 {
		in.spent.Store(true)
	}
}

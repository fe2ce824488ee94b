package zerohop

import (
	"context"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// CallOptions override the policy for one call. Unset fields and negative numbers inherit. They cannot lift limits:
// the hard cap of attempts and the budget hold.
type CallOptions struct {
	// Timeout bounds the whole call.
	Timeout time.Duration
	// AttemptTimeout bounds each attempt.
	AttemptTimeout time.Duration
	// Attempts is the largest number of attempts; 1 means that nothing is repeated. It does not switch retries on
	// where the policy has them off.
	Attempts int
	// Idempotent says whether the call may be executed more than once.
	Idempotent Switch
	// Backup switches backups of slow attempts.
	Backup Switch
	// Criticality says how bad it is if the call fails; see Policy.Criticality.
	Criticality resilience.Criticality
	// HashKey is what the call has in common with others that are to go to the same endpoint, such as the name of a user
	// or of a shard, where Policy.Balance names an algorithm that hashes. It takes the place of what Policy.Hash finds.
	// Empty inherits.
	HashKey string
	// Node is the address of the endpoint that the call is to go to, as discovery.Endpoint has it, for callers that choose for
	// themselves or keep sessions by other means than Policy.Sticky, before which it comes. If the endpoint is gone, out
	// of service or was tried, the call goes elsewhere.
	Node string
	// Strict makes the call fail with loadbalance.ErrNoNode rather than go elsewhere than to Node or to the endpoint of its
	// session. Its retries go to the same endpoint, and it gets no backups. It inherits from Policy.Sticky.
	Strict Switch
	// Select is metadata that the endpoint must have, besides what Policy.Select asks for, and instead of what that asks
	// for under the same keys. Policy.Select.Fallback says what happens if no endpoint has it. It must not be changed.
	Select map[string]string
	// WaitReady makes the call wait, as long as its context allows, for a service that has no endpoints,
	// instead of failing at once.
	WaitReady bool
	// Explain says whether the call is explained, whatever becomes of it; see Explain. On asks for the whole record, Off for none, not
	// even of a failure. Inherit leaves it to Policy.Explain.
	Explain Switch
}

// WithCall returns a context whose calls have the given options, instead of those that ctx had.
func WithCall(ctx context.Context, o CallOptions) context.Context {
	s := said(ctx)
	s.options = o
	return &saying{ctx, s}
}

type saidKey struct{}

// sayings are what a context says about the calls made with it. They are under one key, so that a call looks once.
type sayings struct {
	options CallOptions
	inbound *Inbound
	report  *Report
	lane    *string // nil if the context does not say
}

// saying is a context that says something. It is one allocation where context.WithValue would be two.
type saying struct {
	context.Context
	sayings sayings
}

func (c *saying) Value(key any) any {
	if key == (saidKey{}) {
		return &c.sayings
	}
	return c.Context.Value(key)
}

var silence sayings

func said(ctx context.Context) sayings { return *heard(ctx) }

// heard returns what the context says. It must not be changed.
func heard(ctx context.Context) *sayings {
	if s, ok := ctx.Value(saidKey{}).(*sayings); ok {
		return s
	}
	return &silence
}

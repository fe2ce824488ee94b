package zerohop

import (
	"context"
	"time"
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
	// WaitReady makes the call wait, as long as its context allows, for a service that has no endpoints,
	// instead of failing at once.
	WaitReady bool
}

type optionsKey struct{}

// WithCall returns a context whose calls have the given options, instead of those that ctx had.
func WithCall(ctx context.Context, o CallOptions) context.Context {
	return context.WithValue(ctx, optionsKey{}, &o)
}

var noOptions CallOptions

func optionsOf(ctx context.Context) *CallOptions {
	if o, ok := ctx.Value(optionsKey{}).(*CallOptions); ok {
		return o
	}
	return &noOptions
}

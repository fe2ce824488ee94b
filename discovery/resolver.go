package discovery

import (
	"context"
	"errors"
)

// ErrUnknownService says that the source is sure that it has no such service. Sources that cannot tell an
// unknown service from one without instances report an empty set instead.
var ErrUnknownService = errors.New("discovery: unknown service")

// Resolver finds the endpoints of services. Implementations watch; they do not retry, cache or filter:
// Run does that for all of them.
type Resolver interface {
	// Watch calls update with the full set of endpoints of the service, first as soon as it is known and
	// then after each change. It blocks until ctx ends or the watch breaks, and always returns a non-nil
	// error: ctx.Err() in the first case, ErrUnknownService if there is no such service, a *RefusedError
	// if the source answered and refused. It never retries. Calls of update are sequential, and none is
	// made after Watch returned. The slice belongs to the callee of update.
	//
	// Watch must be safe for concurrent use.
	Watch(ctx context.Context, service string, update func([]Endpoint)) error
}

package discovery

import (
	"context"
	"errors"
	"time"
)

// ErrInvalidInstance says that an instance makes no sense to a registrar, or that the registrar is not set up, so that it
// is in vain to try again.
var ErrInvalidInstance = errors.New("discovery: invalid instance")

// Registrar puts an instance of a service into a registry.
type Registrar interface {
	// Register registers inst and keeps it registered until Close of the returned Registration: it renews
	// the lease and registers again if the registry lost it, for ever. It returns an error if the
	// first registration fails, one that is ErrInvalidInstance if it always will; ctx bounds only that.
	Register(ctx context.Context, inst Instance) (Registration, error)
}

// Registration is one instance kept in a registry.
type Registration interface {
	// Close takes the instance out of the registry and stops renewing it. It waits until the registry
	// has confirmed or ctx ends, and returns the error of the deregistration, if any. It is idempotent.
	Close(ctx context.Context) error
}

// Instance is what a service says of itself to a registry.
type Instance struct {
	// ID is unique in the registry. Empty means Service and Endpoint.Addr, joined by a hyphen.
	ID string
	// Service is the name callers use. Required.
	Service string
	// Endpoint is the instance. Its Addr is required: the address of the listener, once the server listens, or another
	// one at which callers reach it. Registrars make it one that callers can reach; see Advertise.
	Endpoint Endpoint
	// Tags are the labels of the instance, where the registry knows labels.
	Tags []string
	// Check is how the registry finds out that the instance is alive. The zero value is a lease of 15 s
	// that the registrar renews.
	Check Check
}

// Check says how a registry finds out whether an instance is alive. At most one of HTTP and GRPC is set;
// with neither, the registrar renews a lease of TTL.
type Check struct {
	// TTL is the lease that the registrar renews every third of it. 0 means 15 s. It must not be set
	// together with HTTP or GRPC.
	TTL time.Duration
	// HTTP is a URL that the registry calls; a 2xx answer is healthy.
	HTTP string
	// GRPC is "host:port" or "host:port/service" of a grpc.health.v1 server that the registry calls.
	GRPC string
	// Interval is the pause between two calls of HTTP or GRPC. 0 means 10 s.
	Interval time.Duration
	// Timeout is how long one call may take. 0 means 2 s.
	Timeout time.Duration
	// DeregisterAfter is how long an instance may be critical before the registry forgets it. 0 means
	// 10 min; registries may have a higher minimum.
	DeregisterAfter time.Duration
}

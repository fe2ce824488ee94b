package discovery

import "context"

// RemoteSource is what a Resolver also implements if others than the owner of the process can write to what it reads:
// a registry, a control plane, DNS. An AddressPolicy applies to what such a source names.
//
// A Resolver that passes on what another one finds implements it with the answer of IsRemote for that one.
type RemoteSource interface {
	// Remote reports whether the source is remote. It always gives the same answer and does not block.
	Remote() bool
}

// IsRemote reports whether r says that it reads a remote source. Static, files and types that do not implement
// RemoteSource are not remote.
func IsRemote(r Resolver) bool {
	s, ok := r.(RemoteSource)
	return ok && s.Remote()
}

// ZoneSource is what a Resolver also implements if its source knows where the process runs: the agent of a registry on the
// same machine, the node of a cluster.
type ZoneSource interface {
	// Zone returns the failure domain that the process runs in, spelled as in Endpoint.Zone, or "" without an error if the
	// source is sure that there is none. It asks the source each time, blocks until it has an answer or ctx ends, and
	// does not retry. It must be safe for concurrent use.
	Zone(ctx context.Context) (string, error)
}

package zerohop

import (
	"context"
	"syscall"

	"github.com/zerohop/zerohop/discovery"
)

// DialControl returns what a net.Dialer of connections to endpoints should have as its ControlContext: it refuses addresses
// that Config.Addresses refuses, which the name of an endpoint may lead to although it did not when it was last looked up.
// It is nil if the policy does not apply, because the Resolver is not remote. It is for dialers of the user's own; those of
// httpmesh, grpcmesh and of health checks have it.
func (m *Mesh) DialControl() func(ctx context.Context, network, addr string, c syscall.RawConn) error {
	if a := &m.cfg.Addresses; a.Everywhere || discovery.IsRemote(m.cfg.Resolver) {
		return a.Control
	}
	return nil
}

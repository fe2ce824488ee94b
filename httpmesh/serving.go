package httpmesh

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/lifecycle"
)

// Serving returns server as lifecycle.Run serves and drains it. h must be its Handler, or what all requests that need an
// answer pass on their way. l is what it serves, with TLS if server.TLSConfig holds certificates or a way to get them.
// It is registered as the given instances.
func (h *Handler) Serving(server *http.Server, l net.Listener, as ...discovery.Instance) lifecycle.Server {
	return lifecycle.Server{
		Listener: l,
		Serve: func(l net.Listener) error {
			serve := server.Serve
			if c := server.TLSConfig; c != nil && (len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil) {
				serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
			}
			if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
		Drain: func(ctx context.Context) error {
			// Shutdown also if callers did not leave in time, for it closes the listener.
			return errors.Join(h.Drain(ctx), server.Shutdown(ctx))
		},
		Stop:      func() { server.Close() },
		Instances: as,
	}
}

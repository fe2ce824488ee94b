package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/zerohop/zerohop/discovery"
)

// Server is a server that listens. httpmesh.Handler.Serving and grpcmesh.Server.Serving make one.
type Server struct {
	// Listener is what the server serves. Required. Who makes it knows at once whether the port is free, and calls wait in
	// it until the server accepts them. Run closes it.
	Listener net.Listener
	// Serve serves Listener until Drain or Stop is called, and returns nil then. Required.
	Serve func(net.Listener) error
	// Drain makes callers leave, and waits until no call is in flight or ctx ends, whose error it returns then. It closes
	// Listener. Required.
	Drain func(ctx context.Context) error
	// Stop cuts off what is in flight. It is called if Drain fails. Required.
	Stop func()
	// Instances are what the server is registered as, once it listens. An empty Endpoint.Addr is that of Listener, which
	// the registrar makes one that callers can reach. If Listener has a method Meta, as a samehost.Listener does, what that returns is
	// added to Endpoint.Meta.
	Instances []discovery.Instance
}

// addr names the server in errors.
func (s *Server) addr() string { return s.Listener.Addr().String() }

// validate reports every mistake in c.
func (c *Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("lifecycle: "+format, args...)) }
	if len(c.Servers) == 0 {
		bad("Servers is empty")
	}
	for i, s := range c.Servers {
		if s.Listener == nil {
			bad("Servers[%d].Listener is nil", i)
		}
		if s.Serve == nil || s.Drain == nil || s.Stop == nil {
			bad("Servers[%d]: Serve, Drain or Stop is nil", i)
		}
		if len(s.Instances) > 0 && c.Registrar == nil {
			bad("Servers[%d].Instances need a Registrar", i)
		}
		for k, inst := range s.Instances {
			if inst.Service == "" {
				bad("Servers[%d].Instances[%d].Service is empty", i, k)
			}
		}
	}
	if c.Lag < 0 {
		bad("Lag %v is negative", c.Lag)
	}
	if c.Timeout < 0 {
		bad("Timeout %v is negative", c.Timeout)
	}
	return errors.Join(errs...)
}

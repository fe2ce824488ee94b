package grpcmesh

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop/healthcheck"
)

// HealthChecker makes active health checks by the health service of gRPC (grpc.health.v1); see zerohop.HealthCheck.
//
// Clients that hold a connection to each endpoint anyway do better to watch the same service over it, by Client.Health:
// that costs no connections, and a change is known at once. A HealthChecker is for endpoints that this process calls by other
// means, too, such as gRPC over HTTP with httpmesh, and tells all of them.
type HealthChecker struct {
	// Credentials secure connections. TLS verifies the Host of the policy, or else the name of the service, or else
	// what the credentials say. nil means that connections are not secured.
	Credentials credentials.TransportCredentials
	// Options are further options of connections, such as a dialer or per-RPC credentials.
	Options []grpc.DialOption
}

// maxHealthMessage is the size of an answer that is taken. That to a check has two bytes.
const maxHealthMessage = 4 << 10

// Check asks for p.GRPCService and returns nil if the answer is SERVING, and also if it is the status UNIMPLEMENTED: a server
// without a health service takes calls, as gRFC A17 has it. A service that the server does not know, NOT_FOUND, is
// unhealthy. Each check makes a connection of its own and closes it.
func (h HealthChecker) Check(ctx context.Context, p healthcheck.Probe) error {
	creds := h.Credentials
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithNoProxy(),
		grpc.WithUserAgent("zerohop-health-check"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxHealthMessage)),
	}
	//lint:ignore SA1019 credentials made by others may still set it
	if creds.Info().ServerName == "" { // else gRPC wants that
		authority := p.Host
		if authority == "" {
			authority = p.Service
		}
		opts = append(opts, grpc.WithAuthority(authority))
	}
	if p.DialControl != nil {
		opts = append(opts, grpc.WithContextDialer(dialer(p.DialControl, nil, nil, nil)))
	}
	conn, err := grpc.NewClient("passthrough:///"+p.Addr, append(opts, h.Options...)...)
	if err != nil {
		return fmt.Errorf("grpcmesh: health check: %w", err)
	}
	defer conn.Close()
	resp, err := healthgrpc.NewHealthClient(conn).Check(ctx, &healthgrpc.HealthCheckRequest{Service: p.GRPCService})
	switch {
	case status.Code(err) == codes.Unimplemented:
		return nil
	case err != nil:
		return fmt.Errorf("grpcmesh: health check: %w", err)
	case resp.GetStatus() != healthgrpc.HealthCheckResponse_SERVING:
		return fmt.Errorf("grpcmesh: health check answered %v", resp.GetStatus())
	}
	return nil
}

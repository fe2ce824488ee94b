package grpcmesh

import (
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/zerohop/zerohop"
)

const scheme = "zerohop"

// Target returns the target of a service for grpc.NewClient.
func Target(service string) string { return scheme + ":///" + url.PathEscape(service) }

// serviceOf returns the service of a connection, and false if the connection was not made with Target.
func serviceOf(conn *grpc.ClientConn) (string, bool) {
	name, ok := strings.CutPrefix(conn.Target(), scheme+":///")
	if ok && strings.Contains(name, "%") { // rarely
		var err error
		name, err = url.PathUnescape(name)
		ok = err == nil
	}
	return name, ok
}

// maxReconnect bounds the pause between two attempts of gRPC to connect to an endpoint, so that one that is back
// gets calls within two seconds. gRPC adds a jitter of a fifth. Its own bound is two minutes.
const maxReconnect = 1250 * time.Millisecond

// DialOptions returns the options that put a connection to a Target on the mesh: resolver, balancer, interceptors
// and a reconnect backoff of at most 1.5 s. Credentials and everything else are added by the caller; options
// after these take precedence. Interceptors that are added run inside of the mesh's, once for each attempt; ones
// that come before run outside, once for each call.
//
// The service config is the mesh's: one given by grpc.WithDefaultServiceConfig, with its timeouts and health checks,
// is not used. With grpc.WithDisableServiceConfig gRPC would send all calls to one endpoint.
func DialOptions(mesh *zerohop.Mesh) []grpc.DialOption {
	b := backoff.DefaultConfig
	b.BaseDelay, b.MaxDelay = 100*time.Millisecond, maxReconnect
	return []grpc.DialOption{
		grpc.WithResolvers(&resolverBuilder{mesh: mesh}),
		grpc.WithChainUnaryInterceptor(unaryInterceptor(mesh)),
		grpc.WithChainStreamInterceptor(streamInterceptor(mesh)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: b, MinConnectTimeout: 5 * time.Second}),
	}
}

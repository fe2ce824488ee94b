package grpcmesh

import (
	"context"
	"net"
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
	if ok && strings.IndexByte(name, '%') >= 0 { // rarely
		var err error
		name, err = url.PathUnescape(name)
		ok = err == nil
	}
	return name, ok
}

// Client is the set-up of connections to Targets.
type Client struct {
	// Mesh carries the calls. Required.
	Mesh *zerohop.Mesh
	// ServiceConfig is a gRPC service config in JSON, for what the mesh has no say in: waitForReady, the sizes of
	// messages, and timeouts, which bound each attempt and not the call. Balancing and retries are those of the
	// mesh: a config that has any (loadBalancingConfig, loadBalancingPolicy, retryPolicy, hedgingPolicy,
	// retryThrottling) is refused. Empty means none.
	ServiceConfig string
	// Health has each endpoint watched by its health service (grpc.health.v1): one that is not serving gets no
	// calls, one without a health service does. nil means that endpoints are not watched, unless ServiceConfig
	// has a healthCheckConfig. zerohop.Policy.HealthCheck checks endpoints independently of connections, for calls of all kinds.
	Health *Health
	// Fallback, if not nil, makes the reply to a unary call that has failed for good, and for which no other service has
	// answered (zerohop.Policy.Fallback). It gets the context and the messages of the caller and the error of the call, fills
	// the reply and returns nil, or any error if it has none: that of the call is the caller's then. It may make the call to
	// something else, over a connection of its own. It is not called for a caller who has gone away, and must be safe for
	// concurrent use.
	Fallback func(ctx context.Context, method string, req, reply any, err error) error
	// InProcess are endpoints in this process, by their address as the resolver has it ("host:port"): instead of to the address, a
	// connection to one is made by its function. That is usually DialContext of a bufconn.Listener (google.golang.org/grpc/test/bufconn),
	// which the grpc.Server serves, beside one for others or alone. The address of an endpoint that is nowhere else can be any, such as
	// "orders.invalid:1". Credentials are as for other endpoints. The map must not be changed afterwards.
	InProcess map[string]func(context.Context) (net.Conn, error)
	// DialContext connects to the addresses of endpoints over the network "tcp", such as that of an ebpfaccel.Dialer does; sockets of
	// Config.Sockets and InProcess go before it. What Config.Addresses refuses is for it to refuse: a net.Dialer does with
	// Mesh.DialControl as its ControlContext. It must be safe for concurrent use. nil means that of gRPC.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Health is what to ask health services for.
type Health struct {
	// Service is the name of a service that the endpoints serve. Empty means the server as a whole.
	Service string
}

const (
	// maxReconnect bounds the pause between two attempts of gRPC to connect to an endpoint, so that one that is back
	// gets calls within two seconds. gRPC adds a jitter of a fifth. Its own bound is two minutes.
	maxReconnect = 1250 * time.Millisecond
	// minConnect is how long an attempt to connect may take, with its handshakes. Kernels send the first packet again
	// after one, three and seven seconds: five leave time for a slow handshake after the third, and an endpoint that
	// can be reached again is found after three and a half seconds at the latest. gRPC's own twenty seconds make that
	// eight, and calls to a service that cannot be reached at all fail after twenty only.
	minConnect = 5 * time.Second
)

// DialOptions returns the options that put a connection to a Target on the mesh: resolver, balancer, interceptors
// and a reconnect backoff of at most 1.5 s. Credentials and everything else are added by the caller; options
// after these take precedence. Interceptors that are added run inside of the mesh's, once for each attempt; ones
// that come before run outside, once for each call.
//
// What zerohop.Config.Addresses refuses is not connected to. A dialer that is given by Client.DialContext or grpc.WithContextDialer
// takes that part, too: a net.Dialer does with Mesh.DialControl as its ControlContext.
//
// Where zerohop.Config.Sockets allows it, instances on the same host are connected to by their Unix sockets, and by their address within the
// same attempt if that does not work. A dialer that is given by grpc.WithContextDialer connects to addresses only.
//
// If the Client is not valid, grpc.NewClient fails and names the field. The service config is that of the Client: one
// given by grpc.WithDefaultServiceConfig is not used, and with grpc.WithDisableServiceConfig all calls fail. gRPC's own
// retries are off, except for what no server has seen. HTTP proxies are not used, as endpoints are reached directly.
//
// Connections to other targets made with these options are not on the mesh; ServiceConfig and Health are their defaults.
func (c Client) DialOptions() []grpc.DialOption {
	b := backoff.DefaultConfig
	b.BaseDelay, b.MaxDelay = 100*time.Millisecond, maxReconnect
	config, user := c.configs()
	var near *neighbours
	if c.Mesh != nil && (c.Mesh.HasSockets() || c.Mesh.ObservesConnections()) {
		near = &neighbours{mesh: c.Mesh}
	}
	opts := []grpc.DialOption{
		grpc.WithResolvers(&resolverBuilder{mesh: c.Mesh, config: config, near: near, inProcess: c.InProcess}),
		grpc.WithChainUnaryInterceptor(unaryInterceptor(c.Mesh, "", c.patience(), c.Fallback)),
		grpc.WithChainStreamInterceptor(streamInterceptor(c.Mesh, "", c.patience())),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: b, MinConnectTimeout: minConnect}),
		grpc.WithDisableRetry(),
		grpc.WithNoProxy(),
	}
	if c.Mesh != nil {
		if control := c.Mesh.DialControl(); control != nil || near != nil || len(c.InProcess) > 0 || c.DialContext != nil {
			opts = append(opts, grpc.WithContextDialer(dialer(control, near, c.InProcess, c.DialContext)))
		}
	}
	if user != "{}" { // Targets get theirs from the resolver, but this one is checked now
		opts = append(opts, grpc.WithDefaultServiceConfig(user))
	}
	return opts
}

// DialOptions returns those of a Client that has only a mesh.
func DialOptions(mesh *zerohop.Mesh) []grpc.DialOption { return Client{Mesh: mesh}.DialOptions() }

package grpcinterop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	orcaservice "github.com/cncf/xds/go/xds/service/orca/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/internal/porttest"
)

// service is the name that nodes go by, in their certificates, too.
const service = "orders"

// node is a server of gRPC's test service on a port of its own.
type node struct {
	addr    string
	options []grpc.ServerOption
	front   func(*grpc.Server) server // if set, what serves in place of a *grpc.Server
	calls   atomic.Int64              // all that reached a handler
	changes atomic.Int64              // how often it came up or went down

	came chan struct{} // gets one when a call comes in, if it has room

	mu     sync.Mutex // guards what follows
	server server
	done   chan struct{} // closed when it has stopped
}

// server serves the connections of a listener until it is stopped. It is what a *grpc.Server is.
type server interface {
	Serve(net.Listener) error
	Stop()
	GracefulStop()
}

// serve starts a node that is stopped at the end of the test.
func serve(t *testing.T, opts ...grpc.ServerOption) *node {
	t.Helper()
	return serveBehind(t, nil, opts...)
}

// serveBehind starts a node with another front than its *grpc.Server, if front is not nil.
func serveBehind(t *testing.T, front func(*grpc.Server) server, opts ...grpc.ServerOption) *node {
	t.Helper()
	n := &node{front: front, came: make(chan struct{}, 1)}
	n.options = append(opts, grpc.WaitForHandlers(true), orca.CallMetricsServerOption(nil),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			n.come()
			return h(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			n.come()
			return h(srv, s)
		}))
	n.start(t)
	t.Cleanup(n.kill)
	return n
}

func (n *node) come() {
	n.calls.Add(1)
	select {
	case n.came <- struct{}{}:
	default:
	}
}

// start makes the node serve, on the port that it had before.
func (n *node) start(t *testing.T) {
	l, err := porttest.Again(n.addr)
	if err != nil {
		t.Error(err)
		return
	}
	g, done := grpc.NewServer(n.options...), make(chan struct{})
	metrics := orca.NewServerMetricsRecorder()
	orcaservice.RegisterOpenRcaServiceServer(g, reports{metrics: metrics})
	testpb.RegisterTestServiceServer(g, interop.NewTestServer(interop.NewTestServerOptions{MetricsRecorder: metrics}))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addr, n.server, n.done = l.Addr().String(), g, done
	if n.front != nil {
		n.server = n.front(g)
	}
	n.changes.Add(1)
	go func(s server) {
		defer close(done)
		_ = s.Serve(l) // it ends when the node stops
	}(n.server)
}

// kill closes the port and cuts all connections, whatever runs on them.
func (n *node) kill() { n.stop(server.Stop) }

// drain closes the port, says goodbye on all connections and lets what runs on them end.
func (n *node) drain() { n.stop(server.GracefulStop) }

func (n *node) stop(how func(server)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changes.Add(1)
	how(n.server)
	<-n.done
}

// wire is how clients and nodes are connected.
type wire struct {
	name   string
	server grpc.ServerOption
	client credentials.TransportCredentials
	tls    *tls.Config // of servers that are none of gRPC; nil if the wire is plain
}

// wires returns the plain and the TLS one, with a certificate authority of their own.
func wires(t *testing.T) []wire {
	t.Helper()
	ca := newAuthority(t)
	cert := ca.certify(t, service)
	return []wire{
		{"plain", grpc.Creds(insecure.NewCredentials()), insecure.NewCredentials(), nil},
		{"tls", grpc.Creds(credentials.NewServerTLSFromCert(&cert)), credentials.NewClientTLSFromCert(ca.roots, ""), &tls.Config{Certificates: []tls.Certificate{cert}}},
	}
}

// authority signs certificates.
type authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	roots *x509.CertPool // has only the authority
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	ca := &authority{roots: x509.NewCertPool()}
	ca.cert, ca.key = ca.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	ca.roots.AddCert(ca.cert)
	return ca
}

// certify returns a certificate for a name.
func (ca *authority) certify(t *testing.T, name string) tls.Certificate {
	t.Helper()
	leaf, key := ca.sign(t, &x509.Certificate{DNSNames: []string{name}})
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
}

// sign signs with the key of the authority, or with the new one if there is none yet.
func (ca *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, by := ca.cert, ca.key
	if parent == nil {
		parent, by = template, key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// newMesh makes a mesh that knows the service at some addresses, unless the configuration has a resolver.
func newMesh(t *testing.T, cfg zerohop.Config, addrs ...string) *zerohop.Mesh {
	t.Helper()
	var list []discovery.Endpoint
	for _, a := range addrs {
		list = append(list, discovery.Endpoint{Addr: a})
	}
	if cfg.Resolver == nil {
		cfg.Resolver = discovery.Static{service: list}
	}
	mesh, err := zerohop.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mesh.Close() })
	return mesh
}

// dial connects to the service over a mesh.
func dial(t *testing.T, mesh *zerohop.Mesh, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(grpcmesh.Target(service), append(grpcmesh.DialOptions(mesh), opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

package grpcinterop

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/grpcmesh"
)

// connect connects to the service with options before and after those of the mesh.
func connect(t *testing.T, mesh *zerohop.Mesh, before, after []grpc.DialOption) testpb.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(grpcmesh.Target(service), slices.Concat(before, grpcmesh.DialOptions(mesh), after)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return testpb.NewTestServiceClient(conn)
}

// TestServerNames: what certificates have to name is the service, unless the program says otherwise in the ways of gRPC.
func TestServerNames(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.certify(t, service)
	n := serve(t, grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	name := func(name string) []grpc.DialOption {
		return []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(ca.roots, name))}
	}
	for _, c := range []struct {
		name    string
		options []grpc.DialOption
		call    []grpc.CallOption
		want    string // in the error; empty if there is none
	}{
		{"service", name(""), nil, ""},
		{"same", name(service), nil, ""},
		{"other server name", name("billing"), nil, "not billing"},
		{"other authority", append(name(""), grpc.WithAuthority("billing")), nil, "not billing"},
		{"same authority", append(name(""), grpc.WithAuthority(service)), nil, ""},
		{"same authority of a call", name(""), []grpc.CallOption{grpc.CallAuthority(service)}, ""},
		{"other authority of a call", name(""), []grpc.CallOption{grpc.CallAuthority("billing")}, "not billing"},
		{"other certificate authority", []grpc.DialOption{grpc.WithTransportCredentials(
			credentials.NewClientTLSFromCert(newAuthority(t).roots, ""))}, nil, "unknown authority"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mesh := newMesh(t, zerohop.Config{}, n.addr)
			for _, client := range []testpb.TestServiceClient{connect(t, mesh, c.options, nil), connect(t, mesh, nil, c.options)} {
				_, err := client.EmptyCall(t.Context(), &testpb.Empty{}, c.call...)
				if c.want == "" && err != nil {
					t.Errorf("EmptyCall() = %v", err)
				}
				if c.want != "" && (status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("EmptyCall() = %v, want Unavailable: ... %s", err, c.want)
				}
			}
		})
	}
}

// TestImpostorGetsNoCall: an address that answers with the certificate of another service is as good as down.
func TestImpostorGetsNoCall(t *testing.T) {
	ca := newAuthority(t)
	good, bad := ca.certify(t, service), ca.certify(t, "billing")
	n, impostor := serve(t, grpc.Creds(credentials.NewServerTLSFromCert(&good))), serve(t, grpc.Creds(credentials.NewServerTLSFromCert(&bad)))
	client := connect(t, newMesh(t, zerohop.Config{}, impostor.addr, n.addr), nil,
		[]grpc.DialOption{grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(ca.roots, ""))})
	for range 20 {
		if _, err := client.EmptyCall(t.Context(), &testpb.Empty{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := impostor.calls.Load(); got != 0 {
		t.Errorf("the impostor got %d calls", got)
	}
}

// TestMutualTLS: each node gets the certificate of the client, and nodes do not serve clients without one.
func TestMutualTLS(t *testing.T) {
	ca := newAuthority(t)
	server, own := ca.certify(t, service), ca.certify(t, "shopper")
	options := []grpc.ServerOption{
		grpc.Creds(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.roots,
		})),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			p, _ := peer.FromContext(ctx)
			if info, ok := p.AuthInfo.(credentials.TLSInfo); !ok || !slices.Contains(info.State.PeerCertificates[0].DNSNames, "shopper") {
				return nil, status.Error(codes.PermissionDenied, "not the shopper")
			}
			return h(ctx, req)
		}),
	}
	nodes := []*node{serve(t, options...), serve(t, options...), serve(t, options...)}
	mesh := newMesh(t, zerohop.Config{}, nodes[0].addr, nodes[1].addr, nodes[2].addr)
	with := func(certs ...tls.Certificate) testpb.TestServiceClient {
		return connect(t, mesh, []grpc.DialOption{
			grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: ca.roots, Certificates: certs})),
		}, nil)
	}
	client := with(own)
	for i := 0; nodes[0].calls.Load() == 0 || nodes[1].calls.Load() == 0 || nodes[2].calls.Load() == 0; i++ {
		if _, err := client.EmptyCall(t.Context(), &testpb.Empty{}); err != nil {
			t.Fatal(err)
		}
		if i == 1000 {
			t.Fatal("not all nodes get calls")
		}
	}
	for _, client := range []testpb.TestServiceClient{with(), with(newAuthority(t).certify(t, "shopper"))} {
		if _, err := client.EmptyCall(t.Context(), &testpb.Empty{}); status.Code(err) != codes.Unavailable {
			t.Errorf("EmptyCall() without a valid certificate = %v, want Unavailable", err)
		}
	}
}

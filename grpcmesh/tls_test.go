package grpcmesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
)

// certificate returns a self-signed certificate for a name, and a pool that trusts it.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLSVerifiesServiceName(t *testing.T) {
	cert, pool := certificate(t, "orders")
	var eps []discovery.Endpoint
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &server{name: l.Addr().String(), options: []grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(&cert))}}
		s.start(l)
		t.Cleanup(s.stop)
		eps = append(eps, discovery.Endpoint{Addr: s.name})
	}
	// The same instances claim to be another service.
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": eps, "billing": eps}})
	if err != nil {
		t.Fatal(err)
	}
	defer mesh.Close()
	for service, want := range map[string]codes.Code{"orders": codes.OK, "billing": codes.Unavailable} {
		conn, err := grpc.NewClient(Target(service), append(DialOptions(mesh),
			grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(pool, "")))...)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = echopb.NewEchoClient(conn).Say(t.Context(), &echopb.SayRequest{})
		if got := status.Code(err); got != want {
			t.Errorf("Say() of %s = %v, want %v", service, err, want)
		}
		if want != codes.OK && !strings.Contains(err.Error(), "not billing") {
			t.Errorf("error %q does not say that the certificate is not for billing", err)
		}
	}
}

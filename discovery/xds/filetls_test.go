package xds

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/zerohop/zerohop/discovery"
)

// selfSigned writes a certificate for 127.0.0.1 and its key, and returns them.
func selfSigned(t *testing.T, certFile, keyFile string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	for file, text := range map[string][]byte{certFile: cert, keyFile: secret} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(cert, secret)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func TestBootstrapTLSReadsRotatedFiles(t *testing.T) {
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	old := selfSigned(t, cert, key)
	pool := x509.NewCertPool()
	pool.AddCert(old.Leaf)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := startPlane(l, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{old}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	})))
	defer p.stop()
	if err := p.set(serviceAt("192.0.2.1:80")); err != nil {
		t.Fatal(err)
	}
	config, err := ParseBootstrap(fmt.Appendf(nil, `{
		"xds_servers": [{"server_uri": %q, "channel_creds": [{"type": "tls", "config": {
			"ca_certificate_file": %q, "certificate_file": %q, "private_key_file": %q}}]}],
		"node": {"id": %q}}`, l.Addr(), ca, cert, key, nodeID))
	if err != nil {
		t.Fatal(err)
	}
	r := resolverOf(t, config.Server, func(c *Config) { c.Credentials = config.Credentials })
	f := follow(t, r, "orders", discovery.RunOptions{})
	if err := f.failure(); !strings.Contains(err.Error(), "ca_certificate_file") {
		t.Errorf("the watch failed with %v, want that there is no CA file", err)
	}
	selfSigned(t, ca, filepath.Join(dir, "unused.pem"))
	for {
		if err := f.failure(); strings.Contains(err.Error(), "unknown authority") {
			break
		}
	}
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	f.until("192.0.2.1:80")
}

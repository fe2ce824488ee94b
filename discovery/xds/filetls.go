package xds

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc/credentials"
)

// fileTLS is TLS with certificates in files, which it reads for each connection: what is rotated there is used from the
// next one on.
type fileTLS struct {
	CertificateFile string `json:"certificate_file"`
	PrivateKeyFile  string `json:"private_key_file"`
	CACertificate   string `json:"ca_certificate_file"`

	serverName string
}

var _ credentials.TransportCredentials = (*fileTLS)(nil)

func parseFileTLS(text json.RawMessage) (credentials.TransportCredentials, error) {
	f := new(fileTLS)
	if len(text) > 0 {
		if err := json.Unmarshal(text, f); err != nil {
			return nil, err
		}
	}
	if (f.CertificateFile == "") != (f.PrivateKeyFile == "") {
		return nil, errors.New("certificate_file and private_key_file belong together")
	}
	return f, nil
}

// ClientHandshake reads the files and does the handshake with them.
func (f *fileTLS) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (
	net.Conn, credentials.AuthInfo, error,
) {
	config := &tls.Config{ServerName: f.serverName, MinVersion: tls.VersionTLS12}
	if f.CACertificate != "" {
		text, err := os.ReadFile(f.CACertificate)
		if err != nil {
			return nil, nil, fmt.Errorf("ca_certificate_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, nil, fmt.Errorf("ca_certificate_file: no certificate in %s", f.CACertificate)
		}
	}
	if f.CertificateFile != "" {
		pair, err := tls.LoadX509KeyPair(f.CertificateFile, f.PrivateKeyFile)
		if err != nil {
			return nil, nil, fmt.Errorf("certificate_file: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

// ServerHandshake fails: these are credentials of clients.
func (f *fileTLS) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("xds: credentials of a client")
}

func (f *fileTLS) Info() credentials.ProtocolInfo { return credentials.NewTLS(nil).Info() }

func (f *fileTLS) Clone() credentials.TransportCredentials {
	other := *f
	return &other
}

func (f *fileTLS) OverrideServerName(name string) error {
	f.serverName = name
	return nil
}

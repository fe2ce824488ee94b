package httpmesh

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue returns a certificate for a name, or for the address of loopback if the name is empty.
func (a *authority) issue(t testing.TB, name string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour)}
	if name == "" {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// encrypted starts a server with a certificate that answers with its protocol and the name it was asked for.
func encrypted(t testing.TB, c tls.Certificate, http2 bool) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", r.Host, " ", r.TLS.ServerName)
	}))
	s.EnableHTTP2 = http2
	s.TLS = &tls.Config{Certificates: []tls.Certificate{c}}
	s.Config.ErrorLog = quiet
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// The name of an endpoint is that of the policy, or else that of the base, or else the service: never its address.
func TestTLSNames(t *testing.T) {
	a := newAuthority(t)
	for name, c := range map[string]struct {
		cert, policy, base string
		want               string // empty if it must fail
	}{
		"service":               {cert: "orders", want: "orders"},
		"base":                  {cert: "inside", base: "inside", want: "inside"},
		"policy":                {cert: "inside", policy: "inside", base: "outside", want: "inside"},
		"address":               {},
		"address by the base":   {base: "orders"},
		"address by the policy": {policy: "orders"},
		"of another service":    {cert: "payments"},
		"of the base only":      {cert: "orders", policy: "inside", base: "orders"},
	} {
		s := encrypted(t, a.issue(t, c.cert), true)
		base := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.roots(), ServerName: c.base}, ForceAttemptHTTP2: true}
		m := open(t, zerohop.Config{Resolver: discovery.Static{"orders": {{Addr: addr(s)}}}, Spec: zerohop.Spec{
			Defaults: zerohop.Policy{Connect: zerohop.Connect{ServerName: c.policy}},
		}})
		resp, err := get(t.Context(), t, NewTransport(m, base), "https://orders/")
		var wrong *tls.CertificateVerificationError
		switch {
		case c.want != "":
			if got, want := read(t, resp, err), "HTTP/2.0 orders "+c.want; got != want {
				t.Errorf("%s: server saw %q, want %q", name, got, want)
			}
		case err == nil:
			resp.Body.Close()
			t.Errorf("%s: certificate was accepted", name)
		default:
			if e := failure(t, err); e.Sent || !errors.As(err, &wrong) {
				t.Errorf("%s: %v, sent %v", name, err, e.Sent)
			}
		}
	}
}

// Requests for one endpoint in the clear and over TLS, or for other names, never share a connection.
func TestPoolsOfAnEndpoint(t *testing.T) {
	a := newAuthority(t)
	s := encrypted(t, a.issue(t, "orders"), false)
	tr := &Transport{pool: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.roots()}}}
	tr.connector.init(tr.pool)
	e := &endpoint{addr: addr(s)}
	defer e.release()
	pool := func(target string, k kind) *pool {
		return tr.poolAt(e, "orders", &zerohop.Connect{Timeout: time.Second}, request(t.Context(), t, "GET", target, nil).URL, k)
	}
	p := pool("https://orders/", anyKind)
	if p != pool("https://orders/1", anyKind) || pool("http://orders/", anyKind) != pool("http://payments/", anyKind) {
		t.Error("a second pool was made for the same connections")
	}
	if p == pool("http://orders/", anyKind) || p == pool("https://orders/", upgrade) || p == pool("https://payments/", anyKind) {
		t.Error("connections that differ share a pool")
	}
	if got, _ := fetch(t, p); got != "HTTP/1.1 orders orders" {
		t.Errorf("answer %q", got)
	}
	if _, way, err := travel(pool("ftp://orders/", anyKind), request(t.Context(), t, "GET", "ftp://orders/", nil)); err == nil || !way.unsent {
		t.Errorf("ftp: %+v, %v", way, err)
	}
	for i := range 2 * maxPools {
		pool(fmt.Sprintf("https://service-%d/", i), anyKind)
	}
	if got := len(*e.pools.Load()); got != maxPools {
		t.Errorf("%d pools, want %d", got, maxPools)
	}
	if p.mu.Lock(); !p.released {
		t.Error("the pool used longest ago is kept")
	}
	p.mu.Unlock()
}

// The base says what is spoken.
func TestProtocolsOfTheBase(t *testing.T) {
	a := newAuthority(t)
	only := func(set func(*http.Protocols)) *http.Protocols {
		p := new(http.Protocols)
		set(p)
		return p
	}
	config := func() *tls.Config { return &tls.Config{RootCAs: a.roots()} }
	other := &http.Transport{TLSClientConfig: config()}
	//lint:ignore SA1019 a base may still be set up so
	if err := http2.ConfigureTransport(other); err != nil {
		t.Fatal(err)
	}
	dialTLS := &tls.Dialer{Config: &tls.Config{RootCAs: a.roots(), ServerName: "orders", NextProtos: []string{"h2"}}}
	for name, c := range map[string]struct {
		base   *http.Transport
		scheme string
		want   string
	}{
		"default":           {&http.Transport{TLSClientConfig: config()}, "https", "HTTP/1.1"},
		"forced":            {&http.Transport{TLSClientConfig: config(), ForceAttemptHTTP2: true}, "https", "HTTP/2.0"},
		"HTTP/2":            {&http.Transport{TLSClientConfig: config(), Protocols: only(func(p *http.Protocols) { p.SetHTTP2(true) })}, "https", "HTTP/2.0"},
		"HTTP/1":            {&http.Transport{TLSClientConfig: config(), Protocols: only(func(p *http.Protocols) { p.SetHTTP1(true) })}, "https", "HTTP/1.1"},
		"another HTTP/2":    {other, "https", "HTTP/2.0"},
		"dialer of TLS":     {&http.Transport{DialTLSContext: dialTLS.DialContext, ForceAttemptHTTP2: true}, "https", "HTTP/2.0"},
		"clear":             {&http.Transport{}, "http", "HTTP/1.1"},
		"clear HTTP/2":      {&http.Transport{Protocols: only(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })}, "http", "HTTP/2.0"},
		"clear, both known": {&http.Transport{Protocols: only(func(p *http.Protocols) { p.SetHTTP1(true); p.SetUnencryptedHTTP2(true) })}, "http", "HTTP/1.1"},
	} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
		s.Config.Protocols = only(func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true); p.SetUnencryptedHTTP2(true) })
		s.EnableHTTP2 = true
		if c.scheme == "https" {
			s.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, "orders")}}
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
		p := poolTo(t, c.base, addr(s), c.scheme+"://orders/", zerohop.Connect{Timeout: time.Second})
		for range 2 {
			if got, _ := fetch(t, p); got != c.want {
				t.Errorf("%s: spoke %s, want %s", name, got, c.want)
			}
		}
	}
}

// An upgrade goes out over HTTP/1 though the base speaks HTTP/2 with the endpoint.
func TestUpgradeOverTLS(t *testing.T) {
	a := newAuthority(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("%s cannot be hijacked: %v", r.Proto, err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(c, "echo "+line)
	}))
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, "orders")}}
	s.StartTLS()
	defer s.Close()
	base := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.roots()}, ForceAttemptHTTP2: true}
	tr := NewTransport(open(t, zerohop.Config{Resolver: source(addr(s))}), base)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req := request(ctx, t, "GET", "https://orders/", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.WriteString(resp.Body.(io.Writer), "hello\n")
	if got, err := bufio.NewReader(resp.Body).ReadString('\n'); got != "echo hello\n" {
		t.Errorf("tunnel answered %q, %v", got, err)
	}
}

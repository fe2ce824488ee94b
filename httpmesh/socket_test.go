//go:build linux || darwin

package httpmesh

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/samehost"
)

// directory returns one for sockets, with a short path.
func directory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "z")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// neighbour is a server that listens on TCP and on a socket.
type neighbour struct {
	*httptest.Server
	listener  *samehost.Listener
	tcp, unix atomic.Int64 // connections
}

func (n *neighbour) endpoint() discovery.Endpoint {
	return discovery.Endpoint{Addr: n.listener.Addr().String(), Meta: n.listener.Meta()}
}

// beside starts a server in a directory; start is StartTLS or Start of it.
func beside(t testing.TB, dir string, h http.Handler, start func(*httptest.Server)) *neighbour {
	t.Helper()
	n := &neighbour{Server: httptest.NewUnstartedServer(h)}
	var err error
	if n.listener, err = samehost.Listen(n.Listener, samehost.ListenConfig{Directory: dir}); err != nil {
		t.Fatal(err)
	}
	n.Listener = n.listener
	n.Config.ConnState = func(c net.Conn, s http.ConnState) {
		switch {
		case s != http.StateNew:
		case c.LocalAddr().Network() == "unix":
			n.unix.Add(1)
		default:
			n.tcp.Add(1)
		}
	}
	start(n.Server)
	t.Cleanup(n.Close)
	return n
}

func TestSocketOfAnInstanceOnTheSameHostIsUsed(t *testing.T) {
	dir := directory(t)
	here := samehost.Policy{Directories: []string{dir}}
	of := func(key, value string) func(map[string]string) map[string]string {
		return func(m map[string]string) map[string]string {
			m[key] = value
			return m
		}
	}
	for name, c := range map[string]struct {
		sockets samehost.Policy
		policy  zerohop.Policy
		meta    func(map[string]string) map[string]string
		unix    bool
	}{
		"on":                 {sockets: here, unix: true},
		"no directories":     {},
		"other directories":  {sockets: samehost.Policy{Directories: []string{directory(t)}}},
		"other owners":       {sockets: samehost.Policy{Directories: []string{dir}, Owners: []uint32{12345}}},
		"switched off":       {sockets: here, policy: zerohop.Policy{Connect: zerohop.Connect{Unix: zerohop.Off}}},
		"on another host":    {sockets: here, meta: of(samehost.KeyHost, "00000000-0000-0000-0000-000000000000")},
		"without a socket":   {sockets: here, meta: func(map[string]string) map[string]string { return nil }},
		"of a former server": {sockets: here, meta: of(samehost.KeyFile, "1-2-3")},
	} {
		t.Run(name, func(t *testing.T) {
			s := beside(t, dir, http.HandlerFunc(hello), (*httptest.Server).Start)
			ep := s.endpoint()
			if c.meta != nil {
				ep.Meta = c.meta(ep.Meta)
			}
			var over networks
			m := open(t, zerohop.Config{
				Resolver: discovery.Static{"orders": {ep}}, Sockets: c.sockets, Hooks: over.hooks(), Spec: zerohop.Spec{Defaults: c.policy},
			})
			tr := client(t, m)
			for range 3 {
				if got := ask(t, tr, "http://orders/"); got != "hello" {
					t.Errorf("answer %q", got)
				}
			}
			if c.unix {
				over.want(t, name, 0, 3)
			} else {
				over.want(t, name, 3, 0)
			}
			if got := s.unix.Load() > 0; got != c.unix || s.tcp.Load() > 0 == c.unix {
				t.Errorf("%d connections over TCP and %d over the socket", s.tcp.Load(), s.unix.Load())
			}
		})
	}
}

func TestStateTellsOfSockets(t *testing.T) {
	dir := directory(t)
	s := beside(t, dir, http.HandlerFunc(hello), (*httptest.Server).Start)
	m := open(t, zerohop.Config{
		Resolver: discovery.Static{"orders": {s.endpoint()}}, Sockets: samehost.Policy{Directories: []string{dir}},
		Spec: zerohop.Spec{Defaults: zerohop.Policy{Explain: zerohop.ExplainPolicy{Sample: 1}}},
	})
	tr := client(t, m)
	state := func() zerohop.EndpointState { return m.State().Services[0].Endpoints[0] }
	req := request(t.Context(), t, http.MethodGet, "http://orders/", nil)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if e := zerohop.Explain(resp); e == nil || e.Tries[0].Network != zerohop.NetworkUnix || !strings.Contains(e.String(), " over unix") {
		t.Errorf("Explain() = %v, want an attempt over the socket", e)
	}
	if e := state(); e.Socket != s.listener.Meta()[samehost.KeyPath] || e.SocketError != "" || !e.SocketRests.IsZero() {
		t.Errorf("state = %q, %q, %v, want a socket that works", e.Socket, e.SocketError, e.SocketRests)
	}
	if err := os.Remove(s.listener.Meta()[samehost.KeyPath]); err != nil {
		t.Fatal(err)
	}
	tr.CloseIdleConnections()
	ask(t, tr, "http://orders/")
	if e := state(); e.Socket == "" || !strings.Contains(e.SocketError, "no such file") || e.SocketRests.IsZero() {
		t.Errorf("state = %q, %q, %v, want a socket that rests", e.Socket, e.SocketError, e.SocketRests)
	}
	if s.tcp.Load() != 1 {
		t.Errorf("%d connections over TCP, want 1", s.tcp.Load())
	}
}

func TestTLSVerifiesTheServiceOverASocket(t *testing.T) {
	dir := directory(t)
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		s := beside(t, dir, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, r.Proto, " ", len(r.TLS.PeerCertificates))
		}), func(s *httptest.Server) {
			s.EnableHTTP2 = version == "HTTP/2.0"
			s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
			s.StartTLS()
		})
		roots := x509.NewCertPool()
		roots.AddCert(s.Certificate())
		var over networks
		m := open(t, zerohop.Config{
			Resolver: discovery.Static{"example.com": {s.endpoint()}, "orders": {s.endpoint()}},
			Sockets:  samehost.Policy{Directories: []string{dir}}, Hooks: over.hooks(),
			Spec: zerohop.Spec{
				Services: map[string]zerohop.Policy{"example.com": {}}, Defaults: zerohop.Policy{Retry: zerohop.Retry{Mode: zerohop.Off}},
			},
		})
		base := &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: s.TLS.Certificates},
			ForceAttemptHTTP2: version == "HTTP/2.0",
		}
		tr := NewTransport(m, base)
		t.Cleanup(tr.CloseIdleConnections)
		if got, want := ask(t, tr, "https://example.com/"), version+" 1"; got != want {
			t.Errorf("answer %q, want %q", got, want)
		}
		over.want(t, version, 0, 1)
		_, err := tr.RoundTrip(request(t.Context(), t, http.MethodGet, "https://orders/", nil))
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
			t.Errorf("RoundTrip() = %v, want that the certificate is not that of the service", err)
		}
	}
}

// Who speaks something else on the socket does not cost the attempt, and is left alone for a while.
func TestSocketThatDoesNotSpeakTLSCostsNoAttempt(t *testing.T) {
	dir := directory(t)
	s := beside(t, dir, http.HandlerFunc(hello), (*httptest.Server).StartTLS)
	stranger := beside(t, dir, http.HandlerFunc(hello), (*httptest.Server).Start)
	ep := s.endpoint()
	ep.Meta = stranger.listener.Meta()
	var over networks
	m := open(t, zerohop.Config{
		Resolver: discovery.Static{"example.com": {ep}}, Sockets: samehost.Policy{Directories: []string{dir}}, Hooks: over.hooks(),
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"example.com": {Retry: zerohop.Retry{Mode: zerohop.Off}}}},
	})
	base := s.Client().Transport.(*http.Transport).Clone()
	base.DisableKeepAlives = true
	tr := NewTransport(m, base)
	for range 3 {
		if got := ask(t, tr, "https://example.com/"); got != "hello" {
			t.Errorf("answer %q", got)
		}
	}
	over.want(t, "all", 3, 0)
	if got := stranger.unix.Load(); got < 1 || got > 2 { // the rest may be over on a slow machine
		t.Errorf("%d connections to the stranger, want 1", got)
	}
}

func TestProxyAndOwnDialersOfTheBaseComeBeforeSockets(t *testing.T) {
	dir := directory(t)
	s := beside(t, dir, http.HandlerFunc(hello), (*httptest.Server).Start)
	var tunnels atomic.Int64
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		tunnels.Add(1)
		out, err := net.Dial("tcp", r.Host)
		if err != nil {
			t.Error(err)
			return
		}
		defer out.Close()
		in, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer in.Close()
		io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			io.Copy(out, in)
			out.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(in, out)
	})
	u, _ := url.Parse(proxy.URL)
	for _, by := range []*url.URL{u, nil} {
		var over networks
		m := open(t, zerohop.Config{
			Resolver: discovery.Static{"orders": {s.endpoint()}}, Sockets: samehost.Policy{Directories: []string{dir}}, Hooks: over.hooks(),
		})
		tr := NewTransport(m, &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return by, nil }})
		if got := ask(t, tr, "http://orders/"); got != "hello" {
			t.Errorf("answer %q", got)
		}
		tr.CloseIdleConnections()
		if by == nil {
			over.want(t, "without a proxy for it", 0, 1)
		} else {
			over.want(t, "by proxy", 1, 0)
		}
	}
	if tunnels.Load() != 1 {
		t.Errorf("%d tunnels, want 1", tunnels.Load())
	}
}

// While the socket comes and goes under load, no call is lost, and both ways are used.
func TestNoCallIsLostWhileSocketsComeAndGo(t *testing.T) {
	dir := directory(t)
	s := beside(t, dir, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	}), (*httptest.Server).Start)
	var over networks
	m := open(t, zerohop.Config{
		Resolver: discovery.Static{"orders": {s.endpoint()}}, Sockets: samehost.Policy{Directories: []string{dir}}, Hooks: over.hooks(),
		Spec: zerohop.Spec{Defaults: zerohop.Policy{
			Retry: zerohop.Retry{Mode: zerohop.Off}, Backup: zerohop.Backup{Mode: zerohop.Off}, Outlier: zerohop.Outlier{Mode: zerohop.Off},
			Connect: zerohop.Connect{Timeout: time.Minute},
		}},
	})
	tr := NewTransport(m, &http.Transport{DisableCompression: true})
	t.Cleanup(tr.CloseIdleConnections)
	path, away := s.listener.Meta()[samehost.KeyPath], filepath.Join(dir, "away")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				want := fmt.Sprint(i, " ", n)
				resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodPost, "http://orders/", strings.NewReader(want)))
				if err != nil {
					t.Errorf("call %s: %v", want, err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if string(got) != want || err != nil {
					t.Errorf("answer %q, %v, want %q", got, err, want)
					return
				}
				if n%5 == 0 {
					tr.CloseIdleConnections()
				}
			}
		})
	}
	moved := func(from, to string, n zerohop.Network) {
		if err := os.Rename(from, to); err != nil {
			t.Error(err)
		}
		for before := over[n].Load(); over[n].Load() < before+50 && !t.Failed(); {
			time.Sleep(time.Millisecond) // for the others
		}
	}
	for range 3 {
		moved(path, away, zerohop.NetworkTCP)
		moved(away, path, zerohop.NetworkUnix)
	}
	close(stop)
	wg.Wait()
	t.Logf("%d calls over TCP, %d over the socket", over[zerohop.NetworkTCP].Load(), over[zerohop.NetworkUnix].Load())
}

func TestReverseProxyTunnelsOverSockets(t *testing.T) {
	dir := directory(t)
	s := beside(t, dir, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, rw)
	}), (*httptest.Server).Start)
	var over networks
	m := open(t, zerohop.Config{
		Resolver: discovery.Static{"orders": {s.endpoint()}}, Sockets: samehost.Policy{Directories: []string{dir}}, Hooks: over.hooks(),
	})
	front := httptest.NewServer(&httputil.ReverseProxy{
		Transport: client(t, m),
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "orders"}) },
	})
	t.Cleanup(front.Close)
	conn, err := net.Dial("tcp", addr(front))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	payload := strings.Repeat("0123456789abcdef", 64<<10)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answer %v, %v", resp, err)
	}
	go io.WriteString(conn, payload) // not before the answer: httputil.ReverseProxy would lose what it has read by then
	got := make([]byte, len(payload))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != payload {
		t.Errorf("%d bytes came back, %v, not those that were sent", n, err)
	}
	if s.unix.Load() != 1 {
		t.Errorf("%d connections over the socket, want 1", s.unix.Load())
	}
}

func TestCountedSocketIsAConnection(t *testing.T) {
	dir := directory(t)
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		path := filepath.Join(dir, "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			return nil, nil, nil, err
		}
		defer l.Close()
		if c1, err = net.Dial("unix", path); err != nil {
			return nil, nil, nil, err
		}
		if c2, err = l.Accept(); err != nil {
			c1.Close()
			return nil, nil, nil, err
		}
		return counted(c1, &traffic{}), c2, func() { c1.Close(); c2.Close() }, nil
	})
}

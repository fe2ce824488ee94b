package httpmesh

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// relay passes bytes both ways until one side ends.
func relay(a, b net.Conn) {
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		wg.Go(func() {
			io.Copy(way[0], way[1])
			a.Close()
			b.Close()
		})
	}
	wg.Wait()
}

// connectProxy is a proxy that makes tunnels for who has the password. It counts them.
func connectProxy(t *testing.T, c *tls.Certificate) (*url.URL, *atomic.Int32) {
	t.Helper()
	var made atomic.Int32
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != "Basic bWU6c2VjcmV0" {
			http.Error(w, "who are you?", http.StatusProxyAuthRequired)
			return
		}
		to, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		made.Add(1)
		from, _, err := http.NewResponseController(w).Hijack() // before it is told to speak: nothing of it is lost then
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(from, "HTTP/1.1 200 Connected\r\n\r\n")
		wg.Go(func() { relay(from, to) })
	}))
	s.Config.ErrorLog = quiet
	scheme := "http"
	if c != nil {
		scheme = "https"
		s.TLS = &tls.Config{Certificates: []tls.Certificate{*c}}
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return &url.URL{Scheme: scheme, Host: addr(s), User: url.UserPassword("me", "secret")}, &made
}

// socksProxy is the least of a SOCKS5 proxy (RFC 1928): no authentication, and addresses of IPv4.
func socksProxy(t *testing.T) (*url.URL, *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var made atomic.Int32
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { l.Close() })
	tunnel := func(conn net.Conn) error {
		var b [10]byte
		if _, err := io.ReadFull(conn, b[:2]); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, conn, int64(b[1])); err != nil {
			return err
		}
		conn.Write([]byte{5, 0})
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return err
		}
		to, err := net.Dial("tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[8:])).String())
		if err != nil {
			return err
		}
		made.Add(1)
		conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		relay(conn, to)
		return nil
	}
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				if err := tunnel(conn); err != nil {
					t.Error(err)
				}
			})
		}
	})
	return &url.URL{Scheme: "socks5", Host: l.Addr().String()}, &made
}

func TestEndpointsAreReachedThroughTheProxyOfTheBase(t *testing.T) {
	a := newAuthority(t)
	own := a.issue(t, "")
	plain, inner := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto, " ", r.Host) }), encrypted(t, a.issue(t, "orders"), true)
	h2c := httptest.NewUnstartedServer(plain.Config.Handler)
	h2c.Config.Protocols = plainHTTP2()
	h2c.Start()
	defer h2c.Close()
	for _, by := range []func() (*url.URL, *atomic.Int32){
		func() (*url.URL, *atomic.Int32) { return connectProxy(t, nil) },
		func() (*url.URL, *atomic.Int32) { return connectProxy(t, &own) },
		func() (*url.URL, *atomic.Int32) { return socksProxy(t) },
	} {
		u, made := by()
		for _, c := range []struct {
			server    *httptest.Server
			protocols *http.Protocols
			url, want string
		}{
			{plain, nil, "http://orders/", "HTTP/1.1 orders"},
			{h2c, plainHTTP2(), "http://orders/", "HTTP/2.0 orders"},
			{inner, nil, "https://orders/", "HTTP/2.0 orders orders"},
		} {
			var asked atomic.Pointer[url.URL]
			base := &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: a.roots()}, ForceAttemptHTTP2: true, Protocols: c.protocols,
				Proxy: func(r *http.Request) (*url.URL, error) {
					asked.Store(r.URL)
					return u, nil
				},
			}
			before := made.Load()
			m := open(t, zerohop.Config{Resolver: source(addr(c.server))})
			tr := NewTransport(m, base)
			resp, err := get(t.Context(), t, tr, c.url)
			if got := read(t, resp, err); got != c.want || made.Load() != before+1 {
				t.Errorf("%s through %s: answer %q over %d tunnels, want %q over one", c.url, u.Scheme, got, made.Load()-before, c.want)
			}
			if got, want := asked.Load().String(), strings.Replace(c.url, "orders", addr(c.server), 1); got != want {
				t.Errorf("%s: a proxy was looked for for %s, want %s", c.url, got, want)
			}
			m.Close()
		}
	}
}

func TestProxiesThatRefuseAreFailedDials(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the endpoint was reached") })
	u, _ := connectProxy(t, nil)
	u.User = nil
	broken := errors.New("no proxy today")
	for want, proxy := range map[string]func(*http.Request) (*url.URL, error){
		"407":                http.ProxyURL(u),
		"no proxy today":     func(*http.Request) (*url.URL, error) { return nil, broken },
		`scheme "gopher"`:    http.ProxyURL(&url.URL{Scheme: "gopher", Host: "127.0.0.1:1"}),
		"connection refused": http.ProxyURL(&url.URL{Scheme: "http", Host: "127.0.0.1:1"}),
	} {
		tr := NewTransport(open(t, zerohop.Config{Resolver: source(addr(s))}), &http.Transport{Proxy: proxy})
		_, err := tr.RoundTrip(request(t.Context(), t, "POST", "http://orders/", nil))
		if e := failure(t, err); e.Sent || !zerohop.DialFailed(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want one of a dial with %s", err, want)
		}
	}
}

// A proxy that takes the connection and says nothing, or too much, costs no more than any dial.
func TestProxiesAreNotWaitedForForLong(t *testing.T) {
	for name, talk := range map[string]func(net.Conn){
		"silent": func(net.Conn) {},
		"endless": func(c net.Conn) {
			for {
				if _, err := fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX: ", strings.Repeat("x", 1<<10)); err != nil {
					return
				}
			}
		},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() {
					defer conn.Close()
					talk(conn)
					io.Copy(io.Discard, conn)
				})
			}
		})
		m := open(t, zerohop.Config{Resolver: fakes(1), Spec: zerohop.Spec{Defaults: zerohop.Policy{Connect: zerohop.Connect{Timeout: 100 * time.Millisecond}}}})
		tr := NewTransport(m, &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()})})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		_, err = get(ctx, t, tr, "http://orders/")
		if e := failure(t, err); e.Sent || ctx.Err() != nil {
			t.Errorf("%s: error = %v, want one of a dial", name, err)
		}
		cancel()
		m.Close()
		l.Close()
		wg.Wait()
	}
}

// What the environment names is for other hosts.
func TestEndpointsAreNotReachedThroughTheProxyOfTheEnvironment(t *testing.T) {
	if os.Getenv("HTTP_PROXY") != "http://environment:80" { // net/http looks at it once in a process
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "HTTP_PROXY=http://environment:80", "NO_PROXY=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("with a proxy in the environment: %v\n%s", err, out)
		}
		return
	}
	for want, base := range map[string]*http.Transport{
		"10.0.0.1:8080": {Proxy: http.ProxyFromEnvironment},
		"proxy:80":      {Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy"})},
	} {
		var got string
		dial := through(base, func(_ context.Context, _, addr string) (net.Conn, error) {
			got = addr
			return nil, io.ErrUnexpectedEOF
		})
		if _, err := dial(t.Context(), "tcp", "10.0.0.1:8080"); err == nil || got != want {
			t.Errorf("dialled %s, %v, want %s", got, err, want)
		}
	}
}

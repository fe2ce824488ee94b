package httpmesh

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"time"

	"golang.org/x/net/proxy"
)

// tunnels makes connections to endpoints by way of the proxies of a base: whatever the scheme of the request, the proxy
// passes bytes (CONNECT or SOCKS) and the endpoint gets the request as it is. A proxy that read it would have to find the
// service by its name.
type tunnels struct {
	base *http.Transport
	dial dialFunc // what the base dials with
}

// through returns a dialer that goes through the proxies of the base, or dial if there are none.
//
// The one from the environment is not used: it is for hosts beyond the network of the process, and what it is not for
// is given by names there, which endpoints do not have.
func through(base *http.Transport, dial dialFunc) dialFunc {
	if base.Proxy == nil || reflect.ValueOf(base.Proxy).Pointer() == reflect.ValueOf(http.ProxyFromEnvironment).Pointer() {
		return dial
	}
	return tunnels{base, dial}.open
}

// open connects to an endpoint.
func (t tunnels) open(ctx context.Context, network, addr string) (net.Conn, error) {
	req := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: addr, Path: "/"}, Host: addr, Header: http.Header{}}
	if d, ok := ctx.Value(dialKey{}).(*dialing); ok {
		req.URL.Scheme = d.scheme
	}
	by, err := t.base.Proxy(req.WithContext(ctx))
	switch {
	case err != nil:
		return nil, err
	case by == nil:
		return t.dial(ctx, network, addr)
	}
	ctx = context.WithValue(ctx, controlKey{}, control(nil))
	switch by.Scheme {
	case "http", "https":
		return t.connect(ctx, network, addr, by)
	case "socks5", "socks5h":
		return t.socks(ctx, network, addr, by)
	}
	return nil, fmt.Errorf("httpmesh: proxy: unknown scheme %q", by.Scheme)
}

// proxyPorts are the default ones by scheme.
var proxyPorts = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

func proxyAddr(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = proxyPorts[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func (t tunnels) socks(ctx context.Context, network, addr string, by *url.URL) (net.Conn, error) {
	var auth *proxy.Auth
	if by.User != nil {
		password, _ := by.User.Password()
		auth = &proxy.Auth{User: by.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5(network, proxyAddr(by), auth, contextDialer(t.dial))
	if err != nil {
		return nil, err
	}
	return d.(proxy.ContextDialer).DialContext(ctx, network, addr)
}

// contextDialer is a dialer as package proxy wants it.
type contextDialer dialFunc

func (d contextDialer) Dial(network, addr string) (net.Conn, error) {
	return d(context.Background(), network, addr)
}

func (d contextDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return d(ctx, network, addr)
}

// connect asks a proxy over HTTP for a connection to addr.
func (t tunnels) connect(ctx context.Context, network, addr string, by *url.URL) (_ net.Conn, err error) {
	conn, err := t.dial(ctx, network, proxyAddr(by))
	if err != nil {
		return nil, err
	}
	raw := conn
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			raw.Close()
		}
	}()
	if by.Scheme == "https" {
		cfg := &tls.Config{}
		if t.base.TLSClientConfig != nil {
			cfg = t.base.TLSClientConfig.Clone()
		}
		cfg.ServerName, cfg.NextProtos = by.Hostname(), []string{"http/1.1"}
		conn = tunnelled{tls.Client(conn, cfg)}
	}
	header := t.base.ProxyConnectHeader
	if f := t.base.GetProxyConnectHeader; f != nil {
		if header, err = f(ctx, by, addr); err != nil {
			return nil, err
		}
	}
	if header = header.Clone(); header == nil {
		header = http.Header{}
	}
	if u := by.User; u != nil && header.Get("Proxy-Authorization") == "" {
		password, _ := u.Password()
		header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: header}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	// One byte at a time: what follows belongs to the endpoint, which may be the first to speak.
	resp, err := http.ReadResponse(bufio.NewReaderSize(&headReader{conn: conn}, 1), req)
	if err != nil {
		return nil, fmt.Errorf("httpmesh: proxy: %w", err)
	}
	if f := t.base.OnProxyConnectResponse; f != nil {
		if err := f(ctx, by, req, resp); err != nil {
			return nil, err
		}
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close() // that of another answer is the tunnel
		return nil, fmt.Errorf("httpmesh: proxy answers CONNECT with %q", resp.Status)
	}
	return conn, nil
}

// tunnelled hides that the connection to the proxy is one of TLS, which is not that of the endpoint.
type tunnelled struct{ net.Conn }

// maxProxyHead is how long the answer of a proxy may be.
const maxProxyHead = 64 << 10

var errLongHead = errors.New("the head of its answer is too long")

// headReader reads single bytes.
type headReader struct {
	conn net.Conn
	n    int
}

func (r *headReader) Read(p []byte) (int, error) {
	if r.n++; r.n > maxProxyHead {
		return 0, errLongHead
	}
	return r.conn.Read(p[:min(len(p), 1)])
}

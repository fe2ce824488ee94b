// Package httputil is that of the standard library, copied next to this file, which puts its tests on a mesh.
package httputil

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

func TestMain(m *testing.M) {
	http.DefaultTransport = through(http.DefaultTransport)
	code := m.Run()
	for _, c := range closers {
		c()
	}
	if err := report(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

var (
	requests atomic.Int64 // that came to us
	attempts atomic.Int64 // that we made of those to services

	mu      sync.Mutex // guards what follows
	tests   = map[string]int64{}
	made    = map[http.RoundTripper]http.RoundTripper{}
	closers []func()
)

// report says how many requests each test made through us.
func report() error {
	data, err := json.Marshal(map[string]any{"Tests": tests, "Attempts": attempts.Load()})
	if err != nil {
		return err
	}
	return os.WriteFile(os.Getenv("STDSUITE_REPORT"), data, 0o600)
}

// begin is called at the start of every test.
func begin(t *testing.T) (end func()) {
	before := requests.Load()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		tests[t.Name()] = requests.Load() - before
	}
}

// counted is the way through us.
type counted struct{ http.RoundTripper }

func (c counted) RoundTrip(req *http.Request) (*http.Response, error) {
	requests.Add(1)
	return c.RoundTripper.RoundTrip(req)
}

func (c counted) CloseIdleConnections() {
	c.RoundTripper.(interface{ CloseIdleConnections() }).CloseIdleConnections()
}

// through returns our transport over the one that a test wants to use.
func through(base http.RoundTripper) http.RoundTripper {
	if _, ok := base.(counted); ok {
		return base
	}
	mu.Lock()
	defer mu.Unlock()
	comparable := reflect.TypeOf(base).Comparable()
	if comparable && made[base] != nil {
		return made[base]
	}
	rt := counted{over(base)}
	if comparable {
		made[base] = rt
	}
	return rt
}

// over makes our transport. mu is held.
func over(base http.RoundTripper) http.RoundTripper {
	cfg := zerohop.Config{Hooks: zerohop.Hooks{AttemptStart: func(ctx context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo) context.Context {
		attempts.Add(1)
		return ctx
	}}}
	switch mode := os.Getenv("STDSUITE_MODE"); mode {
	case "transport": // every host passes through
		cfg.Resolver = discovery.Static{}
		return httpmesh.NewTransport(mesh(cfg), base)
	case "service": // every host is a service with one endpoint
		cfg.Resolver = namedHosts{}
		return namingTransport{httpmesh.NewTransport(mesh(cfg), base)}
	case "guard":
		g, err := httpmesh.NewGuard(base, cfg)
		if err != nil {
			panic(err)
		}
		closers = append(closers, func() { g.Close() })
		return g
	default:
		panic("STDSUITE_MODE is " + mode)
	}
}

func mesh(cfg zerohop.Config) *zerohop.Mesh {
	m, err := zerohop.New(cfg)
	if err != nil {
		panic(err)
	}
	closers = append(closers, func() { m.Close() })
	return m
}

// namingTransport calls hosts as services: only their name in the URL changes, Host stays.
type namingTransport struct{ *httpmesh.Transport }

const prefix = "host-"

func (t namingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "http" { // TLS would ask for the name of the service
		return t.Transport.RoundTrip(req)
	}
	u := *req.URL
	u.Host = prefix + hex.EncodeToString([]byte(u.Host))
	named := req.WithContext(req.Context())
	named.URL = &u
	if named.Host == "" {
		named.Host = req.URL.Host
	}
	return t.Transport.RoundTrip(named)
}

// namedHosts finds the host that a service is named after.
type namedHosts struct{}

func (namedHosts) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	host, err := hex.DecodeString(strings.TrimPrefix(service, prefix))
	if err != nil {
		return err
	}
	addr := string(host)
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = net.JoinHostPort(addr, "80")
	}
	return discovery.Static{service: {{Addr: addr}}}.Watch(ctx, service, update)
}

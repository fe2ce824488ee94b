package interop_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/interop/shop"
	"github.com/zerohop/zerohop/interop/shop/shopconnect"
	"github.com/zerohop/zerohop/resilience"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire is how clients and servers are connected.
type wire struct {
	name, scheme string
	start        func(*httptest.Server)
	base         func() *http.Transport
}

var (
	overTLS = wire{"tls", "https", func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.StartTLS()
	}, func() *http.Transport {
		// The certificate of httptest is for example.com, and known to its own clients only.
		s := httptest.NewTLSServer(http.NotFoundHandler())
		defer s.Close()
		roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"}, ForceAttemptHTTP2: true}
	}}
	overH2C = wire{"h2c", "http", func(s *httptest.Server) {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	}, func() *http.Transport {
		p := new(http.Protocols)
		p.SetUnencryptedHTTP2(true)
		return &http.Transport{Protocols: p}
	}}
	overHTTP1 = wire{"http1", "http", (*httptest.Server).Start, func() *http.Transport { return &http.Transport{} }}
)

// fleet is a service of several nodes and a client of it.
type fleet struct {
	wire  wire
	mesh  *zerohop.Mesh
	http  *http.Client
	nodes []*node

	mu       sync.Mutex // guards what follows
	attempts []attempt
	ended    chan struct{} // gets one for every attempt
}

// attempt is what the mesh noted of an attempt that is over.
type attempt struct {
	node    string
	outcome resilience.Outcome
	err     error
}

// start starts a service that n nodes answer for, each with the handler made for it.
func start(t testing.TB, w wire, n int, p zerohop.Policy, handler func(*node) http.Handler) *fleet {
	t.Helper()
	f := &fleet{wire: w, ended: make(chan struct{}, 1000)}
	var list []discovery.Endpoint
	for i := range n {
		b := &node{name: fmt.Sprint("node ", i)}
		b.server = httptest.NewUnstartedServer(handler(b))
		w.start(b.server)
		t.Cleanup(b.server.Close)
		b.addr = b.server.Listener.Addr().String()
		f.nodes = append(f.nodes, b)
		list = append(list, discovery.Endpoint{Addr: b.addr})
	}
	var err error
	f.mesh, err = zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"shop": list},
		Spec:     zerohop.Spec{Services: map[string]zerohop.Policy{"shop": p}},
		Hooks:    zerohop.Hooks{AttemptDone: f.done},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.mesh.Close() })
	tr := httpmesh.NewTransport(f.mesh, w.base())
	t.Cleanup(tr.CloseIdleConnections)
	f.http = &http.Client{Transport: tr}
	return f
}

func (f *fleet) done(_ context.Context, _ zerohop.CallInfo, a zerohop.AttemptInfo, r zerohop.AttemptResult) {
	f.mu.Lock()
	f.attempts = append(f.attempts, attempt{a.Node.Addr(), r.Outcome, r.Err})
	f.mu.Unlock()
	f.ended <- struct{}{}
}

// await returns the outcomes of the first n attempts, sorted, when that many are over.
func (f *fleet) await(t testing.TB, n int) []resilience.Outcome {
	t.Helper()
	for range n {
		select {
		case <-f.ended:
		case <-time.After(10 * time.Second):
			t.Fatal("attempts do not end")
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []resilience.Outcome
	for _, a := range f.attempts[:n] {
		list = append(list, a.outcome)
	}
	slices.Sort(list)
	return list
}

// calls returns how many calls reached a node.
func (f *fleet) calls() (n int) {
	for _, b := range f.nodes {
		n += int(b.calls.Load())
	}
	return n
}

// node is an instance of the service.
type node struct {
	shopconnect.UnimplementedShopHandler
	name, addr string
	server     *httptest.Server
	calls      atomic.Int32
	err        atomic.Pointer[connect.Error] // what calls fail with
	midstream  midstream                     // called by Watch and Haggle after the first answer
}

type midstream func(context.Context) error

func (f midstream) run(ctx context.Context) error {
	if f == nil {
		return nil
	}
	return f(ctx)
}

// shops starts three nodes that serve Connect, gRPC and gRPC-Web.
func shops(t testing.TB, w wire, p zerohop.Policy) *fleet {
	t.Helper()
	return start(t, w, 3, p, (*node).handler)
}

func (b *node) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(shopconnect.NewShopHandler(b))
	return mux
}

// client returns a generated client.
func (f *fleet) client(opts ...connect.ClientOption) shopconnect.ShopClient {
	return shopconnect.NewShopClient(f.http, f.wire.scheme+"://shop", opts...)
}

// failing makes every node fail with the code.
func (f *fleet) failing(code connect.Code, nodes ...*node) {
	for _, b := range nodes {
		err := connect.NewError(code, errors.New("closed for lunch"))
		detail, _ := connect.NewErrorDetail(&shop.Item{Text: "back at two"})
		err.AddDetail(detail)
		err.Meta().Set("Shop-Note", "on the door")
		b.err.Store(err)
	}
}

// come notes a call and returns what it fails with.
func (b *node) come() error {
	b.calls.Add(1)
	if err := b.err.Load(); err != nil {
		return err
	}
	return nil
}

func (b *node) answer(text string) *shop.Answer { return &shop.Answer{Text: text, Node: b.name} }

func (b *node) Price(_ context.Context, r *connect.Request[shop.Item]) (*connect.Response[shop.Answer], error) {
	if err := b.come(); err != nil {
		return nil, err
	}
	return connect.NewResponse(b.answer(r.Msg.Text)), nil
}

func (b *node) Order(ctx context.Context, r *connect.Request[shop.Item]) (*connect.Response[shop.Answer], error) {
	return b.Price(ctx, r)
}

func (b *node) Watch(ctx context.Context, r *connect.Request[shop.Item], s *connect.ServerStream[shop.Answer]) error {
	if b.calls.Add(1); r.Msg.Count == 0 {
		return b.fault()
	}
	for i := range r.Msg.Count {
		if err := s.Send(b.answer(r.Msg.Text)); err != nil {
			return err
		}
		if i == 0 {
			if err := b.midstream.run(ctx); err != nil {
				return err
			}
		}
	}
	return b.fault()
}

// fault is what a stream ends with.
func (b *node) fault() error {
	if err := b.err.Load(); err != nil {
		return err
	}
	return nil
}

func (b *node) Stock(_ context.Context, s *connect.ClientStream[shop.Item]) (*connect.Response[shop.Answer], error) {
	b.calls.Add(1)
	var texts []string
	for s.Receive() {
		texts = append(texts, s.Msg().Text)
	}
	if err := errors.Join(s.Err(), b.fault()); err != nil {
		return nil, err
	}
	return connect.NewResponse(b.answer(strings.Join(texts, " "))), nil
}

func (b *node) Haggle(ctx context.Context, s *connect.BidiStream[shop.Item, shop.Answer]) error {
	b.calls.Add(1)
	for first := true; ; first = false {
		item, err := s.Receive()
		if err != nil {
			break
		}
		if err := s.Send(b.answer(item.Text)); err != nil {
			return err
		}
		if first {
			if err := b.midstream.run(ctx); err != nil {
				return err
			}
		}
	}
	return b.fault()
}

// slow is a node that answers orders when their time is up.
type slow struct{ *node }

func (s slow) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(shopconnect.NewShopHandler(s))
	return mux
}

func (slow) Order(ctx context.Context, _ *connect.Request[shop.Item]) (*connect.Response[shop.Answer], error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

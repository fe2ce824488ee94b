package telemetry

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/loadbalance"
)

// tree is a chain of four services on loopback, each with a mesh of its own: web (HTTP), stock (gRPC), prices (HTTP), which has a
// branch, and ledger (Do). Each adds its name to the answer.
type tree struct {
	source discoverytest.Memory
	branch *httptest.Server
}

var propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// newTree returns a tree whose gRPC service is a server of zerohop, or one that only hands on what OpenTelemetry does.
func newTree(t *testing.T, foreign bool) *tree {
	tr := &tree{}
	ledger := tr.http(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "ledger(%s)", r.Header.Get("Lane"))
	})
	tr.source.Set("ledger", discovery.Endpoint{Addr: ledger.Listener.Addr().String()}, discovery.Endpoint{Addr: "127.0.0.1:1", Meta: map[string]string{"lane": "other"}})

	prices := func(name string) *httptest.Server {
		m := tr.mesh(t)
		return tr.http(t, func(w http.ResponseWriter, r *http.Request) {
			below, err := zerohop.Do(r.Context(), m, "ledger", func(ctx context.Context, n *loadbalance.Node) (string, error) {
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Addr(), nil)
				req.Header.Set("Lane", zerohop.LaneOf(ctx))
				return fetch(http.DefaultClient, req)
			})
			b, _ := baggage.Parse(r.Header.Get("Baggage"))
			if err != nil || b.Member("userId").Value() != "alice & bob" {
				http.Error(w, fmt.Sprintf("%v, baggage %q", err, r.Header["Baggage"]), http.StatusInternalServerError)
				return
			}
			fmt.Fprintf(w, "%s %s", name, below)
		})
	}
	tr.branch = prices("prices-x")
	one, two := prices("prices"), prices("prices")
	tr.source.Set("prices", discovery.Endpoint{Addr: one.Listener.Addr().String()}, discovery.Endpoint{Addr: two.Listener.Addr().String()},
		discovery.Endpoint{Addr: tr.branch.Listener.Addr().String(), Meta: map[string]string{"lane": "feature-x"}})

	stock := &stock{client: &http.Client{Transport: httpmesh.NewTransport(tr.mesh(t), &http.Transport{DisableKeepAlives: true})}}
	opts := grpcmesh.ServerOptions()
	if foreign {
		opts = []grpc.ServerOption{grpc.UnaryInterceptor(extract)}
	}
	server := grpc.NewServer(opts...)
	echopb.RegisterEchoServer(server, stock)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Stop
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	tr.source.Set("stock", discovery.Endpoint{Addr: l.Addr().String()})

	conn, err := grpc.NewClient(grpcmesh.Target("stock"),
		append(grpcmesh.DialOptions(tr.mesh(t)), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	web := tr.http(t, func(w http.ResponseWriter, r *http.Request) {
		ctx := propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header)) // as its middleware does
		reply, err := echopb.NewEchoClient(conn).Say(ctx, &echopb.SayRequest{})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, "web ", reply.Text)
	})
	tr.source.Set("web", discovery.Endpoint{Addr: web.Listener.Addr().String()})
	return tr
}

// mesh returns one for a service of the tree.
func (tr *tree) mesh(t *testing.T) *zerohop.Mesh {
	hooks, err := New(Config{MeterProvider: noop.NewMeterProvider(), Propagator: propagator})
	if err != nil {
		t.Fatal(err)
	}
	m, err := zerohop.New(zerohop.Config{
		Resolver: &tr.source, Hooks: hooks,
		Spec: zerohop.Spec{Defaults: zerohop.Policy{Lane: zerohop.Lane{Mode: zerohop.On}, Idempotent: zerohop.On}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func (tr *tree) http(t *testing.T, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(httpmesh.NewHandler(h, httpmesh.HandlerOptions{}))
	t.Cleanup(s.Close)
	return s
}

// stock is the gRPC service.
type stock struct {
	echopb.UnimplementedEchoServer
	client *http.Client
}

func (s *stock) Say(ctx context.Context, _ *echopb.SayRequest) (*echopb.SayReply, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	ctx = propagator.Extract(ctx, incoming(md))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://prices/", nil)
	if err != nil {
		return nil, err
	}
	text, err := fetch(s.client, req)
	if err != nil {
		return nil, err
	}
	return &echopb.SayReply{Text: "stock " + text}, nil
}

// incoming lets a propagator read metadata.
type incoming metadata.MD

func (m incoming) Get(key string) string { return strings.Join(metadata.MD(m).Get(key), ",") }
func (m incoming) Set(string, string)    {}
func (m incoming) Keys() (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

// extract is what a server has that knows OpenTelemetry only.
func extract(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	return next(propagator.Extract(ctx, incoming(md)), req)
}

func fetch(c *http.Client, req *http.Request) (string, error) {
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d: %s", resp.StatusCode, b)
	}
	return string(b), err
}

func TestLaneGoesThroughTheWholeTree(t *testing.T) {
	for _, tt := range []struct {
		name    string
		foreign bool
	}{{"of zerohop", false}, {"with a service that knows OpenTelemetry only", true}} {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTree(t, tt.foreign)
			client := &http.Client{Transport: httpmesh.NewTransport(tr.mesh(t), &http.Transport{DisableKeepAlives: true})}
			member, _ := baggage.NewMemberRaw("userId", "alice & bob")
			bag, _ := baggage.New(member)
			call := func(lane, want string) {
				t.Helper()
				ctx := baggage.ContextWithBaggage(zerohop.WithLane(t.Context(), lane), bag)
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://web/", nil)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := fetch(client, req); got != want {
					t.Fatalf("a call in lane %q was answered by %q, %v, want %q", lane, got, err, want)
				}
			}
			for i := range 60 {
				if i%3 > 0 {
					call("", "web stock prices ledger()")
				} else {
					call("feature-x", "web stock prices-x ledger(feature-x)")
				}
			}
			call("unknown", "web stock prices ledger(unknown)")
			tr.branch.CloseClientConnections()
			tr.branch.Close() // and it is still registered
			for range 60 {
				call("feature-x", "web stock prices ledger(feature-x)")
			}
		})
	}
}

func TestHooksFindTheLaneInBaggage(t *testing.T) {
	hooks, err := New(Config{MeterProvider: noop.NewMeterProvider(), Propagator: propagator})
	if err != nil {
		t.Fatal(err)
	}
	member, err := baggage.NewMember(zerohop.LaneKey, "50%25")
	if err != nil {
		t.Fatal(err)
	}
	bag, err := baggage.New(member)
	if err != nil {
		t.Fatal(err)
	}
	for ctx, want := range map[context.Context]string{t.Context(): "", baggage.ContextWithBaggage(t.Context(), bag): "50%"} {
		if got := hooks.Lane(ctx); got != want {
			t.Errorf("Lane() = %q, want %q", got, want)
		}
	}
	if !slices.Contains(propagator.Fields(), "baggage") {
		t.Error("the propagator of the tests does not carry baggage")
	}
}

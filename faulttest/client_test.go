//go:build unix

package faulttest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/echopb"
)

// service is the name of the backends.
const service = "echo"

// protocol is a way to call backends.
type protocol struct {
	name string
	// addr is where a backend serves it.
	addr func(*backend) string
	// meshed calls through a mesh.
	meshed func(t *testing.T, m *zerohop.Mesh, service string) caller
	// plain calls without one: in turn, and once each.
	plain func(t *testing.T, addrs []string) caller
}

var protocols = []protocol{
	{"HTTP", func(b *backend) string { return b.setup.HTTP }, meshedHTTP, plainHTTP},
	{"gRPC", func(b *backend) string { return b.setup.GRPC }, meshedGRPC, plainGRPC},
}

func (p protocol) addrs(list []*backend) []string {
	addrs := make([]string, len(list))
	for i, b := range list {
		addrs[i] = p.addr(b)
	}
	return addrs
}

func meshedHTTP(_ *testing.T, m *zerohop.Mesh, service string) caller {
	client := &http.Client{Transport: httpmesh.NewTransport(m, nil)}
	return func(ctx context.Context) error { return get(ctx, client, service) }
}

func plainHTTP(t *testing.T, addrs []string) caller {
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	var turn atomic.Uint64
	return func(ctx context.Context) error {
		return get(ctx, client, addrs[turn.Add(1)%uint64(len(addrs))])
	}
}

func get(ctx context.Context, client *http.Client, host string) error {
	return send(ctx, client, http.MethodGet, host)
}

// send makes a request without a body.
func send(ctx context.Context, client *http.Client, method, host string) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+"/", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}

func meshedGRPC(t *testing.T, m *zerohop.Mesh, service string) caller {
	return say(meshedEcho(t, m, service))
}

func meshedEcho(t *testing.T, m *zerohop.Mesh, service string) echopb.EchoClient {
	return echo(t, grpcmesh.Target(service), grpcmesh.DialOptions(m)...)
}

func plainGRPC(t *testing.T, addrs []string) caller {
	r := manual.NewBuilderWithScheme("plain")
	var state resolver.State
	for _, a := range addrs {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	r.InitialState(state)
	return say(echo(t, "plain:///"+service, grpc.WithResolvers(r), grpc.WithDisableRetry(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`)))
}

func echo(t *testing.T, target string, opts ...grpc.DialOption) echopb.EchoClient {
	t.Helper()
	conn, err := grpc.NewClient(target, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return echopb.NewEchoClient(conn)
}

func say(client echopb.EchoClient) caller {
	return func(ctx context.Context) error {
		_, err := client.Say(ctx, &echopb.SayRequest{Text: "hello"})
		return err
	}
}

// newMesh returns a mesh with default settings and what it counts of attempts.
func newMesh(t *testing.T, r discovery.Resolver) (*zerohop.Mesh, *tally) {
	t.Helper()
	return newMeshWith(t, r, zerohop.Policy{})
}

// newMeshWith is newMesh with a policy.
func newMeshWith(t *testing.T, r discovery.Resolver, p zerohop.Policy) (*zerohop.Mesh, *tally) {
	t.Helper()
	count := &tally{picks: map[string]int{}}
	m, err := zerohop.New(zerohop.Config{
		Resolver: r, Spec: zerohop.Spec{Defaults: p}, Hooks: zerohop.Hooks{AttemptDone: count.attemptDone},
		Addresses: discovery.AddressPolicy{AllowLoopback: true}, // where all servers are
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m, count
}

// static lists the addresses as endpoints of the service.
func static(addrs []string) discovery.Static {
	var list []discovery.Endpoint
	for _, a := range addrs {
		list = append(list, discovery.Endpoint{Addr: a})
	}
	return discovery.Static{service: list}
}

// tally counts attempts.
type tally struct {
	mu                sync.Mutex // guards what follows
	attempts, backups int
	picks             map[string]int // by address
}

func (c *tally) attemptDone(_ context.Context, _ zerohop.CallInfo, a zerohop.AttemptInfo, _ zerohop.AttemptResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts++
	if a.Backup {
		c.backups++
	}
	if a.Node != nil {
		c.picks[a.Node.Addr()]++
	}
}

// trial is a load on backends through a mesh, and what it costs them.
type trial struct {
	protocol protocol
	backends []*backend
	call     caller
	count    *tally
}

// newTrial puts a mesh in front of backends. A second of load lets it learn what is usual.
func newTrial(t *testing.T, p protocol, list []*backend, rate float64) *trial {
	t.Helper()
	m, count := newMesh(t, static(p.addrs(list)))
	tr := &trial{protocol: p, backends: list, call: p.meshed(t, m, service), count: count}
	l := startLoad(t, rate, tr.call)
	l.until(time.Second)
	if r := l.stop(); r.ok < r.calls {
		r.log(t, p.name+" warm-up")
		if !r.held() {
			blame(t, r)
		}
		t.Fatal("calls failed before there was a fault")
	}
	return tr
}

// run makes calls at the given rate while faults does what it does, and logs the result.
func (tr *trial) run(t *testing.T, what string, rate float64, faults func(*load)) result {
	t.Helper()
	before, arrived := tr.count.snapshot(), tr.arrivals(t)
	l := startLoad(t, rate, tr.call)
	faults(l)
	r := l.stop()
	after := tr.count.snapshot()
	r.attempts, r.backups = after.attempts-before.attempts, after.backups-before.backups
	r.executions = tr.arrivals(t) - arrived
	r.still = standstill(t, tr.backends, l.began)
	for _, b := range tr.backends {
		a := tr.protocol.addr(b)
		r.picks = append(r.picks, after.picks[a]-before.picks[a])
	}
	r.log(t, tr.protocol.name+" "+what)
	return r
}

func (tr *trial) arrivals(t *testing.T) (sum int) {
	for _, b := range tr.backends {
		sum += b.arrivals(t)
	}
	return sum
}

func (c *tally) snapshot() *tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &tally{attempts: c.attempts, backups: c.backups, picks: maps.Clone(c.picks)}
}

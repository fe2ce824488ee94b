package grpcmesh

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/leastrequest"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// fakeConn is a ClientConn whose connections are up as soon as they are wanted. Like gRPC's, it calls back one call at
// a time and never from within a call of the balancer: settle does.
type fakeConn struct {
	balancer.ClientConn
	eager  bool // call back from within a call of one child what concerns others
	calls  []func()
	states int // told so far
	state  balancer.State
	conns  map[string]*fakeSubConn // that are not shut down, by address
}

type fakeSubConn struct {
	balancer.SubConn
	conn   *fakeConn
	addr   string
	listen func(balancer.SubConnState)
	refuse error // instead of a connection
}

func newFakeConn() *fakeConn { return &fakeConn{conns: map[string]*fakeSubConn{}} }

func (c *fakeConn) settle() {
	for len(c.calls) > 0 {
		calls := c.calls
		c.calls = nil
		for _, call := range calls {
			call()
		}
	}
}

func (c *fakeConn) later(call func()) { c.calls = append(c.calls, call) }

func (c *fakeConn) UpdateState(s balancer.State) { c.states, c.state = c.states+1, s }

func (c *fakeConn) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	s := &fakeSubConn{conn: c, addr: addrs[0].Addr, listen: opts.StateListener}
	c.conns[s.addr] = s
	return s, nil
}

func (s *fakeSubConn) Connect() {
	if s.conn.eager {
		s.conn.settle()
	}
	s.conn.later(func() { s.listen(balancer.SubConnState{ConnectivityState: connectivity.Connecting}) })
	s.conn.later(func() { s.listen(balancer.SubConnState{ConnectivityState: connectivity.Ready}) })
}

func (s *fakeSubConn) RegisterHealthListener(listen func(balancer.SubConnState)) {
	s.conn.later(func() { listen(balancer.SubConnState{ConnectivityState: connectivity.Ready}) })
}

func (s *fakeSubConn) Shutdown() {
	if s.conn.conns[s.addr] == s {
		delete(s.conn.conns, s.addr)
	}
}

// policy is a way to balance, ours or one of gRPC's.
type policy struct {
	conn     *fakeConn
	balancer balancer.Balancer
	config   serviceconfig.LoadBalancingConfig
	mesh     *loadbalance.Balancer // nil if it is gRPC's
	link     *link
}

func newPolicy(b testing.TB, name string) *policy {
	p := &policy{conn: newFakeConn()}
	builder := balancer.Get(name)
	p.balancer = builder.Build(p.conn, balancer.BuildOptions{})
	b.Cleanup(p.balancer.Close)
	if parser, ok := builder.(balancer.ConfigParser); ok {
		config, err := parser.ParseConfig([]byte("{}"))
		if err != nil {
			b.Fatal(err)
		}
		p.config = config
	}
	if name == balancerName {
		p.mesh = loadbalance.New(loadbalance.Config{})
		p.link = &link{service: "orders", balancers: map[string]*loadbalance.Balancer{"orders": p.mesh}}
	}
	return p
}

// update hands over a new set, and settles what comes of it.
func (p *policy) update(eps []discovery.Endpoint) {
	var s resolver.State
	if p.mesh != nil {
		p.mesh.Update(eps)
		s.Attributes = attributes.New(linkKey{}, p.link)
	} else {
		for _, ep := range eps {
			s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: ep.Addr}}})
		}
	}
	_ = p.balancer.UpdateClientConnState(balancer.ClientConnState{ResolverState: s, BalancerConfig: p.config})
	p.conn.settle()
}

// many returns n endpoints, the last of which is named by variant.
func many(n, variant int) []discovery.Endpoint {
	eps := make([]discovery.Endpoint, n)
	for i := range eps {
		eps[i].Addr = fmt.Sprintf("10.%d.%d.1:80", i/250, i%250)
	}
	eps[n-1].Addr = fmt.Sprintf("11.%d.%d.1:80", variant/250, variant%250)
	return eps
}

var policies = []string{balancerName, roundrobin.Name, leastrequest.Name}

// BenchmarkPick compares the picks of the balancers when all endpoints are connected.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 100, 1000, 10_000} {
		for _, name := range policies {
			p := newPolicy(b, name)
			p.conn.eager = true // or the others take a quarter of a minute
			p.update(many(n, 0))
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				info := balancer.PickInfo{FullMethodName: "/echo.Echo/Say", Ctx: context.Background()}
				end := balancer.DoneInfo{BytesSent: true, BytesReceived: true}
				for b.Loop() {
					r, err := p.conn.state.Picker.Pick(info)
					if err != nil {
						b.Fatal(err)
					}
					if r.Done != nil {
						r.Done(end)
					}
				}
			})
		}
	}
}

// BenchmarkChange replaces one endpoint of many, until its connection is ready.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		sets := [][]discovery.Endpoint{many(n, 0), many(n, 1)}
		for _, name := range policies {
			p := newPolicy(b, name)
			p.conn.eager = true
			p.update(sets[0])
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					i++
					p.update(sets[i%2])
				}
			})
		}
	}
}

// BenchmarkStart takes the balancers from nothing to all endpoints connected. With ten thousand, round_robin takes a
// quarter of a minute.
func BenchmarkStart(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		eps := many(n, 0)
		for _, name := range []string{balancerName, roundrobin.Name} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				if testing.Short() && name != balancerName && n > 1000 {
					b.Skip("takes too long")
				}
				b.ReportAllocs()
				for b.Loop() {
					newPolicy(b, name).update(eps)
				}
			})
		}
	}
}

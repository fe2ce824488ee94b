package grpcmesh

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
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
	eager bool // call back from within a call of one child what concerns others

	mu     sync.Mutex // guards what follows
	calls  []func()
	states int // told so far
	state  balancer.State
	made   int                     // connections so far
	conns  map[string]*fakeSubConn // that are not shut down, by address
	refuse map[string]error        // why addresses cannot be connected
}

type fakeSubConn struct {
	balancer.SubConn
	conn   *fakeConn
	addr   string
	listen func(balancer.SubConnState)
}

func newFakeConn() *fakeConn {
	return &fakeConn{conns: map[string]*fakeSubConn{}, refuse: map[string]error{}}
}

func (c *fakeConn) settle() {
	for {
		c.mu.Lock()
		calls := c.calls
		c.calls = nil
		c.mu.Unlock()
		if len(calls) == 0 {
			return
		}
		for _, call := range calls {
			call()
		}
	}
}

// rest settles what is going on, and what that wakes.
func (c *fakeConn) rest() {
	c.settle()
	synctest.Wait()
	c.settle()
}

// refusing has connections to an address fail, or not if err is nil.
func (c *fakeConn) refusing(addr string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse[addr] = err
}

func (c *fakeConn) refused(addr string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refuse[addr]
}

func (c *fakeConn) told() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.states
}

func (c *fakeConn) later(call func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call)
}

func (c *fakeConn) UpdateState(s balancer.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states, c.state = c.states+1, s
}

func (c *fakeConn) ResolveNow(resolver.ResolveNowOptions) {}

func (c *fakeConn) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	s := &fakeSubConn{conn: c, addr: addrs[0].Addr, listen: opts.StateListener}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	c.conns[s.addr] = s
	return s, nil
}

func (s *fakeSubConn) Connect() {
	if s.conn.eager {
		s.conn.settle()
	}
	s.becomes(connectivity.Connecting, nil)
	if err := s.conn.refused(s.addr); err != nil {
		s.becomes(connectivity.TransientFailure, err)
		return
	}
	s.becomes(connectivity.Ready, nil)
}

func (s *fakeSubConn) becomes(state connectivity.State, err error) {
	s.conn.later(func() { s.listen(balancer.SubConnState{ConnectivityState: state, ConnectionError: err}) })
}

func (s *fakeSubConn) RegisterHealthListener(listen func(balancer.SubConnState)) {
	s.conn.later(func() { listen(balancer.SubConnState{ConnectivityState: connectivity.Ready}) })
}

func (s *fakeSubConn) Shutdown() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
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
	err      error // that hand got last
	views    int   // made so far
	visited  int   // nodes for them
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
		p.mesh = loadbalance.New(loadbalance.Config{Builder: p.build})
		p.link = &link{shared: &shared{}, service: "orders", balancers: map[string]*loadbalance.Balancer{"orders": p.mesh}}
	}
	return p
}

func (p *policy) build(nodes []*loadbalance.Node) loadbalance.Picker {
	p.views, p.visited = p.views+1, p.visited+len(nodes)
	return loadbalance.PeakEWMA(nodes)
}

// pick picks once, without an attempt.
func (p *policy) pick() (balancer.PickResult, error) {
	p.conn.mu.Lock()
	picker := p.conn.state.Picker
	p.conn.mu.Unlock()
	return picker.Pick(balancer.PickInfo{Ctx: context.Background()})
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
	p.hand(s)
}

// hand hands over a state of the resolver, and settles what comes of it.
func (p *policy) hand(s resolver.State) {
	if err := p.balancer.UpdateClientConnState(balancer.ClientConnState{ResolverState: s, BalancerConfig: p.config}); err != nil {
		p.err = err
	}
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

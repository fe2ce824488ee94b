package grpcmesh

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// This file is the only one that touches gRPC's balancer API, which is marked experimental.

// balancerName is the name under which the balancer is registered with gRPC. Its parameters are in the state that the
// resolver hands over, so one name serves all meshes.
const balancerName = "zerohop"

func init() { balancer.Register(balancerBuilder{}) }

type balancerBuilder struct{}

func (balancerBuilder) Name() string { return balancerName }

func (balancerBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return &meshBalancer{cc: cc, opts: opts, builder: balancer.Get(pickfirst.Name), children: map[string]*child{}}
}

// ParseConfig fails if the config says that it is invalid, so that grpc.NewClient does.
func (balancerBuilder) ParseConfig(text json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	var c balancerConfig
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, err
	}
	if c.Invalid != "" {
		return nil, errors.New(c.Invalid)
	}
	return c, nil
}

type balancerConfig struct {
	serviceconfig.LoadBalancingConfig `json:"-"`

	Invalid string `json:"invalid,omitempty"`
}

// healthListener makes a child listen to health checks, if the service config asks for any.
var healthListener = pickfirst.EnableHealthListener(resolver.State{}).Attributes

// meshBalancer leaves connections to gRPC: it keeps one pick_first child for each address, and adds up what they say.
// Unlike gRPC's own policies, it does not begin anew at each change: with ten thousand endpoints that takes as many
// times ten thousand steps until all are connected.
//
// Locks are taken in the order child.calls, that of the child itself, mu. None but the child's is held when gRPC is
// called, which the child does, too.
type meshBalancer struct {
	cc       balancer.ClientConn
	opts     balancer.BuildOptions
	builder  balancer.Builder  // of children
	children map[string]*child // by address; for calls by gRPC only, which come one at a time
	waking   sync.WaitGroup    // wake

	mu      sync.Mutex // guards what follows
	picker  *picker    // nil before the first state of the resolver
	states  [connectivity.Shutdown + 1]int
	held    bool        // changes are not told: more are coming
	telling bool        // somebody is telling gRPC
	untold  bool        // something that gRPC is to know
	idle    []*child    // to be woken
	awake   bool        // wake is under way
	timer   *time.Timer // of refresh, nil if there is nothing to refresh
	expiry  *time.Timer // of expire, nil if nothing can expire
	closed  bool
}

var errForeign = errors.New("grpcmesh: the " + balancerName + " balancer works with targets of package grpcmesh only")

func (b *meshBalancer) UpdateClientConnState(s balancer.ClientConnState) error {
	l, ok := s.ResolverState.Attributes.Value(linkKey{}).(*link)
	if !ok {
		b.ResolverError(errForeign)
		return balancer.ErrBadResolverState
	}
	b.mu.Lock()
	b.held = true
	retired := b.adopt(l)
	pools := b.picker.pools
	b.mu.Unlock()
	for _, p := range pools {
		b.sync(p, p.balancer.Set())
	}
	for _, p := range retired { // now: addresses may have moved to another
		b.sync(p, new(loadbalance.Set))
	}
	b.mu.Lock()
	b.held = false
	b.mu.Unlock()
	b.tell()
	return nil
}

// ResolverError is of no interest once the endpoints were known.
func (b *meshBalancer) ResolverError(err error) {
	b.mu.Lock()
	known := b.picker != nil
	b.mu.Unlock()
	if !known {
		b.cc.UpdateState(balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: base.NewErrPicker(err)})
	}
}

func (b *meshBalancer) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {} // children listen themselves

func (b *meshBalancer) ExitIdle() {
	for _, c := range b.children {
		c.exitIdle()
	}
}

func (b *meshBalancer) Close() {
	b.mu.Lock()
	b.closed = true
	if b.timer != nil {
		b.timer.Stop()
	}
	if b.expiry != nil {
		b.expiry.Stop()
	}
	if b.picker != nil {
		for _, p := range b.picker.pools {
			for n := range p.members {
				b.picker.link.near.remove(n)
			}
		}
	}
	b.mu.Unlock()
	for _, c := range b.children {
		c.close()
	}
	b.waking.Wait()
}

// changed takes the new state of a child.
func (b *meshBalancer) changed(c *child, s balancer.State) {
	b.mu.Lock()
	if b.closed || len(c.members) == 0 { // its time is over
		b.mu.Unlock()
		return
	}
	was, is, before := c.state.ConnectivityState, s.ConnectivityState, b.connectivity()
	c.state, c.told = s, c.told || is != connectivity.Connecting
	b.states[was]--
	b.states[is]++
	tell := b.connectivity() != before
	for _, m := range c.members {
		m.pool.pickers.Store(m.node, s.Picker)
		tell = m.pool.changed(m, was, is) || tell
		if m.pool.stale > 0 && b.timer == nil {
			b.timer = time.AfterFunc(staleness, b.refresh)
		}
	}
	if is == connectivity.Idle { // it may not be called now, in the middle of its own call
		b.idle = append(b.idle, c)
		if !b.awake {
			b.awake = true
			b.waking.Go(b.wake)
		}
	}
	b.mu.Unlock()
	if tell {
		b.tell()
	}
}

// tell has gRPC look at the picker again, and hands over the state of the connection. What changes while somebody
// else tells is told by him afterwards.
func (b *meshBalancer) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.untold = true
	if b.telling {
		return
	}
	b.telling = true
	for b.untold && !b.held && !b.closed {
		b.untold = false
		s := balancer.State{ConnectivityState: b.connectivity(), Picker: b.picker}
		b.mu.Unlock()
		b.cc.UpdateState(s)
		b.mu.Lock()
	}
	b.telling = false
}

// child is the pick_first balancer of one address, and the ClientConn that this one sees.
type child struct {
	balancer.ClientConn
	parent  *meshBalancer
	state   balancer.State // guarded by parent.mu, as are told and members
	told    bool           // whether it can be connected
	members []*member      // that use it

	calls  sync.Mutex // guards what follows, and lets one call in at a time
	inner  balancer.Balancer
	closed bool
}

// connecting is the picker of a child that has not said anything yet.
var connecting = base.NewErrPicker(balancer.ErrNoSubConnAvailable)

// newChild returns a child that is not connected. b.mu is held.
func (b *meshBalancer) newChild() *child {
	c := &child{ClientConn: b.cc, parent: b, state: balancer.State{ConnectivityState: connectivity.Connecting, Picker: connecting}}
	c.inner = b.builder.Build(c, b.opts)
	b.states[connectivity.Connecting]++
	return c
}

// UpdateState is called by the child.
func (c *child) UpdateState(s balancer.State) { c.parent.changed(c, s) }

func (c *child) connect(addr string) {
	c.calls.Lock()
	defer c.calls.Unlock()
	_ = c.inner.UpdateClientConnState(balancer.ClientConnState{ResolverState: resolver.State{ // bad only without an address
		Endpoints:  []resolver.Endpoint{{Addresses: []resolver.Address{{Addr: addr}}}},
		Attributes: healthListener,
	}})
}

func (c *child) exitIdle() {
	c.calls.Lock()
	defer c.calls.Unlock()
	if !c.closed {
		c.inner.ExitIdle()
	}
}

func (c *child) close() {
	c.calls.Lock()
	defer c.calls.Unlock()
	c.closed = true
	c.inner.Close()
}

// picker picks among the endpoints that gRPC is connected to. There is one for as long as the resolver hands over the
// same link; what it reads changes under it.
type picker struct {
	owner *meshBalancer
	link  *link
	pools map[string]*pool // by service in lower case
	own   *pool            // of the service of the link; nil if that is not reachable itself
}

// repicks bounds how often one pick can fall on connections that were lost a moment ago. At most an eighth of a view
// are such, so that one pick in four thousand has to wait for the next view.
const repicks = 4

// Pick returns errors with a status for what ends every RPC, others for what RPCs that wait for ready wait out.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	service, c := p.link.service, p.own
	st := attemptOf(info.Ctx, service)
	if st != nil && st.attempt.Service() != service {
		service = st.attempt.Service()
		c = p.pools[strings.ToLower(service)]
	}
	if c == nil && st != nil && p.link.fetch(service, st.attempt.Generation()) {
		return balancer.PickResult{}, errConnecting
	}
	if c == nil {
		return balancer.PickResult{}, status.Errorf(codes.Unavailable, "grpcmesh: connection to %q does not serve %q", p.link.service, service)
	}
	var in loadbalance.Info // attempts have one of their own
	if st == nil {
		in.Now = time.Now()
		if e := p.link.own.Load(); e != nil {
			in.Hash = e.Hash(info.Ctx, &keys{info.Ctx, info.FullMethodName})
		}
	}
	for range repicks {
		var pick loadbalance.Pick
		var node *loadbalance.Node
		var err error
		if st != nil {
			known := c.known.Load()
			if err := p.await(st, c, known); err != nil {
				return balancer.PickResult{}, err
			}
			node, err = st.attempt.Pick(c.view.Load(), known)
		} else if pick, err = c.view.Load().Pick(in); err == nil {
			node = pick.Node()
		}
		switch {
		case err == nil:
		case errors.Is(err, loadbalance.ErrNoEndpoints):
			err := p.unconnected(st, c, service)
			if p.leaveLane(st, err) {
				continue
			}
			return balancer.PickResult{}, err
		case (errors.Is(err, loadbalance.ErrNoNode) || errors.Is(err, loadbalance.ErrNoMatch)) && c.outdated():
			return balancer.PickResult{}, balancer.ErrNoSubConnAvailable // it may be among those that have come
		default:
			return balancer.PickResult{}, status.Error(codes.Unavailable, err.Error())
		}
		if res, err := c.picker(node).Pick(info); err == nil {
			if st != nil {
				st.begin(c)
				if p.link.near != nil || p.link.inProcess != nil {
					st.attempt.Over(p.link.over(node.Addr()))
				}
			}
			if node.WantsLoad() {
				p.ask(st, c, node, &res)
			}
			res.Done = done(st, pick, res.Done)
			return res, nil
		}
		pick.Done(loadbalance.Report{Now: in.Now, Outcome: resilience.Neutral})
		in.Avoid = append(in.Avoid, node) // attempts remember by themselves
	}
	return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
}

// picker returns the picker of the child for a node.
func (p *pool) picker(n *loadbalance.Node) balancer.Picker {
	if v, ok := p.pickers.Load(n); ok {
		return v.(balancer.Picker)
	}
	return connecting // the node has left, or just come
}

// errConnecting says that an endpoint is about to be connected. RPCs wait for the next picker when a pick returns it.
var errConnecting = balancer.ErrNoSubConnAvailable

// reach returns nil if gRPC is connected to a node, errConnecting if it is about to be, and else why it is not.
func (p *pool) reach(n *loadbalance.Node) error {
	_, err := p.picker(n).Pick(balancer.PickInfo{})
	return err
}

// ask makes an RPC ask for the load of its endpoint, and has endpoints asked between RPCs if it is that of an attempt.
func (p *picker) ask(st *attemptState, c *pool, node *loadbalance.Node, res *balancer.PickResult) {
	if st == nil || st.attempt.Policy().Propagate == zerohop.On {
		res.Metadata = wantLoad
	}
	if st != nil && st.attempt.WantsProber() {
		st.attempt.SetProber(&prober{owner: p.owner, pool: c})
	}
	child := res.Done
	res.Done = func(info balancer.DoneInfo) {
		reportLoad(node, info.Trailer, endingOf(&info))
		if child != nil {
			child(info)
		}
	}
}

// direct gives access to the connection under a picker, past interceptors, which are for the calls of users.
type direct struct{}

func (direct) Build(conn any) (balancer.Producer, func()) { return conn, func() {} }

// conn returns the connection to a node, until release is called.
func (p *pool) conn(ctx context.Context, n *loadbalance.Node) (conn grpc.ClientConnInterface, release func(), err error) {
	res, err := p.picker(n).Pick(balancer.PickInfo{FullMethodName: loadMethod, Ctx: ctx})
	if err != nil {
		return nil, nil, err
	}
	if res.Done != nil {
		defer res.Done(balancer.DoneInfo{})
	}
	c, release := res.SubConn.GetOrBuildProducer(direct{})
	return c.(grpc.ClientConnInterface), release, nil
}

func endingOf(info *balancer.DoneInfo) ending {
	e := ending{err: info.Err, sent: info.BytesSent, received: info.BytesReceived}
	if e.err != nil {
		e.pushback, e.shed = pushback(info.Trailer), shed(info.Trailer)
	}
	return e
}

// done returns what gRPC calls when a try of an RPC is over.
func done(st *attemptState, pick loadbalance.Pick, child func(balancer.DoneInfo)) func(balancer.DoneInfo) {
	switch {
	case st != nil && child == nil: // nearly always, and this one keeps little
		return func(info balancer.DoneInfo) { st.end(endingOf(&info)) }
	case st != nil:
		return func(info balancer.DoneInfo) {
			child(info)
			st.end(endingOf(&info))
		}
	}
	return func(info balancer.DoneInfo) {
		if child != nil {
			child(info)
		}
		e := endingOf(&info)
		v := e.picked()
		if e.err == nil && !e.sent { // the connection was lost between pick and use
			v = resilience.Verdict{Outcome: resilience.Neutral}
		}
		pick.Done(loadbalance.Report{Now: time.Now(), Outcome: v.Outcome, After: v.After})
	}
}

package grpcmesh

import (
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// This file is the only one that touches gRPC's balancer API, which is marked experimental.

// balancerName is the name under which the balancer is registered with gRPC. Its parameters are in the state that the
// resolver hands over, so one name serves all meshes.
const balancerName = "zerohop"

func init() { balancer.Register(balancerBuilder{}) }

type parsedConfig = *serviceconfig.ParseResult

type balancerBuilder struct{}

func (balancerBuilder) Name() string { return balancerName }

func (balancerBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	b := &meshBalancer{ClientConn: cc}
	b.Balancer = endpointsharding.NewBalancer(b, opts, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})
	return b
}

// meshBalancer leaves connections to gRPC: one pick_first child for each endpoint. It only replaces the picker,
// which is why it stands between its child and the ClientConn.
type meshBalancer struct {
	balancer.Balancer   // the children
	balancer.ClientConn // above

	link atomic.Pointer[link]
}

func (b *meshBalancer) UpdateClientConnState(s balancer.ClientConnState) error {
	l, ok := s.ResolverState.Attributes.Value(linkKey{}).(*link)
	if !ok {
		b.ClientConn.UpdateState(balancer.State{
			ConnectivityState: connectivity.TransientFailure, Picker: base.NewErrPicker(errForeign),
		})
		return errForeign
	}
	b.link.Store(l)
	return b.Balancer.UpdateClientConnState(balancer.ClientConnState{
		ResolverState: pickfirst.EnableHealthListener(s.ResolverState),
	})
}

var errForeign = errors.New("grpcmesh: the " + balancerName + " balancer works with targets of package grpcmesh only")

// UpdateState is called by the children, one call at a time.
func (b *meshBalancer) UpdateState(s balancer.State) {
	if l := b.link.Load(); l != nil {
		s.Picker = newPicker(l, endpointsharding.ChildStatesFromPicker(s.Picker))
	}
	b.ClientConn.UpdateState(s)
}

// picker picks among the endpoints that gRPC is connected to.
type picker struct {
	link     *link
	services map[string]*connected
}

// connected are the nodes of a service that gRPC is connected to.
type connected struct {
	balancer *loadbalance.Balancer
	all      *loadbalance.Set // of the balancer, when the picker was made
	set      *loadbalance.Set // those connected
	children map[*loadbalance.Node]balancer.Picker
	pending  bool            // one more may be connected soon
	broken   balancer.Picker // of a node that cannot be connected, and can tell why
}

func newPicker(l *link, children []endpointsharding.ChildState) *picker {
	states := make(map[string]balancer.State, len(children))
	for _, c := range children {
		states[c.Endpoint.Addresses[0].Addr] = c.State
	}
	p := &picker{link: l, services: make(map[string]*connected, len(l.balancers))}
	for name, b := range l.balancers {
		c := &connected{balancer: b, all: b.Set(), children: map[*loadbalance.Node]balancer.Picker{}}
		var nodes []*loadbalance.Node
		for _, n := range c.all.Nodes() {
			switch s := states[n.Addr()]; {
			case s.Picker == nil:
			case s.ConnectivityState == connectivity.Ready:
				nodes = append(nodes, n)
				c.children[n] = s.Picker
			case s.ConnectivityState == connectivity.TransientFailure:
				c.broken = s.Picker
			default:
				c.pending = true
			}
		}
		c.set = b.View(nodes)
		p.services[name] = c
	}
	return p
}

// Pick returns errors with a status for what ends every RPC, others for what RPCs that wait for ready wait out.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	st := attemptOf(info.Ctx)
	service := p.link.service
	if st != nil {
		service = st.attempt.Service()
	}
	c := p.services[service]
	if c == nil {
		return balancer.PickResult{}, status.Errorf(codes.Unavailable, "grpcmesh: connection to %q does not serve %q", p.link.service, service)
	}
	now := time.Now()
	var pick loadbalance.Pick
	var node *loadbalance.Node
	var err error
	if st != nil {
		node, err = st.attempt.Pick(now, c.set)
	} else if pick, err = c.set.Pick(loadbalance.Info{Now: now}); err == nil {
		node = pick.Node()
	}
	if errors.Is(err, loadbalance.ErrNoEndpoints) {
		return c.unconnected(info, err)
	}
	if err != nil {
		return balancer.PickResult{}, status.Error(codes.Unavailable, err.Error())
	}
	res, err := c.children[node].Pick(info)
	if err != nil { // its connection was lost: gRPC asks again with the next picker
		pick.Done(loadbalance.Report{Now: now, Outcome: resilience.Neutral})
		return res, err
	}
	if st != nil {
		st.begin(now)
	}
	res.Done = done(st, pick, res.Done)
	return res, nil
}

// unconnected tells what becomes of an RPC while no node of its service is connected.
func (c *connected) unconnected(info balancer.PickInfo, err error) (balancer.PickResult, error) {
	switch {
	case c.pending, c.outdated():
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	case c.broken != nil:
		return c.broken.Pick(info)
	}
	return balancer.PickResult{}, err
}

// outdated reports whether there are nodes that the picker was made without, so that another is on its way.
func (c *connected) outdated() bool {
	now := c.balancer.Set()
	return now != c.all && len(now.Nodes()) > 0
}

// done returns what gRPC calls when a try of an RPC is over.
func done(st *attemptState, pick loadbalance.Pick, child func(balancer.DoneInfo)) func(balancer.DoneInfo) {
	return func(info balancer.DoneInfo) {
		if child != nil {
			child(info)
		}
		e := ending{err: info.Err, sent: info.BytesSent, received: info.BytesReceived, pushback: pushback(info.Trailer)}
		if st != nil {
			st.end(e)
			return
		}
		v := e.verdict()
		if e.err == nil && !e.sent { // the connection was lost between pick and use
			v = resilience.Verdict{Outcome: resilience.Neutral}
		}
		pick.Done(loadbalance.Report{Now: time.Now(), Outcome: v.Outcome, After: v.After})
	}
}

package grpcmesh

import (
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
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
		return errors.New("grpcmesh: the " + balancerName + " balancer works with targets of package grpcmesh only")
	}
	b.link.Store(l)
	return b.Balancer.UpdateClientConnState(balancer.ClientConnState{
		ResolverState: pickfirst.EnableHealthListener(s.ResolverState),
	})
}

// UpdateState is called by the children, one call at a time.
func (b *meshBalancer) UpdateState(s balancer.State) {
	children := endpointsharding.ChildStatesFromPicker(s.Picker)
	if s.ConnectivityState == connectivity.Ready {
		s.Picker = newPicker(b.link.Load(), children, s.Picker)
	}
	b.ClientConn.UpdateState(s)
}

// picker picks among the endpoints that gRPC is connected to.
type picker struct {
	link     *link
	services map[string]*connected
	// fallback is that of the children. It is asked when no endpoint of a service is connected.
	fallback balancer.Picker
}

// connected are the nodes of a service that gRPC is connected to.
type connected struct {
	set      *loadbalance.Set
	children map[*loadbalance.Node]balancer.Picker
	pending  bool // one more may be connected soon
}

func newPicker(l *link, children []endpointsharding.ChildState, fallback balancer.Picker) *picker {
	states := make(map[string]balancer.State, len(children))
	for _, c := range children {
		states[c.Endpoint.Addresses[0].Addr] = c.State
	}
	p := &picker{link: l, services: make(map[string]*connected, len(l.balancers)), fallback: fallback}
	for name, b := range l.balancers {
		c := &connected{children: map[*loadbalance.Node]balancer.Picker{}}
		var nodes []*loadbalance.Node
		for _, n := range b.Set().Nodes() {
			switch s := states[n.Addr()]; {
			case s.Picker == nil:
			case s.ConnectivityState == connectivity.Ready:
				nodes = append(nodes, n)
				c.children[n] = s.Picker
			case s.ConnectivityState != connectivity.TransientFailure:
				c.pending = true
			}
		}
		c.set = b.View(nodes)
		p.services[name] = c
	}
	return p
}

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
	switch {
	case err == nil:
	case errors.Is(err, loadbalance.ErrNoEndpoints) && c.pending:
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	default:
		return balancer.PickResult{}, status.Error(codes.Unavailable, err.Error())
	}
	res, err := c.children[node].Pick(info)
	if err != nil { // its connection was lost: gRPC asks again with the next picker
		pick.Done(loadbalance.Report{Now: now, Outcome: resilience.Neutral})
		return res, err
	}
	res.Done = done(st, pick, res.Done)
	return res, nil
}

// done returns what gRPC calls when the attempt is over.
func done(st *attemptState, pick loadbalance.Pick, child func(balancer.DoneInfo)) func(balancer.DoneInfo) {
	return func(info balancer.DoneInfo) {
		if child != nil {
			child(info)
		}
		ending := ending{err: info.Err, sent: info.BytesSent, received: info.BytesReceived, pushback: pushback(info.Trailer)}
		if st != nil {
			st.end(ending)
			return
		}
		v := ending.verdict()
		now := time.Now()
		pick.Done(loadbalance.Report{Now: now, Outcome: v.Outcome, After: v.After})
	}
}

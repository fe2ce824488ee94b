package zerohop

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// State is what a mesh knows at one moment: plain data for pages, tests and metrics. Names in it may come from registries: escape
// them. As JSON, times are as RFC 3339 has them, durations in nanoseconds, and what is zero is left out.
type State struct {
	// Time is when it was read. Parts of it are read one after another, while calls go on.
	Time time.Time `json:"time"`
	// Zone is the zone of the process, empty if not known, and Instance its name.
	Zone     string `json:"zone,omitempty"`
	Instance string `json:"instance,omitempty"`
	// Generation is the number of the Spec in force.
	Generation uint64 `json:"generation"`
	// Services are sorted by name.
	Services []ServiceState `json:"services"`
}

// ServiceState is what is known of one service.
type ServiceState struct {
	// Name is that of the service, and Balance that of its algorithm.
	Name    string `json:"name"`
	Balance string `json:"balance"`
	// Named says that the spec names it; else calls did.
	Named bool `json:"named,omitempty"`
	// Discovery is what is known of its source; the zero value if nobody has asked for its endpoints.
	Discovery DiscoveryState `json:"discovery,omitzero"`
	// Endpoints are those in use, sorted by address.
	Endpoints []EndpointState `json:"endpoints"`
	// LeftOut is how many endpoints Policy.Subset leaves to others.
	LeftOut int `json:"leftOut,omitempty"`
	// Panicking says that too few endpoints are in service for ejections and failed checks to count.
	Panicking bool `json:"panicking,omitempty"`
	// Budget is the level of the retry budget, from 0 to 1; -1 if there is none. RetriesPaused is until when an operator has paused
	// retries and backups; zero if none has.
	Budget        float64   `json:"budget"`
	RetriesPaused time.Time `json:"retriesPaused,omitzero"`
	// Breaker is the state of the breaker of the service, empty if there is none; BreakerUntil is when it probes, zero if it is not
	// open. BreakerForced is until when an operator has set it, zero if none has.
	Breaker       resilience.BreakerState `json:"breaker,omitempty"`
	BreakerUntil  time.Time               `json:"breakerUntil,omitzero"`
	BreakerForced time.Time               `json:"breakerForced,omitzero"`
	// Throttle is the share of attempts that throttling refuses, from 0 to 1: the largest of all criticalities; -1 if there is none.
	Throttle float64 `json:"throttle"`
	// Limit is that of calls in flight, nil if there is none.
	Limit *resilience.LimitState `json:"limit,omitempty"`
	// Operations are the actions of operators in force, also those on endpoints that are not in use now, sorted by action and address.
	Operations []OperationState `json:"operations,omitempty"`
}

// OperationState is an action of an operator that is in force.
type OperationState struct {
	// Action is what was done, and To the state that the breaker was forced to, empty for other actions.
	Action Action                  `json:"action"`
	To     resilience.BreakerState `json:"to,omitempty"`
	// Addr is that of the endpoint, empty if it is about the service.
	Addr string `json:"addr,omitempty"`
	// Since and Until are when it began and when it ends by itself.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// By and Why are as the Operation had them.
	By  string `json:"by,omitempty"`
	Why string `json:"why,omitempty"`
}

// Action is what an operator can do. The values are fixed words, fit for labels.
type Action string

// The actions: see the methods of Mesh of the same names.
const (
	ActionEject        Action = "eject"
	ActionDrain        Action = "drain"
	ActionForceBreaker Action = "force breaker"
	ActionPauseRetries Action = "pause retries"
)

// EndpointState is what is known of one endpoint.
type EndpointState struct {
	Addr     string `json:"addr"`
	Zone     string `json:"zone,omitempty"`
	Priority uint8  `json:"priority,omitempty"`
	// Weight is its share as the source has it; 0 counts as 1.
	Weight uint32 `json:"weight,omitempty"`
	// Share is the part of the picks that it is meant to get, from 0 to 1, as far as weights, ejections, priorities and zones say;
	// algorithms that look at load differ from it.
	Share float64 `json:"share"`
	// Health is what the source says: "healthy", "degraded" and so on, as discovery.Health has it.
	Health string `json:"health"`
	// InFlight is how many attempts are in flight, and Cost the learned latency, 0 if there is none.
	InFlight int           `json:"inFlight"`
	Cost     time.Duration `json:"cost,omitempty"`
	// Picks is how many attempts went there since the endpoint was first in the set.
	Picks uint64 `json:"picks"`
	// Penalized says that it failed or asked for a pause a moment ago.
	Penalized bool `json:"penalized,omitempty"`
	// EjectedUntil is when it is probed, zero if it is not ejected; Ejection is why, in the words of StateEvent.Cause.
	EjectedUntil time.Time `json:"ejectedUntil,omitzero"`
	Ejection     string    `json:"ejection,omitempty"`
	// FailsChecks says that active health checks keep it out of service.
	FailsChecks bool `json:"failsChecks,omitempty"`
	// OutUntil is until when an operator has taken it out, zero if none has; Draining says that new calls are kept away but no
	// session is.
	OutUntil time.Time `json:"outUntil,omitzero"`
	Draining bool      `json:"draining,omitempty"`
	// Breaker is the state of its breaker, empty if there is none; BreakerUntil is when it probes, zero if it is not open.
	Breaker      resilience.BreakerState `json:"breaker,omitempty"`
	BreakerUntil time.Time               `json:"breakerUntil,omitzero"`
	// Limit is how many attempts may be in flight, 0 if that is not limited.
	Limit int `json:"limit,omitempty"`
	// SlowStart is the part of its share that it gets while it is new, 1 afterwards.
	SlowStart float64 `json:"slowStart"`
	// Socket is the path of its Unix socket, if it is on this host and the configuration lets calls use one. SocketWorks says that the
	// last connection to it was good for calls. SocketError is why the last connection was not made to it, empty if it was or none was
	// made yet, and SocketRests is until when it is not tried again.
	Socket      string    `json:"socket,omitempty"`
	SocketWorks bool      `json:"socketWorks,omitempty"`
	SocketError string    `json:"socketError,omitempty"`
	SocketRests time.Time `json:"socketRests,omitzero"`
	// Meta is its metadata; it is shared and read-only.
	Meta map[string]string `json:"meta,omitempty"`
}

// State returns what the mesh knows at present. It takes locks, but none for long, and keeps no call waiting: it is meant to be read
// once a second, not for each call. It begins to watch nothing.
func (m *Mesh) State() State {
	now := time.Now()
	g := m.present.Load()
	st := State{Time: now, Zone: m.site.Load().zone, Instance: m.cfg.Instance, Generation: g.number}
	known := g.known()
	st.Services = make([]ServiceState, 0, len(known))
	for _, s := range known {
		st.Services = append(st.Services, s.state(now))
	}
	slices.SortFunc(st.Services, func(a, b ServiceState) int { return cmp.Compare(a.Name, b.Name) })
	return st
}

// state returns what is known of the service.
func (s *service) state(now time.Time) ServiceState {
	since := now.Sub(s.mesh.base)
	st := ServiceState{Name: s.name, Balance: s.policy.Balance, Named: s.named, Budget: -1, Throttle: -1}
	st.Discovery, _ = s.discovery()
	if s.budget != nil {
		st.Budget = s.budget.Level()
	}
	if b := s.breaker.Load(); b != nil {
		st.Breaker = b.State(since)
		if until := b.OpenUntil(); until > 0 {
			st.BreakerUntil = s.mesh.at(until)
		}
	}
	if s.throttle != nil {
		for _, t := range s.throttle {
			st.Throttle = max(st.Throttle, t.Probability(since))
		}
	}
	if l := s.direct.flight; l != nil {
		limit := l.State()
		st.Limit = &limit
	}
	set := s.balancer.Set()
	st.Panicking, st.LeftOut = set.Panicking(), s.balancer.LeftOut()
	nodes := set.Nodes()
	st.Endpoints = make([]EndpointState, len(nodes))
	for i, n := range nodes {
		st.Endpoints[i].read(n, now)
		st.Endpoints[i].Share = set.Share(n)
		if sock := s.socket(n); sock != nil {
			e := &st.Endpoints[i]
			e.Socket, e.SocketWorks = sock.Address().Path, sock.Works()
			var err error
			if e.SocketRests, err = sock.Failed(); err != nil {
				e.SocketError = errorText(err, maxTryText)
			}
		}
	}
	slices.SortFunc(st.Endpoints, func(a, b EndpointState) int { return cmp.Compare(a.Addr, b.Addr) })
	s.readOperations(&st)
	return st
}

// read takes over what is known of a node.
func (st *EndpointState) read(n *loadbalance.Node, now time.Time) {
	ep := n.Endpoint()
	*st = EndpointState{
		Addr: ep.Addr, Zone: ep.Zone, Priority: ep.Priority, Weight: ep.Weight, Health: ep.Health.String(), Meta: ep.Meta,
		InFlight: n.InFlight(), Penalized: n.Penalized(now), FailsChecks: n.FailsChecks(),
		Breaker: n.BreakerState(now), BreakerUntil: n.OpenUntil(), SlowStart: n.SlowStart(now),
		EjectedUntil: n.EjectedUntil(), Ejection: causeOf(n.EjectedFor()), Picks: n.Picks(),
	}
	st.Cost, _ = n.Cost(now)
	st.Limit, _ = n.Limit()
}

// MarshalJSON writes the text of Err.
func (d DiscoveryState) MarshalJSON() ([]byte, error) {
	type plain DiscoveryState // without this method
	v := struct {
		plain
		Err string `json:"err,omitempty"`
	}{plain: plain(d)}
	if d.Err != nil {
		v.Err = d.Err.Error()
	}
	return json.Marshal(v)
}

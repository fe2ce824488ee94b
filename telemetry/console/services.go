package console

import (
	"cmp"
	"slices"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// summary returns all services in a line each. What is in it is read-only.
func (c *Console) summary() Summary {
	c.summing.Lock()
	defer c.summing.Unlock()
	c.mu.Lock()
	ticks, moves := c.ticks, c.moves
	c.mu.Unlock()
	if now := time.Now(); c.summed.Time.IsZero() || c.summed.Point != ticks || c.sumOf != moves || now.Sub(c.summed.Time) >= fresh {
		c.summed, c.sumOf = c.sum(), moves
	}
	return c.summed
}

func (c *Console) sum() Summary {
	s := Summary{
		Time: time.Now().UTC(), Name: name(c.cfg.Name), Tick: millis(tick), Admin: c.cfg.AdminPath, Meshes: []MeshLine{}, Services: []ServiceLine{},
		Event: c.timeline.latest(), Failure: c.failures.latest(), Uncounted: c.uncounted.Load(),
	}
	for _, o := range c.open() {
		st := o.now()
		s.Meshes = append(s.Meshes, MeshLine{
			Mesh: o.id, Name: name(o.title(c)), Instance: name(st.Instance), Zone: name(st.Zone), Generation: st.Generation, Opened: o.opened.UTC(),
		})
		c.mu.Lock()
		services := *o.collector.services.Load()
		for i := range st.Services {
			s.Services = append(s.Services, o.line(&st.Services[i], services[st.Services[i].Name], st.Time, true))
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	s.Point = c.ticks
	c.mu.Unlock()
	return s
}

// line returns the line of a service, n being its counts, nil if there are none. Console.mu is locked.
func (o *openMesh) line(s *zerohop.ServiceState, n *serviceCount, now time.Time, spark bool) ServiceLine {
	l := ServiceLine{
		ServiceName: ServiceName{o.id, name(s.Name)}, Balance: name(s.Balance), Endpoints: len(s.Endpoints), LeftOut: s.LeftOut, Panicking: s.Panicking,
		Budget: round(s.Budget), RetriesPaused: left(now, s.RetriesPaused), Breaker: string(s.Breaker), ProbeIn: left(now, s.BreakerUntil), Forced: left(now, s.BreakerForced),
		Throttle: round(s.Throttle), SourceAge: millis(s.Discovery.Age),
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		l.InFlight += e.InFlight
		if status, _ := statusOf(e); out(status) {
			l.Out++
		}
	}
	if n != nil {
		l.Now, l.Minute = n.traffic(window), n.traffic(minute)
		l.Calls, l.Failures = n.totals()
		l.Attempts, l.Retries, l.Backups, l.Refused = n.attempts.rate(), n.retries.rate(), n.backups.rate(), n.refused.rate()
		if spark {
			h := n.history.view()
			k := max(0, len(h.Rate)-minute)
			l.Spark, l.SparkErrors = h.Rate[k:], h.Errors[k:]
		}
	}
	l.Status = l.status(s)
	return l
}

// status says how the service is.
func (l *ServiceLine) status(s *zerohop.ServiceState) Status {
	open := s.Breaker == resilience.BreakerOpen || s.Breaker == resilience.BreakerForcedOpen
	switch {
	case open, l.Now.Rate > 0 && l.Now.Errors >= 0.5, l.Endpoints > 0 && l.Out == l.Endpoints, s.Discovery.Known && l.Endpoints == 0 && l.LeftOut == 0 && l.Calls > 0:
		return StatusDown
	case l.Out > 0, l.Panicking, l.RetriesPaused > 0, l.Forced > 0, s.Discovery.Err != nil, l.SourceAge > 0 && s.Discovery.Known, l.Now.Errors > 0.01, l.Throttle > 0, s.Breaker == resilience.BreakerHalfOpen:
		return StatusDegraded
	case l.Endpoints == 0 && l.Calls == 0:
		return StatusIdle
	}
	return StatusOK
}

// out reports whether an endpoint of that status gets no calls, or only probes.
func out(s Status) bool {
	switch s {
	case StatusEjected, StatusFailing, StatusBreaker, StatusUnhealthy, StatusOut, StatusDraining:
		return true
	}
	return false
}

// statusOf says how an endpoint is and why.
func statusOf(e *zerohop.EndpointState) (Status, string) {
	switch {
	case !e.OutUntil.IsZero() && e.Draining:
		return StatusDraining, "by an operator; sessions stay"
	case !e.OutUntil.IsZero():
		return StatusOut, "by an operator"
	case e.FailsChecks:
		return StatusFailing, ""
	case !e.EjectedUntil.IsZero():
		why := causes[e.Ejection]
		if why == "" {
			why = name(e.Ejection)
		}
		return StatusEjected, why
	case e.Breaker == resilience.BreakerOpen || e.Breaker == resilience.BreakerForcedOpen:
		return StatusBreaker, ""
	case e.Health == "unhealthy":
		return StatusUnhealthy, "says the source"
	case e.Health == "draining" || e.Health == "terminating":
		return StatusDegraded, "the source says that it is " + e.Health
	case e.Penalized:
		return StatusDegraded, "failed or asked for a pause a moment ago"
	case e.Breaker == resilience.BreakerHalfOpen:
		return StatusDegraded, "its circuit breaker tries a few attempts"
	}
	return StatusOK, ""
}

// find returns a mesh and the state of a service of it, by the names as they are shown; mesh may be empty for any. It returns nil if there
// is none.
func (c *Console) find(mesh, service string) (*openMesh, *zerohop.ServiceState, time.Time) {
	for _, o := range c.open() {
		if mesh != "" && o.id != mesh {
			continue
		}
		st := o.now()
		for i := range st.Services {
			if name(st.Services[i].Name) == service {
				return o, &st.Services[i], st.Time
			}
		}
	}
	return nil, nil, time.Time{}
}

// service returns a service with up to limit endpoints, and false if there is none of that name.
func (c *Console) service(mesh, service string, limit int) (ServiceView, bool) {
	o, s, now := c.find(mesh, service)
	if s == nil {
		return ServiceView{}, false
	}
	m := o.collector
	m.mu.Lock()
	counted := make([]*endpointCount, len(s.Endpoints))
	for i := range s.Endpoints {
		counted[i] = m.endpoints[endpointKey{s.Name, s.Endpoints[i].Addr}]
	}
	m.mu.Unlock()
	n := (*m.services.Load())[s.Name]

	c.mu.Lock()
	defer c.mu.Unlock()
	v := ServiceView{Time: now.UTC(), Line: o.line(s, n, now, true), Named: s.Named, Zones: []ZoneView{}, Total: len(s.Endpoints), Discovery: discoveryView(&s.Discovery, now)}
	if n != nil {
		v.History = n.history.view()
	} else {
		v.History = (&history{}).view()
	}
	if l := s.Limit; l != nil {
		v.Limit = &LimitView{Limit: l.Limit, InFlight: l.InFlight, Queued: l.Queued, Wait: millis(l.Wait)}
	}
	var all uint64
	came := make([]uint64, len(counted))
	var d time.Duration
	for i, e := range counted {
		if e != nil {
			var span time.Duration
			came[i], _, span = e.history.last(window)
			all, d = all+came[i], max(d, span)
		}
	}
	zones := map[string]*ZoneView{}
	order := make([]int, len(s.Endpoints))
	status := make([]Status, len(s.Endpoints))
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		order[i] = i
		status[i], _ = statusOf(e)
		z := zones[e.Zone]
		if z == nil {
			z = &ZoneView{Zone: name(e.Zone)}
			zones[e.Zone] = z
		}
		z.Endpoints++
		z.Rate += rate(came[i], d)
		if out(status[i]) {
			z.Out++
		}
	}
	for _, z := range zones {
		z.Rate = round(z.Rate)
		v.Zones = append(v.Zones, *z)
	}
	slices.SortFunc(v.Zones, func(a, b ZoneView) int { return cmp.Compare(a.Zone, b.Zone) })
	if len(v.Zones) > limit {
		v.Zones = v.Zones[:limit]
	}
	if len(order) > limit {
		slices.SortStableFunc(order, func(a, b int) int {
			if x, y := out(status[a]), out(status[b]); x != y {
				if x {
					return -1
				}
				return 1
			}
			return cmp.Compare(came[b], came[a])
		})
		order = order[:limit]
		slices.Sort(order) // State has them by address
	}
	v.Endpoints = make([]EndpointView, 0, len(order))
	for _, i := range order {
		v.Endpoints = append(v.Endpoints, endpointView(&s.Endpoints[i], counted[i], now, came[i], all))
	}
	return v, true
}

func endpointView(e *zerohop.EndpointState, n *endpointCount, now time.Time, came, all uint64) EndpointView {
	status, why := statusOf(e)
	v := EndpointView{
		Addr: name(e.Addr), Zone: name(e.Zone), Priority: e.Priority, Weight: e.Weight, SlowStart: round(e.SlowStart), Status: status, Why: why, Health: name(e.Health),
		ProbeIn: max(left(now, e.EjectedUntil), left(now, e.BreakerUntil)), BackIn: left(now, e.OutUntil), Breaker: string(e.Breaker), InFlight: e.InFlight, Limit: e.Limit,
		Cost: millis(e.Cost), Picks: e.Picks, Share: round(e.Share), Got: share(came, all), History: History{Rate: []float64{}, Errors: []float64{}, P50: []float64{}, P99: []float64{}},
	}
	if n != nil {
		v.Now, v.History = n.traffic(), n.history.view()
	}
	if e.Socket != "" {
		v.Socket = &SocketView{State: "unused", Why: text(e.SocketError)}
		switch {
		case e.SocketError != "":
			v.Socket.State = "failing"
		case e.SocketWorks:
			v.Socket.State = "used"
		}
	}
	for k, s := range e.Meta {
		v.Meta = append(v.Meta, Pair{name(k), value(k, s)})
	}
	slices.SortFunc(v.Meta, func(a, b Pair) int { return cmp.Compare(a.Name, b.Name) })
	return v
}

func discoveryView(d *zerohop.DiscoveryState, now time.Time) DiscoveryView {
	v := DiscoveryView{Known: d.Known, Endpoints: d.Endpoints, Held: d.Held, Changed: -1, Age: millis(d.Age)}
	if !d.Changed.IsZero() {
		v.Changed = millis(max(now.Sub(d.Changed), 0))
	}
	if d.Err != nil {
		v.Error = text(d.Err.Error())
	}
	return v
}

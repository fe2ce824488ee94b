package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// gates draws the stages of random policies that can refuse calls, from a source of its own: all else of a seed is what it
// would be without. Half of the seeds have none, so that refusals do not hide what else is wrong.
type gates struct {
	trial // whose source is that of the gates
	on    bool
	late  map[zerohop.Stage]int
	wrong int // refusals by those that only observe
}

func newGates(seed uint64) *gates {
	g := &gates{trial: trial{rnd: rand.New(rand.NewPCG(seed, 3))}, late: map[zerohop.Stage]int{}}
	g.on = g.chance(0.5)
	return g
}

// mode is that of a stage which may observe.
func (g *gates) mode() zerohop.Switch {
	return oneOf(&g.trial, zerohop.On, zerohop.On, zerohop.On, zerohop.On, zerohop.On, zerohop.Observe)
}

// draw adds stages to the policy of a mesh that makes at most so many calls per second. They leave room for twice as many, and
// forget within three seconds.
func (g *gates) draw(cfg *zerohop.Config, rate float64) {
	p := &cfg.Spec.Defaults
	if !g.on {
		return
	}
	d := &g.trial
	if g.chance(0.3) {
		p.Limit = zerohop.Limit{
			Mode: g.mode(), Algorithm: oneOf(d, "", "", "aimd", "gradient"), Queue: oneOf(d, 0, 10, 40),
			MaxWait: oneOf(d, 0, -1, 100*time.Millisecond), Max: oneOf(d, 30, 60),
		}
		switch {
		case p.Limit.Algorithm != "":
			p.Limit.Min = 20
		case p.Limit.Queue > 0 && g.chance(0.5):
			p.Limit.Max = 15
		}
	}
	if g.chance(0.2) {
		p.EndpointLimit = zerohop.EndpointLimit{Mode: zerohop.On, Algorithm: oneOf(d, "fixed", "adaptive"), Max: oneOf(d, 20, 40)}
		if p.EndpointLimit.Algorithm == "adaptive" {
			p.EndpointLimit.Min = 10
		}
	}
	if g.chance(0.2) {
		p.RateLimit = zerohop.RateLimit{
			Mode: g.mode(), Rate: 5 + rate*g.between(2, 4), Burst: 20 + d.IntN(20), MaxWait: oneOf(d, 0, 50*time.Millisecond, 500*time.Millisecond),
		}
	}
	if g.chance(0.15) {
		p.Throttle = zerohop.Throttle{Mode: g.mode(), K: g.between(2, 4), Window: g.duration(time.Second, 1500*time.Millisecond)}
	}
	if g.chance(0.2) {
		p.ServiceBreaker = zerohop.Breaker{
			Mode: g.mode(), Window: g.duration(time.Second, 4*time.Second), Calls: oneOf[uint32](d, 0, 0, 50),
			SlowAfter: oneOf(d, 0, 300*time.Millisecond), OpenFor: g.duration(200*time.Millisecond, time.Second), MaxOpenFor: time.Second,
			Probes: uint32(1 + d.IntN(3)),
		}
	}
	if p.Budget == (zerohop.Budget{}) && g.chance(0.5) {
		p.Budget.Kind = oneOf(d, resilience.BudgetGRPC, resilience.BudgetRatio, resilience.BudgetConcurrent)
		p.Budget.Ratio = g.between(0.02, 0.2)
		if p.Budget.Kind != resilience.BudgetGRPC {
			p.Budget.Floor = oneOf(d, -1.0, 0.5, 1, 3)
		}
	}
	cfg.Hooks.Refused = g.refused(*p)
}

// levels are those of the calls of a client.
func (g *gates) levels() []resilience.Criticality {
	if !g.on || !g.chance(0.3) {
		return nil
	}
	return []resilience.Criticality{resilience.Unspecified, resilience.Sheddable, resilience.SheddablePlus, resilience.Critical, resilience.CriticalPlus}
}

// haste makes callers leave while a service hangs whose endpoints have breakers: their probes are given up.
func (g *gates) haste(d *trial) {
	if !g.chance(0.05) {
		return
	}
	for i := range d.Clients {
		c := &d.Clients[i]
		c.Patience, c.Mesh.Spec.Defaults.Breaker = Exponential(200*time.Millisecond), zerohop.Breaker{
			Mode: zerohop.On, Consecutive: 3, OpenFor: 300 * time.Millisecond, MaxOpenFor: time.Second,
		}
		d.Faults = append(d.Faults,
			Fault{Service: c.Service, At: 5 * time.Second, For: time.Second, Fail: 1},
			Fault{Service: c.Service, At: 6 * time.Second, For: 4 * time.Second, Hang: true})
	}
}

// crowd makes calls of all levels wait for a place while a service hangs, and some of their callers leave meanwhile.
func (g *gates) crowd(d *trial) {
	if !g.chance(0.06) {
		return
	}
	c := &d.Clients[0]
	c.Mesh.Spec.Defaults.Limit = zerohop.Limit{Mode: zerohop.On, Max: 15, Queue: 40, MaxWait: oneOf(&g.trial, -1, time.Second)}
	c.Mesh.Hooks.Refused = g.refused(c.Mesh.Spec.Defaults)
	c.Criticality = []resilience.Criticality{resilience.Sheddable, resilience.Critical, resilience.CriticalPlus}
	c.Patience = Exponential(g.duration(300*time.Millisecond, 2*time.Second))
	d.Faults = append(d.Faults, Fault{Service: c.Service, At: 5 * time.Second, For: 3 * time.Second, Hang: true})
}

// refused counts what a policy should not have refused.
func (g *gates) refused(p zerohop.Policy) func(context.Context, zerohop.CallInfo, zerohop.Refusal) {
	return func(_ context.Context, _ zerohop.CallInfo, r zerohop.Refusal) {
		if !r.Enforced {
			return
		}
		mode := map[zerohop.Stage]zerohop.Switch{
			zerohop.StageRateLimit: p.RateLimit.Mode, zerohop.StageLimit: p.Limit.Mode, zerohop.StageThrottle: p.Throttle.Mode,
			zerohop.StageBreaker: p.ServiceBreaker.Mode, zerohop.StageEndpointLimit: p.EndpointLimit.Mode,
		}
		if mode[r.Stage] != zerohop.On {
			g.wrong++
		}
		if time.Since(bubble) > g.calm {
			g.late[r.Stage]++
		}
	}
}

// bubble is when the time of testing/synctest begins.
var bubble = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// verify returns what is wrong with the refusals of a trial.
func (g *gates) verify(s *Series) error {
	late, wrong := g.late, g.wrong
	g.late, g.wrong = map[zerohop.Stage]int{}, 0
	if wrong > 0 {
		return fmt.Errorf("%d refusals by stages that are not on", wrong)
	}
	for stage, n := range late {
		if most := 1 + s.Started(g.calm, 0)/200; n > most {
			return fmt.Errorf("the stage %q refuses %d times long after the last fault, want %d at most", stage, n, most)
		}
	}
	return nil
}

package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// trial is a random scenario, and what is known about it.
type trial struct {
	Scenario
	rnd   *rand.Rand
	calm  time.Duration // when nothing of the faults may be left to see
	told  *telling      // what hooks told of the first client
	loads float64       // of the services at most
	gates *gates
}

// telling sums up what the hooks of a mesh say.
type telling struct{ calls, over, attempts, ended, made int }

// random is a scenario of about 2,000 calls through up to three services, whose policies and faults are drawn at random. All
// policies are such that they survive the faults.
func random(seed uint64) *trial {
	d := &trial{rnd: rand.New(rand.NewPCG(seed, 2)), told: &telling{}}
	d.gates = newGates(seed)
	d.Seed, d.For, d.calm = seed, 20*time.Second, 15*time.Second
	if d.chance(0.2) { // long enough for all that is ever remembered of a fault
		d.For, d.calm = 50*time.Second, 42*time.Second
	}
	if d.chance(0.3) {
		d.Grain = time.Millisecond
	}
	d.loads = d.between(0.05, 0.4)
	d.graph(1600 / d.For.Seconds())
	d.Faults = RandomFaults(seed, d.faulty(), 2+d.IntN(5))
	if d.chance(0.4) {
		d.Faults = append(d.Faults, d.outage())
	}
	d.gates.calm = d.calm
	d.gates.haste(d)
	d.gates.crowd(d)
	d.Faults = apart(d.Faults)
	if seed%8 != 0 {
		d.unexplained()
	}
	return d
}

// unexplained leaves out explanations, which take a quarter of the time where so many calls fail.
func (d *trial) unexplained() {
	for i := range d.Clients {
		d.Clients[i].Mesh.Spec.Defaults.Explain.Mode = zerohop.Off
	}
	for name, s := range d.Services {
		s.Mesh.Spec.Defaults.Explain.Mode = zerohop.Off
		d.Services[name] = s
	}
}

// apart leaves out faults that slow down what another one does at the same time: their factors multiply, and what a worker begins
// then may take until long after the last fault.
func apart(list []Fault) (kept []Fault) {
	for _, f := range list {
		if f.Slow == 0 || !slices.ContainsFunc(kept, func(g Fault) bool {
			return g.Slow > 0 && g.Service == f.Service && f.At < g.At+g.For && g.At < f.At+f.For
		}) {
			kept = append(kept, f)
		}
	}
	return kept
}

func (d *trial) IntN(n int) int                 { return d.rnd.IntN(n) }
func (d *trial) chance(p float64) bool          { return d.rnd.Float64() < p }
func (d *trial) between(lo, hi float64) float64 { return lo + (hi-lo)*d.rnd.Float64() }

func (d *trial) duration(lo, hi time.Duration) time.Duration {
	return time.Duration(d.between(float64(lo), float64(hi)))
}

func oneOf[T any](d *trial, list ...T) T { return list[d.IntN(len(list))] }

// faulty is the scenario as it is to RandomFaults: all faults are over after a fourth of a long one.
func (d *trial) faulty() Scenario {
	s := d.Scenario
	s.For = 20 * time.Second
	return s
}

// graph makes services and clients, whose calls are so many per second.
func (d *trial) graph(rate float64) {
	d.Services = map[string]Service{}
	rates := map[string]float64{}
	shape := oneOf(d,
		map[string][]Call{"a": nil},
		map[string][]Call{"a": {{Service: "b"}}, "b": nil},
		map[string][]Call{"a": {{Service: "b"}, {Service: "c"}}, "b": nil, "c": nil},
		map[string][]Call{"a": {{Service: "b", Times: 3}}, "b": nil},
		map[string][]Call{"a": {{Service: "b", Timeout: 900 * time.Millisecond}}, "b": {{Service: "c"}}, "c": nil},
	)
	for i := range 1 + d.IntN(3) {
		c := Client{Service: "a", Rate: rate, Count: 1 + d.IntN(3), Timeout: d.duration(time.Second, 3*time.Second), Unsafe: d.chance(0.3)}
		if i > 0 {
			c.Service = oneOf(d, []string{"a", "b"}[:min(len(shape), 2)]...)
		}
		if d.chance(0.2) {
			c.Patience = Exponential(d.duration(50*time.Millisecond, 5*time.Second))
		}
		d.Clients = append(d.Clients, c)
	}
	for i := range d.Clients {
		c := &d.Clients[i]
		c.Rate = rate / float64(len(d.Clients))
		rates[c.Service] += c.Rate
	}
	for _, name := range []string{"a", "b", "c"} {
		calls, ok := shape[name]
		if !ok {
			continue
		}
		for _, c := range calls {
			rates[c.Service] += rates[name] * float64(max(c.Times, 1))
		}
		d.Services[name] = d.service(rates[name], calls)
		for i := range calls {
			v := d.Services[name]
			d.gates.draw(&v.Mesh, rates[calls[i].Service])
			d.Services[name] = v
		}
	}
	for i := range d.Clients {
		c := &d.Clients[i]
		c.Mesh = d.mesh()
		if i == 0 && d.chance(0.3) {
			c.Mesh.Hooks = d.told.hooks()
		}
		d.gates.draw(&c.Mesh, c.Rate)
		c.Criticality = d.gates.levels()
	}
}

// service is one that gets so many requests per second.
func (d *trial) service(rate float64, calls []Call) Service {
	v := Service{
		Endpoints: oneOf(d, 1, 2, 3, 4, 6, 10), Workers: oneOf(d, 1, 2, 4, 8), Bare: d.chance(0.2),
		LIFO: d.chance(0.2), DropLeft: d.chance(0.2), Calls: calls,
	}
	if d.chance(0.03) {
		v.Endpoints = 40
	}
	v.Queue = v.Workers * oneOf(d, 20, 40)
	mean := time.Duration(d.loads * float64(v.Endpoints*v.Workers) / rate * float64(time.Second))
	mean = min(mean, 25*time.Millisecond)
	switch d.IntN(4) {
	case 0:
		v.Time = Exponential(mean)
	case 1:
		v.Time = Lognormal(mean, 0.5)
	case 2:
		v.Time = Mix(Exponential(mean), 0.01, Constant(10*mean))
	default:
		v.Time = Constant(mean)
	}
	if d.chance(0.2) {
		v.MinTime = d.duration(time.Millisecond, 20*time.Millisecond)
	}
	if d.chance(0.2) {
		v.Latency = Exponential(d.duration(100*time.Microsecond, 5*time.Millisecond))
	}
	if d.chance(0.2) {
		v.Zones = []string{"x", "y", "z"}[:1+d.IntN(3)]
	}
	if d.chance(0.2) {
		v.Weights = []uint32{1, 2}
	}
	if d.chance(0.3) {
		v.Admission = zerohop.AdmissionPolicy{
			Mode: zerohop.On, Algorithm: oneOf(d, "", "aimd"), Queue: oneOf(d, 0, 0, -1),
			Deadline: oneOf(d, zerohop.On, zerohop.Off), Min: v.Workers,
		}
	}
	if len(calls) > 0 {
		v.Mesh = d.mesh()
	}
	return v
}

// mesh is one with a policy that survives the faults.
func (d *trial) mesh() zerohop.Config {
	if d.chance(0.15) {
		return zerohop.Config{}
	}
	p := zerohop.Policy{Balance: oneOf(d, "", "", "least-request", "prequal", "utilization", "weighted-round-robin", "random", "rendezvous", "ring-hash", "maglev")}
	p.Retry.Attempts = oneOf(d, 0, 0, 1, 2, 4, 5)
	if d.chance(0.1) {
		p.Retry.Mode = zerohop.Off
	}
	switch d.IntN(4) {
	case 0:
		p.Backup.Mode = zerohop.Off
	case 1:
		p.Backup = zerohop.Backup{Quantile: d.between(0.9, 0.99), Factor: d.between(1, 3), Min: d.duration(10*time.Millisecond, 50*time.Millisecond)}
	}
	switch {
	case d.chance(0.3):
		p.Budget.Tokens, p.Budget.Ratio = d.between(2, 100), d.between(0.01, 0.3)
	case d.chance(0.1):
		p.Budget.Mode, p.Retry.Attempts = zerohop.Off, 2
	}
	if d.chance(0.4) {
		p.Breaker = zerohop.Breaker{
			Mode: zerohop.On, Consecutive: uint32(3 + d.IntN(5)), Window: d.duration(time.Second, 10*time.Second),
			OpenFor: d.duration(200*time.Millisecond, 2*time.Second), MaxOpenFor: 2 * time.Second, Probes: uint32(1 + d.IntN(3)),
		}
	}
	switch {
	case d.chance(0.15):
		p.Outlier.Mode = zerohop.Off
	case d.chance(0.4):
		p.Outlier = zerohop.Outlier{
			Consecutive: 2 + d.IntN(5), Ejection: d.duration(200*time.Millisecond, 2*time.Second), MaxEjection: 5 * time.Second,
			MaxEjected: d.between(0.1, 1), FailureRatio: d.between(0.1, 0.6),
			Absolute: oneOf(d, zerohop.Inherit, zerohop.On), One: oneOf(d, zerohop.Inherit, zerohop.On),
		}
		if d.chance(0.3) {
			p.Outlier.Deviations, p.Outlier.MinVolume = 1.9, 20
		}
	}
	if d.chance(0.3) {
		p.SlowStart = zerohop.SlowStart{Mode: oneOf(d, zerohop.Off, zerohop.On), Window: d.duration(time.Second, 10*time.Second)}
	}
	if d.chance(0.2) {
		p.Panic, p.OverProvisioning = oneOf(d, -1, 0.2, 0.8), d.between(1, 2)
	}
	if d.chance(0.2) {
		p.Timeout = d.duration(time.Second, 2*time.Second)
	}
	if d.chance(0.2) {
		p.AttemptTimeout = d.duration(500*time.Millisecond, time.Second)
	}
	if d.chance(0.1) {
		p.HealthCheck = zerohop.HealthCheck{Mode: zerohop.On, Interval: time.Second, Timeout: 200 * time.Millisecond}
	}
	if p.Balance == "maglev" {
		p.Hashing.Table = 1009 // which is large enough, and made many times
	}
	if d.chance(0.3) {
		p.Subset = 10
	}
	if d.chance(0.2) {
		p.Criticality = oneOf(d, resilience.Sheddable, resilience.SheddablePlus, resilience.CriticalPlus)
	}
	if d.chance(0.1) {
		p.Propagate = zerohop.Off
	}
	cfg := policy(p)
	if d.chance(0.3) {
		cfg.Zone = oneOf(d, "x", "y", "z")
	}
	return cfg
}

// outage is a fault of a whole service, not of half of its endpoints as those of RandomFaults are.
func (d *trial) outage() Fault {
	f := Fault{
		Service: oneOf(d, []string{"a", "b", "c"}[:len(d.Services)]...),
		At:      d.duration(2*time.Second, 6*time.Second), For: d.duration(500*time.Millisecond, 4*time.Second),
	}
	switch d.IntN(9) {
	case 0:
		f.Fail = 1
	case 1:
		f.Fail = d.between(0.2, 0.9)
	case 2:
		f.Kill = true
	case 3:
		f.Hang = true
	case 4:
		f.Capacity, f.Load = 0.2, 3
	case 5:
		f.Load = d.between(3, 8)
	case 6:
		f.Shed, f.After = d.between(0.3, 1), time.Second
	case 7:
		f.Slow = 20
	case 8:
		f.At, f.For, f.Registry = time.Second, 9*time.Second, oneOf(d, RegistryEmpty, RegistryUnknown, RegistryBroken)
	}
	return f
}

// hooks count.
func (n *telling) hooks() zerohop.Hooks {
	return zerohop.Hooks{
		CallStart: func(ctx context.Context, _ zerohop.CallInfo) context.Context { n.calls++; return ctx },
		CallDone: func(_ context.Context, _ zerohop.CallInfo, r zerohop.CallResult) {
			n.over++
			n.made += r.Attempts
		},
		AttemptStart: func(ctx context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo) context.Context {
			n.attempts++
			return ctx
		},
		AttemptDone: func(context.Context, zerohop.CallInfo, zerohop.AttemptInfo, zerohop.AttemptResult) { n.ended++ },
	}
}

// verify returns what is wrong with how the trial went.
func (d *trial) verify(r *Result) error {
	var errs []error
	told := *d.told
	*d.told = telling{}
	if s := r.Series.against(Bounds{From: d.calm, Success: 0.995}); len(s) > 0 {
		errs = append(errs, errors.New(strings.Join(s, ", ")))
	}
	if d.For > 20*time.Second && r.open > 0 {
		errs = append(errs, fmt.Errorf("%d breakers are open 30 s after the last fault", r.open))
	}
	if n := told; n.calls > 0 {
		calls, attempts := r.Clients[0].Started(0, 0), r.Clients[0].Attempts(0, 0)
		if want := (telling{calls, calls, attempts, attempts, attempts}); n != want {
			errs = append(errs, fmt.Errorf("hooks tell of %+v, want %+v", n, want))
		}
	}
	return errors.Join(append(errs, d.gates.verify(r.Series))...)
}

// try simulates the scenario and returns what is wrong.
func (d *trial) try(t *testing.T) (*Result, error) {
	r, err := simulate(t, d.Scenario)
	if r != nil {
		err = errors.Join(err, d.verify(r))
	}
	return r, err
}

package loadbalance

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// zoned returns so many endpoints in zones a, b, c ...
func zoned(counts ...int) (eps []discovery.Endpoint) {
	for z, n := range counts {
		for i := range n {
			zone := string(rune('a' + z))
			eps = append(eps, discovery.Endpoint{Addr: fmt.Sprintf("%s%d", zone, i), Zone: zone, Weight: 1})
		}
	}
	return eps
}

// town is a simulation of callers in zones whose calls queue at the endpoints. Balancers, calls, budgets and learned
// latencies are the real ones; a call is repeated and joined by a backup as the default policy says, unless single is set.
// It runs in one goroutine on a clock of its own.
type town struct {
	rnd      *rand.Rand
	callers  []*townCaller
	rate     float64                                           // of all callers together, in calls a second
	service  func(zone string, at time.Duration) time.Duration // mean, of a worker
	workers  int                                               // of each endpoint
	queue    int                                               // of each endpoint; more calls are refused
	distance func(from, to string) time.Duration               // there and back
	deadline time.Duration
	single   bool // calls consist of one attempt

	now     time.Duration
	events  townEvents
	servers map[string]*townServer
	sum     tally
}

type townCaller struct {
	*Balancer
	zone    string
	weight  float64 // of its part of the calls
	budget  *resilience.Budget
	latency resilience.Latency
}

type townServer struct {
	busy    int
	waiting []*townAttempt
}

type townCall struct {
	machine  resilience.Call
	caller   *townCaller
	began    time.Duration
	attempts [resilience.MaxAttempts]*townAttempt
	over     bool
}

type townAttempt struct {
	call  *townCall
	index int
	pick  Pick
	start time.Duration
	ended bool // nobody waits for it any more
}

type townEvent struct {
	at   time.Duration
	turn int // of those at the same time
	do   func()
}

type townEvents []townEvent

func (e townEvents) Len() int { return len(e) }
func (e townEvents) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].turn < e[j].turn
}
func (e townEvents) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *townEvents) Push(x any)   { *e = append(*e, x.(townEvent)) }
func (e *townEvents) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// newTown builds a town of so many callers in each of the zones.
func newTown(cfg Config, seed uint64, perZone int, eps []discovery.Endpoint, zones ...string) *town {
	rnd := rand.New(rand.NewPCG(2026, seed))
	c := &town{
		rnd: rnd, workers: 8, queue: 1 << 30, deadline: time.Second, servers: map[string]*townServer{},
		service:  func(string, time.Duration) time.Duration { return 50 * ms },
		distance: func(from, to string) time.Duration { return ms },
	}
	cfg.Rand = rnd.Uint64
	for _, ep := range eps {
		c.servers[ep.Addr] = &townServer{}
	}
	for _, zone := range zones {
		for range perZone {
			cfg.Locality.Zone = zone
			b := &townCaller{Balancer: New(cfg), zone: zone, weight: 1, budget: resilience.NewBudget(resilience.BudgetConfig{})}
			b.Update(eps)
			c.callers = append(c.callers, b)
		}
	}
	return c
}

// tally is how the calls of a span of time went, by when they ended.
type tally struct{ all, failed, crossed, attempts int }

func (c tally) failures() float64 { return float64(c.failed) / float64(c.all) }
func (c tally) crossing() float64 { return float64(c.crossed) / float64(c.attempts) }

func (c *town) after(d time.Duration, do func()) {
	heap.Push(&c.events, townEvent{c.now + d, c.rnd.Int(), do})
}

// run makes calls until the given time.
func (c *town) run(t *testing.T, until time.Duration) tally {
	c.sum = tally{}
	upTo := make([]float64, len(c.callers)) // the draws that fall on a caller or one before
	var total float64
	for i, b := range c.callers {
		total += b.weight
		upTo[i] = total
	}
	next := c.now
	for {
		next += time.Duration(c.rnd.ExpFloat64() / c.rate * float64(time.Second))
		for len(c.events) > 0 && c.events[0].at <= min(next, until) {
			e := heap.Pop(&c.events).(townEvent)
			c.now = e.at
			e.do()
		}
		if next > until {
			c.now = until
			return c.sum
		}
		c.now = next
		i, _ := slices.BinarySearch(upTo, c.rnd.Float64()*total)
		c.call(t, c.callers[i])
	}
}

func (b *townCaller) at(now time.Duration) time.Time { return b.base.Add(now) }

func (c *town) call(t *testing.T, b *townCaller) {
	call := &townCall{caller: b, began: c.now}
	cfg := &call.machine.Config
	cfg.Deadline = c.now + c.deadline
	if !c.single {
		cfg.Attempts, cfg.Idempotent, cfg.Budget = 3, true, b.budget
		cfg.Backup = time.Second
		p50, p99, ok := b.latency.Quantiles()
		if ok {
			cfg.Backup = 2 * p99
		}
		cfg.MinRemaining = p50 / 2
		cfg.Backup = max(min(cfg.Backup, c.deadline/2), 50*ms)
	}
	c.after(c.deadline, func() {
		if !call.over {
			c.step(t, call, &resilience.Event{Kind: resilience.Cancel})
		}
	})
	c.step(t, call, &resilience.Event{Kind: resilience.Begin})
}

// step is what drivers of calls do.
func (c *town) step(t *testing.T, call *townCall, ev *resilience.Event) {
	act := call.machine.Step(c.now, ev)
	switch act.Kind {
	case resilience.Launch:
		c.launch(t, call, act)
	case resilience.Finish:
		call.over = true
		c.sum.all++
		if act.Reason != resilience.Answered {
			c.sum.failed++
		}
		for _, a := range call.attempts {
			if a != nil && !a.ended {
				c.abandon(a, act.Reason == resilience.Canceled)
			}
		}
		return
	}
	if wake := call.machine.Wake(); wake > 0 {
		c.after(max(wake-c.now, 0), func() {
			if !call.over && call.machine.Wake() == wake {
				c.step(t, call, &resilience.Event{Kind: resilience.Tick})
			}
		})
	}
}

func (c *town) launch(t *testing.T, call *townCall, act resilience.Action) {
	b := call.caller
	in := Info{Now: b.at(c.now), Other: act.Cause == resilience.Backup}
	for _, a := range call.attempts {
		if a != nil {
			in.Avoid = append(in.Avoid, a.pick.Node())
		}
	}
	p, err := b.Pick(in)
	if err != nil {
		c.step(t, call, &resilience.Event{Kind: resilience.Rejected, Attempt: act.Attempt})
		return
	}
	a := &townAttempt{call: call, index: act.Attempt, pick: p, start: c.now}
	call.attempts[act.Attempt] = a
	c.sum.attempts++
	if p.Node().Endpoint().Zone != b.zone {
		c.sum.crossed++
	}
	s := c.servers[p.Node().Addr()]
	switch {
	case s == nil: // it is down
		c.after(ms, func() { c.answer(t, a, resilience.Failure) })
	case s.busy < c.workers:
		c.serve(t, s, a)
	case len(s.waiting) < c.queue:
		s.waiting = append(s.waiting, a)
	default:
		c.after(ms, func() { c.answer(t, a, resilience.Failure) })
	}
}

// serve has a worker work on an attempt.
func (c *town) serve(t *testing.T, s *townServer, a *townAttempt) {
	s.busy++
	zone := a.pick.Node().Endpoint().Zone
	work := time.Duration((1 + c.rnd.ExpFloat64()) / 2 * float64(c.service(zone, c.now)))
	c.after(work, func() {
		s.busy--
		var away time.Duration
		if from := a.call.caller.zone; from != zone {
			away = c.distance(from, zone)
		}
		c.after(away, func() { c.answer(t, a, resilience.Success) })
		for len(s.waiting) > 0 {
			next := s.waiting[0]
			s.waiting = s.waiting[1:]
			if !next.ended { // a worker has no use for a call that nobody waits for any more
				c.serve(t, s, next)
				return
			}
		}
	})
}

func (c *town) answer(t *testing.T, a *townAttempt, outcome resilience.Outcome) {
	if a.ended {
		return
	}
	a.ended = true
	b, took := a.call.caller, c.now-a.start
	a.pick.Done(Report{Now: b.at(c.now), Outcome: outcome, Latency: took})
	if outcome == resilience.Success {
		b.latency.Observe(c.now, took)
	}
	c.step(t, a.call, &resilience.Event{
		Kind: resilience.Done, Attempt: a.index, Random: c.rnd.Uint64(),
		Verdict: resilience.Verdict{Outcome: outcome, Retry: outcome == resilience.Failure},
	})
}

// abandon ends an attempt whose call is over, because the caller waits no longer or another attempt has won.
func (c *town) abandon(a *townAttempt, late bool) {
	a.ended = true
	b, took := a.call.caller, c.now-a.start
	r := Report{Now: b.at(c.now), Outcome: resilience.Neutral, Latency: took}
	usual, _, ok := b.latency.Quantiles()
	if !ok {
		usual = time.Second / 2
	}
	switch backup := a.call.machine.Config.Backup; {
	case !late:
		r.Overdue = backup > 0 && took >= backup
	case took >= usual:
		r.Outcome = resilience.Failure
	default:
		r.Latency = 0
	}
	a.pick.Done(r)
}

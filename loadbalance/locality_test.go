package loadbalance

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
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

// town is a simulation of callers in zones whose calls queue at the endpoints.
type town struct {
	rnd      *rand.Rand
	callers  []*Balancer
	zones    []string                                          // of the callers
	rate     float64                                           // of all callers together, in calls a second
	service  func(zone string, at time.Duration) time.Duration // mean, of a worker
	workers  int                                               // of each endpoint
	distance time.Duration                                     // to another zone
	deadline time.Duration

	now  time.Duration
	ends townEnds
	free map[string][]time.Duration // when each worker has done what it was given
}

type townEnd struct {
	at      time.Duration
	pick    Pick
	outcome resilience.Outcome
}

type townEnds []townEnd

func (e townEnds) Len() int           { return len(e) }
func (e townEnds) Less(i, j int) bool { return e[i].at < e[j].at }
func (e townEnds) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *townEnds) Push(x any)        { *e = append(*e, x.(townEnd)) }
func (e *townEnds) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newTown(cfg Config, perZone int, eps []discovery.Endpoint, zones ...string) *town {
	rnd := rand.New(rand.NewPCG(2026, 3))
	c := &town{rnd: rnd, workers: 8, distance: time.Millisecond, deadline: time.Second, free: map[string][]time.Duration{}}
	cfg.Rand = rnd.Uint64
	for _, zone := range zones {
		for range perZone {
			cfg.Locality.Zone = zone
			b := New(cfg)
			b.Update(eps)
			c.callers, c.zones = append(c.callers, b), append(c.zones, zone)
		}
	}
	c.service = func(string, time.Duration) time.Duration { return 50 * ms }
	return c
}

// tally is how the calls of a span of time went.
type tally struct{ all, failed, crossed int }

func (c tally) failures() float64 { return float64(c.failed) / float64(c.all) }
func (c tally) crossing() float64 { return float64(c.crossed) / float64(c.all) }

// run makes calls until the given time.
func (c *town) run(t *testing.T, until time.Duration) (sum tally) {
	for {
		c.now += time.Duration(c.rnd.ExpFloat64() / c.rate * float64(time.Second))
		if c.now > until {
			return sum
		}
		for len(c.ends) > 0 && c.ends[0].at <= c.now {
			e := heap.Pop(&c.ends).(townEnd)
			e.pick.Done(Report{Now: e.pick.node.owner.base.Add(e.at), Outcome: e.outcome, Latency: e.at - e.pick.start})
		}
		i := c.rnd.IntN(len(c.callers))
		b := c.callers[i]
		p, err := b.Pick(Info{Now: b.base.Add(c.now)})
		if err != nil {
			t.Fatal(err)
		}
		ep := p.Node().Endpoint()
		if c.free[ep.Addr] == nil {
			c.free[ep.Addr] = make([]time.Duration, c.workers)
		}
		worker := &c.free[ep.Addr][0]
		for k := range c.free[ep.Addr] {
			if w := &c.free[ep.Addr][k]; *w < *worker {
				worker = w
			}
		}
		start := max(*worker, c.now)
		end, outcome := start, resilience.Failure
		// A worker has no use for a call that nobody waits for any more.
		if start < c.now+c.deadline {
			end += time.Duration((1 + c.rnd.ExpFloat64()) / 2 * float64(c.service(ep.Zone, start)))
			outcome = resilience.Success
			*worker = end
		}
		sum.all++
		if ep.Zone != c.zones[i] {
			sum.crossed++
			end += c.distance
		}
		if end > c.now+c.deadline {
			end, outcome = c.now+c.deadline, resilience.Failure
		}
		if outcome == resilience.Failure {
			sum.failed++
		}
		heap.Push(&c.ends, townEnd{end, p, outcome})
	}
}

// Three zones of ten endpoints, half busy; one zone has a fifth of its capacity for a minute, which the other two
// could make up for.
func TestZoneThatBrownsOutKeepsFewCalls(t *testing.T) {
	for _, p := range policies {
		for _, perZone := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s/%d callers", p.name, perZone), func(t *testing.T) {
				c := newTown(Config{Builder: p.build, Outlier: &OutlierConfig{}, SlowStart: &SlowStart{}}, perZone, zoned(10, 10, 10), "a", "b", "c")
				c.rate = 0.5 * 30 * 8 / 0.05
				c.service = func(zone string, at time.Duration) time.Duration {
					if zone == "b" && at > 20*time.Second && at < 80*time.Second {
						return 250 * ms
					}
					return 50 * ms
				}
				before := c.run(t, 20*time.Second)
				during := c.run(t, 80*time.Second)
				c.run(t, 90*time.Second)
				after := c.run(t, 110*time.Second)
				if x := max(before.crossing(), after.crossing()); x > 0.05 {
					t.Errorf("part of the calls that cross zones while all is well = %.4f, want <= 0.05", x)
				}
				if x := during.failures(); x > 0.001 { // without a single retry
					t.Errorf("part of the calls that fail while one zone is slow = %.5f, want <= 0.001", x)
				}
				t.Logf("crossing: %.4f before, %.4f during, %.4f after; failures: %.5f before, %.5f during, %.5f after",
					before.crossing(), during.crossing(), after.crossing(), before.failures(), during.failures(), after.failures())
			})
		}
	}
}

// A zone of one endpoint among a hundred carries what it can and no more.
func TestTinyZoneIsNotFlooded(t *testing.T) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			c := newTown(Config{Builder: p.build, Outlier: &OutlierConfig{}, SlowStart: &SlowStart{}}, 2, zoned(1, 99), "a")
			c.rate = 1000 // six times the capacity of the one endpoint
			c.run(t, 10*time.Second)
			got := c.run(t, 60*time.Second)
			local := float64(got.all-got.crossed) / 50
			t.Logf("%.0f of 160 calls a second stay, failures %.5f", local, got.failures())
			if local > 160 {
				t.Errorf("the endpoint in the zone gets %.0f calls a second, want <= 160", local)
			}
			if got.failures() > 0.001 {
				t.Errorf("failures = %.5f, want <= 0.001", got.failures())
			}
		})
	}
}

func TestCallsStayInTheirZone(t *testing.T) {
	for _, c := range []struct {
		name   string
		zone   string
		eps    []discovery.Endpoint
		down   int // of the first endpoints are ejected
		inZone float64
	}{
		{"a zone with endpoints", "a", zoned(5, 10), 0, 1},
		{"a zone with one of them ejected", "a", zoned(5, 10), 1, 1},
		{"a zone with three of five ejected", "a", zoned(5, 10), 3, 0.56},
		{"a zone that is ejected", "a", zoned(5, 10), 5, 0},
		{"an only zone", "a", zoned(5), 0, 1},
		{"a zone without endpoints", "c", zoned(5, 10), 0, 1. / 3},
		{"no zone", "", zoned(5, 10), 0, 1. / 3},
		{"no endpoints", "a", nil, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := New(Config{Builder: Random, Outlier: &OutlierConfig{}, Locality: Locality{Zone: c.zone}, Rand: seeded()})
			b.Update(c.eps)
			bed := &testbed{t, b, b.base.Add(time.Second)}
			for i := range c.down {
				bed.fail(bed.node(i), 5)
			}
			if got := len(bed.ejected()); got != c.down {
				t.Fatalf("ejected %d, want %d", got, c.down)
			}
			got := 0
			const picks = 3000
			for range picks {
				p, err := b.Pick(Info{Now: bed.now})
				if (err != nil) != (len(c.eps) == 0) {
					t.Fatal(err)
				}
				if p.Node() != nil && p.Node().Endpoint().Zone == "a" {
					got++
				}
				p.Done(Report{Now: bed.now})
			}
			if got := float64(got) / picks; !near(got, c.inZone, 0.05) {
				t.Errorf("part in zone a = %.3f, want %.2f", got, c.inZone)
			}
		})
	}
}

// A call that has tried all of the zone goes on outside, and one that has tried all of both is told so.
func TestRetriesLeaveTheZone(t *testing.T) {
	b := New(Config{Locality: Locality{Zone: "a"}, Rand: seeded()})
	b.Update(zoned(2, 1))
	nodes := b.Set().Nodes()
	p, err := b.Pick(Info{Now: b.base, Avoid: nodes[:2]})
	if err != nil || p.Node() != nodes[2] {
		t.Errorf("Pick() = %v, %v, want the node of the other zone", p.Node(), err)
	}
	if _, err := b.Pick(Info{Now: b.base, Avoid: nodes, Other: true}); err != ErrNoOther {
		t.Errorf("Pick() = %v, want ErrNoOther", err)
	}
}

func TestBand(t *testing.T) {
	cfg := Locality{}.withDefaults()
	b := newLocality(cfg).band(0)
	// after makes so many decisions on the same state and returns what stays.
	after := func(times int, load, ratio float64) float64 {
		for range times {
			b.decide(&cfg, bandTick, load, ratio)
		}
		return b.stays()
	}
	for _, c := range []struct {
		what        string
		times       int
		load, ratio float64
		want        float64
	}{
		{"little load", 50, 0.5, 1, 1},
		{"little load, slow", 50, 0.5, 9, 1},
		{"a load within the band, slow", 50, 1.5, 9, 1},
		{"a load above it that others would bear no better", 50, 5, 1.2, 0.98},
		{"the same, slow", 4, 5, 3, 0.98 * 0.8 * 0.8 * 0.8 * 0.8},
		{"the same for long", 100, 5, 3, 0.02},
		{"a load within the band", 100, 1.5, 3, 0.02},
		{"little load, but ten times slower", 104, 0.5, 10, 0.04}, // the smoothed load takes four ticks to fall
		{"the same as fast", 48, 0.5, 1, 1},
		{"one above it while nothing is known of the others", 5, 20, math.Inf(1), 0.8 * 0.8 * 0.8 * 0.8 * 0.8},
	} {
		if got := after(c.times, c.load, c.ratio); !near(got, c.want, 0.03) {
			t.Errorf("after %s: %.3f of the calls stay, want %.3f", c.what, got, c.want)
		}
	}
}

func TestLocalityValidate(t *testing.T) {
	for _, c := range []struct {
		cfg  Locality
		want string
	}{
		{Locality{}, ""},
		{Locality{Zone: "a", Low: 3, High: 5}, ""},
		{Locality{Low: -1}, "low: "},
		{Locality{Low: math.NaN()}, "low: "},
		{Locality{Low: 2.5, High: 2.4}, "high: "},
		{Locality{High: 0.5}, "high: "},
		{Locality{High: math.Inf(1)}, "high: "},
	} {
		if err := c.cfg.Validate(); (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("Validate() of %+v = %v, want %q", c.cfg, err, c.want)
		}
		if d := c.cfg.withDefaults(); !(d.Low > 0 && d.High >= d.Low) {
			t.Errorf("%+v is taken for %+v", c.cfg, d)
		}
	}
}

func TestPicksInAZoneDoNotAllocate(t *testing.T) {
	b := New(Config{Locality: Locality{Zone: "a"}, Outlier: &OutlierConfig{}, SlowStart: &SlowStart{}})
	b.Update(zoned(5, 5))
	now := b.base
	if got := testing.AllocsPerRun(2000, func() {
		now = now.Add(ms)
		p, _ := b.Pick(Info{Now: now})
		p.Done(Report{Now: now.Add(ms), Outcome: resilience.Success, Latency: ms})
	}); got != 0 {
		t.Errorf("allocations of a pick = %v, want 0", got)
	}
}

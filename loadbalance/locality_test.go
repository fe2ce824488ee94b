package loadbalance

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

var townPolicy = Config{Outlier: &OutlierConfig{}, SlowStart: &SlowStart{}}

// brownOut makes a zone five times as slow from 20 s to 80 s, and reports on the time before, during and, 10 s later, after.
func brownOut(t *testing.T, c *town) (before, during, after tally) {
	c.service = func(zone string, at time.Duration) time.Duration {
		if zone == "b" && at > 20*time.Second && at < 80*time.Second {
			return 250 * ms
		}
		return 50 * ms
	}
	before = c.run(t, 20*time.Second)
	during = c.run(t, 80*time.Second)
	c.run(t, 90*time.Second)
	after = c.run(t, 110*time.Second)
	t.Logf("crossing: %.4f before, %.4f during, %.4f after; failures: %.5f before, %.5f during, %.5f after; %.4f attempts a call during",
		before.crossing(), during.crossing(), after.crossing(), before.failures(), during.failures(), after.failures(),
		float64(during.attempts)/float64(during.all))
	return before, during, after
}

// Three zones of ten endpoints; one zone has a fifth of its capacity for a minute, which the other two can make up for. What
// is counted is calls of a second at most, all attempts included: the queues of the zone are full half a second after
// it becomes slow.
func TestZoneThatBrownsOutLosesFewCalls(t *testing.T) {
	long(t)
	type trial struct {
		policy  int
		callers int // in each zone
		load    float64
		seed    uint64
	}
	var trials []trial
	for _, callers := range []int{1, 4, 16, 64} {
		for _, load := range []float64{0.3, 0.5, 0.6} {
			trials = append(trials, trial{0, callers, load, 1})
		}
	}
	for policy := 1; policy < len(policies); policy++ {
		trials = append(trials, trial{policy, 16, 0.5, 1})
	}
	for seed := uint64(2); seed < 5; seed++ {
		trials = append(trials, trial{0, 16, 0.5, seed})
	}
	if raced {
		trials = trials[4:5]
	}
	for _, c := range trials {
		t.Run(fmt.Sprintf("%s/%d callers/load %v/seed %d", policies[c.policy].name, c.callers, c.load, c.seed), func(t *testing.T) {
			cfg := townPolicy
			cfg.Builder = policies[c.policy].build
			town := newTown(cfg, c.seed, c.callers, zoned(10, 10, 10), "a", "b", "c")
			town.rate = c.load * 30 * 8 / 0.05
			before, during, after := brownOut(t, town)
			if x := max(before.crossing(), after.crossing()); x > 0.05 {
				t.Errorf("part of the calls that cross zones while all is well = %.4f, want <= 0.05", x)
			}
			if x := during.failures(); x > 0.001 {
				t.Errorf("part of the calls that fail while one zone is slow = %.5f, want <= 0.001", x)
			}
			if x := during.crossing(); x < 0.15 {
				t.Errorf("part of the calls that cross zones while one is slow = %.4f, want the calls of the slow one to leave it", x)
			}
		})
	}
}

// The same without retries and backups, which is what the band alone does.
func TestZoneThatBrownsOutLosesFewAttempts(t *testing.T) {
	long(t)
	for _, callers := range []int{4, 64} {
		if raced && callers > 4 {
			continue
		}
		town := newTown(townPolicy, 1, callers, zoned(10, 10, 10), "a", "b", "c")
		town.rate, town.single = 0.5*30*8/0.05, true
		if _, during, _ := brownOut(t, town); during.failures() > 0.004 {
			t.Errorf("%d callers: part of the attempts that fail while one zone is slow = %.5f, want <= 0.004", callers, during.failures())
		}
	}
}

// A service with a long tail, and one that is slow for a while everywhere, is no reason to cross zones.
func TestUnevenServiceStaysInItsZone(t *testing.T) {
	long(t)
	for i, c := range []struct {
		name    string
		most    float64 // of the calls cross; callers in dozens have nine calls a second each to judge by
		service func(rnd *rand.Rand, at time.Duration) time.Duration
	}{
		{"one call in a hundred takes twenty times as long", 0.05, func(rnd *rand.Rand, _ time.Duration) time.Duration {
			if rnd.IntN(100) == 0 {
				return time.Second
			}
			return 50 * ms
		}},
		{"one call in ten takes ten times as long", 0.1, func(rnd *rand.Rand, _ time.Duration) time.Duration {
			if rnd.IntN(10) == 0 {
				return 250 * ms
			}
			return 25 * ms
		}},
		{"everywhere four times as slow from 20 s on", 0.05, func(_ *rand.Rand, at time.Duration) time.Duration {
			if at > 20*time.Second {
				return 100 * ms
			}
			return 25 * ms
		}},
	} {
		for _, callers := range []int{4, 64} {
			if raced && (callers > 4 || i > 0) {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d callers", c.name, callers), func(t *testing.T) {
				town := newTown(townPolicy, 5, callers, zoned(10, 10, 10), "a", "b", "c")
				town.rate, town.deadline = 0.35*30*8/0.05, 5*time.Second
				town.service = func(_ string, at time.Duration) time.Duration { return c.service(town.rnd, at) }
				town.run(t, 10*time.Second)
				got := town.run(t, 60*time.Second)
				t.Logf("crossing %.4f, failures %.5f", got.crossing(), got.failures())
				if got.crossing() > c.most {
					t.Errorf("part of the calls that cross zones = %.4f, want <= %.2f", got.crossing(), c.most)
				}
			})
		}
	}
}

// One of three regions, 35 ms from one another in the median and 163 ms at the 99th percentile, loses half of its servers,
// after the evaluation of "ServiceRouter: Hyperscale and Minimal Cost Service Mesh at Meta" (OSDI 2023). Callers that know
// the nearest servers only drown what is left.
func TestRegionThatLosesHalfOfItsServers(t *testing.T) {
	if raced {
		t.Skip("one goroutine: the race detector finds nothing in it")
	}
	for _, nearest := range []bool{true, false} {
		t.Run(fmt.Sprintf("nearest only %v", nearest), func(t *testing.T) {
			eps := zoned(10, 10, 10)
			town := newTown(townPolicy, 6, 16, eps, "a", "b", "c")
			town.rate = 0.6 * 30 * 8 / 0.05
			town.distance = func(string, string) time.Duration {
				return time.Duration(35 * math.Exp(0.661*town.rnd.NormFloat64()) * float64(ms))
			}
			update := func(eps []discovery.Endpoint) {
				for _, b := range town.callers {
					var known []discovery.Endpoint
					for _, ep := range eps {
						if !nearest || ep.Zone == b.zone {
							known = append(known, ep)
						}
					}
					b.Update(known)
				}
			}
			update(eps)
			before := town.run(t, 20*time.Second)
			update(slices.Concat(eps[:10], eps[15:]))
			during := town.run(t, 80*time.Second)
			t.Logf("crossing: %.4f before, %.4f during; failures: %.5f before, %.5f during", before.crossing(), during.crossing(), before.failures(), during.failures())
			switch {
			case nearest && during.failures() < 0.02:
				t.Errorf("failures = %.5f: the trial is too easy", during.failures())
			case !nearest && during.failures() > 0.001:
				t.Errorf("failures = %.5f, want <= 0.001", during.failures())
			case before.crossing() > 0.05 || before.failures() > 0.001:
				t.Errorf("before: crossing %.4f, failures %.5f", before.crossing(), before.failures())
			}
		})
	}
}

// Most callers are in one zone, whose servers could not serve them all.
func TestCrowdedZoneUsesTheOthers(t *testing.T) {
	if raced {
		t.Skip("one goroutine: the race detector finds nothing in it")
	}
	town := newTown(townPolicy, 7, 16, zoned(10, 10, 10), "a", "b", "c")
	for _, b := range town.callers {
		if b.zone == "a" {
			b.weight = 6
		}
	}
	town.rate = 0.6 * 30 * 8 / 0.05 // 1.35 times what zone a can do comes from there
	town.run(t, 10*time.Second)
	got := town.run(t, 70*time.Second)
	t.Logf("crossing %.4f, failures %.5f", got.crossing(), got.failures())
	if got.failures() > 0.001 {
		t.Errorf("failures = %.5f, want <= 0.001", got.failures())
	}
	// At least a quarter of the calls of that zone has to leave, and 3/4 of all are such; 0.5 would leave if no zone mattered.
	if x := got.crossing(); x < 0.15 || x > 0.45 {
		t.Errorf("part of the calls that cross zones = %.4f, want 0.15 to 0.45", x)
	}
}

// A zone of one endpoint among a hundred carries what it can and no more.
func TestTinyZoneIsNotFlooded(t *testing.T) {
	for i, p := range policies {
		if raced && i > 0 {
			break
		}
		t.Run(p.name, func(t *testing.T) {
			c := newTown(Config{Builder: p.build, Outlier: &OutlierConfig{}, SlowStart: &SlowStart{}}, 3, 2, zoned(1, 99), "a")
			c.rate = 1000 // six times the capacity of the one endpoint
			c.run(t, 10*time.Second)
			got := c.run(t, 60*time.Second)
			local := float64(got.attempts-got.crossed) / 50
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
	if _, err := b.Pick(Info{Now: b.base, Avoid: nodes, Other: true}); !errors.Is(err, ErrNoOther) {
		t.Errorf("Pick() = %v, want ErrNoOther", err)
	}
}

func TestBand(t *testing.T) {
	cfg := Locality{}.withDefaults()
	b := newLocality(cfg.Zone).band(0)
	// after makes so many decisions on the same state, latencies in units of 50 ms and 0 if unknown, and returns what stays.
	after := func(times int, load, here, there float64) float64 {
		pace := func(latency float64) pace {
			if latency == 0 {
				return pace{}
			}
			return pace{load: load, answers: 100, spent: latency * 5}
		}
		for range times {
			b.here, b.there = pace(here), pace(there)
			b.here.load = load
			b.decide(&cfg, bandTick)
		}
		return b.stays()
	}
	for _, c := range []struct {
		what              string
		times             int
		load, here, there float64
		want              float64
	}{
		{"nothing known", 50, 0, 0, 0, 1},
		{"little load", 50, 0.5, 1, 0, 1},
		{"a load within the band", 50, 1.5, 1, 0, 1},
		{"the others always faster", 50, 1.5, 1, 0.1, 1},
		{"a load above the band that others would bear no better", 50, 5, 1.2, 1, 0.98},
		{"the same, slow", 4, 5, 3, 1, 0.98 * 0.8 * 0.8 * 0.8 * 0.8},
		{"the same for long", 100, 5, 3, 1, 0.02},
		{"a load within the band", 100, 1.5, 3, 1, 0.02},
		{"little load, but still ten times slower", 100, 0.5, 10, 1, 0.02},
		{"little load and still twice as slow", 4, 0.5, 2, 1, 0.06},
		{"the same as fast", 20, 0.5, 1, 1, 0.85},
		{"the same as fast for long", 300, 0.5, 1, 1, 1},
		{"slower than usual while nothing is known of the others", 2, 0.5, 3, 0, 0.8 * 0.8},
		{"the same for longer", 20, 0.5, 3, 0, 0.5},
		{"an hour of answers all over as slow", 36_000, 0.5, 3, 3, 1},
		{"the same, which is usual now, and the others better", 50, 0.5, 3, 1, 1},
	} {
		if got := after(c.times, c.load, c.here, c.there); !near(got, c.want, 0.02) {
			t.Errorf("after %s: %.3f of the calls stay, want %.3f", c.what, got, c.want)
		}
	}
}

// Time spent counts for the answers that it yields, be it spent in vain or not over yet.
func TestPace(t *testing.T) {
	var p pace
	if _, known := p.latency(); known {
		t.Error("something is known before anything was seen")
	}
	for range 50 {
		p.add(bandTick, 2, 10, 0.5, 0.45)
	}
	want := func(when string, want float64) {
		t.Helper()
		if got, known := p.latency(); !known || !near(got, want, 0.002) {
			t.Errorf("%s: latency() = %.4f, %v, want %.4f", when, got, known, want)
		}
	}
	want("50 ms each", 0.05)
	if !near(p.load, 2, 0.01) {
		t.Errorf("load = %.3f, want 2", p.load)
	}
	for range 3 {
		p.add(bandTick, 20, 0, 0, 2)
	}
	if got, _ := p.latency(); got < 0.2 {
		t.Errorf("latency() = %.4f after 0.3 s without an answer to 20 calls, want >= 0.2", got)
	}
	for range 50 {
		p.add(bandTick, 2, 5, 0.5, 0.5)
	}
	want("every other call fails after 50 ms", 0.1)
	p.add(time.Minute, 0, 0, 0, 0)
	if _, known := p.latency(); known {
		t.Error("something is known after a minute of silence")
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

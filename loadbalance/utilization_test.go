package loadbalance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestUtilizationWeightIsThatOfTheFormula(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		load    Load
		penalty float64
		want    float64
	}{
		{Load{Rate: 100, Utilization: 0.5}, 0, 200},
		{Load{Rate: 100, Utilization: 2}, 0, 50},
		{Load{Rate: 100, Utilization: 0.5, Errors: 10}, 0, 100 / 0.6},
		{Load{Rate: 100, Utilization: 0.5, Errors: 10}, 2, 100 / 0.7},
		{Load{Rate: 100, Utilization: 0.5, Errors: 10}, -1, 200},
		{Load{Rate: 100, Utilization: 0.5, Errors: 10}, math.NaN(), 200},
		{Load{Rate: 100, Utilization: 0.5, Errors: -10}, 0, 200},
		{Load{Rate: 100, Utilization: 0.5, Errors: math.NaN()}, 0, 200},
		{Load{Rate: 100, Utilization: 0.5}, math.Inf(1), 200},
		{Load{Rate: 100}, 0, 0},
		{Load{Utilization: 1}, 0, 0},
		{Load{Rate: -100, Utilization: -1}, 0, 0},
		{Load{Rate: math.NaN(), Utilization: 1}, 0, 0},
		{Load{Rate: 1, Utilization: math.NaN()}, 0, 0},
		{Load{Rate: math.Inf(1), Utilization: 1}, 0, 0},
		{Load{Rate: 1, Utilization: math.Inf(1)}, 0, 0},
		{Load{Rate: 1e-300, Utilization: 1}, 0, 0},
	} {
		nodes := newNodes(1)
		p := UtilizationConfig{ErrorPenalty: c.penalty, Blackout: -1}.RoundRobin(nodes).(*utilization)
		nodes[0].ReportLoad(now, c.load)
		if got := p.cfg.weight(p.reports[0], nodes[0].since(now)); !near(got, c.want, 1e-6) && got != c.want {
			t.Errorf("%+v, penalty %v: weight %v, want %v", c.load, c.penalty, got, c.want)
		}
	}
}

func TestUtilizationSharesFollowTheWeights(t *testing.T) {
	for _, c := range []struct {
		name    string
		weights []float64 // reported, 0 for none
		want    []float64
	}{
		{"equal", []float64{7, 7, 7}, []float64{1, 1, 1}},
		{"unequal", []float64{100, 200, 300, 400}, []float64{1, 2, 3, 4}},
		{"unknown ones get the mean", []float64{100, 300, 0}, []float64{1, 3, 2}},
		{"one alone tells nothing", []float64{100, 0, 0}, []float64{1, 1, 1}},
		{"none", []float64{0, 0}, []float64{1, 1}},
		{"at most ten times the median", []float64{1e6, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, []float64{10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
		{"at least a hundredth of the median", []float64{1e6, 1e6, 1e6, 1}, []float64{100, 100, 100, 1}},
		{"one of two is wrong", []float64{1e30, 1}, []float64{10, 1}},
	} {
		nodes := newNodes(len(c.weights))
		p := UtilizationRoundRobin(nodes)
		now := time.Now()
		for i, w := range c.weights {
			nodes[i].ReportLoad(now, Load{Rate: w, Utilization: 1})
			nodes[i].ReportLoad(now.Add(10*time.Second), Load{Rate: w, Utilization: 1})
		}
		const picks = 100_000
		counts := map[*Node]float64{}
		for range picks {
			counts[p.Pick(Info{Now: now.Add(11 * time.Second)})]++
		}
		var sum float64
		for _, w := range c.want {
			sum += w
		}
		for i, n := range nodes {
			if want := c.want[i] / sum * picks; math.Abs(counts[n]-want) > 0.01*want+3 {
				t.Errorf("%s: node %d of reported weights %v got %v of %d picks, want %.0f", c.name, i, c.weights, counts[n], picks, want)
			}
		}
	}
}

// Reports count from 10 s after the first on until 3 minutes after the last, and again 10 s after those that follow.
func TestUtilizationHeedsBlackoutAndExpiration(t *testing.T) {
	nodes := newNodes(2)
	p := UtilizationRoundRobin(nodes)
	now := time.Now()
	share := func() float64 {
		n := 0
		for range 3000 {
			if p.Pick(Info{Now: now}) == nodes[1] {
				n++
			}
		}
		return float64(n) / 3000
	}
	report := func() {
		nodes[0].ReportLoad(now, Load{Rate: 1, Utilization: 1})
		nodes[1].ReportLoad(now, Load{Rate: 2, Utilization: 1})
	}
	check := func(when string, want float64) {
		t.Helper()
		if got := share(); math.Abs(got-want) > 0.01 {
			t.Errorf("%s: the node that can do twice as much has a share of %.3f, want %.3f", when, got, want)
		}
	}
	check("without reports", 0.5)
	report()
	now = now.Add(9 * time.Second)
	report()
	check("9 s after the first report", 0.5)
	now = now.Add(2 * time.Second)
	check("11 s after the first report", 2./3)
	now = now.Add(170 * time.Second)
	check("179 s after the last report", 2./3)
	now = now.Add(10 * time.Second)
	check("189 s after the last report", 0.5)
	report()
	now = now.Add(5 * time.Second)
	check("5 s after the reports began again", 0.5)
	now = now.Add(6 * time.Second)
	check("11 s after the reports began again", 2./3)
}

// Servers whose speeds are 0.6 to 1.4 of the mean report once a second what they do.
func TestUtilizationRoundRobinMakesServersEquallyBusy(t *testing.T) {
	const size, clients, rate = 100, 5, 12_000
	rnd := rand.New(rand.NewPCG(3, 9))
	speeds := make([]float64, size)
	for i := range speeds {
		speeds[i] = 120 * (0.6 + 0.8*rnd.Float64())
	}
	balancers := make([]*Balancer, clients)
	for i := range balancers {
		balancers[i] = New(Config{Builder: UtilizationRoundRobin, Rand: rnd.Uint64})
		balancers[i].Update(endpoints(size))
	}
	spread := func(busy []float64) float64 {
		var sum float64
		for _, b := range busy {
			sum += b
		}
		return slices.Max(busy) / sum * size
	}
	now := time.Now()
	var first, last float64
	for second := range 16 { // 10 of them black out, and weights change within one
		counts := map[string]float64{}
		for k := range rate {
			at := now.Add(time.Duration(k) * time.Second / rate)
			p, err := balancers[k%clients].Pick(Info{Now: at})
			if err != nil {
				t.Fatal(err)
			}
			counts[p.Node().Addr()]++
			p.Done(Report{Now: at})
		}
		now = now.Add(time.Second)
		busy := make([]float64, size)
		for i, n := range balancers[0].Set().Nodes() {
			busy[i] = counts[n.Addr()] / speeds[i]
		}
		for _, b := range balancers {
			for i, n := range b.Set().Nodes() {
				n.ReportLoad(now, Load{Rate: counts[n.Addr()], Utilization: busy[i]})
			}
		}
		if last = spread(busy); second == 0 {
			first = last
		}
	}
	t.Logf("the busiest server is %.3f times as busy as the mean at first, %.3f times at last", first, last)
	if first < 1.3 {
		t.Errorf("at first the busiest server is %.3f times as busy as the mean, want >= 1.3: the set-up is too easy", first)
	}
	if last > 1.05 {
		t.Errorf("the busiest server is %.3f times as busy as the mean, want <= 1.05", last)
	}
}

func BenchmarkUtilization(b *testing.B) {
	for _, n := range []int{3, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			nodes := newNodes(n)
			p := UtilizationConfig{Blackout: -1}.RoundRobin(nodes)
			rnd, in := rand.New(rand.NewPCG(1, 1)), Info{Now: time.Now()}
			for _, node := range nodes {
				node.ReportLoad(in.Now, Load{Rate: 50 + 100*rnd.Float64(), Utilization: 1})
			}
			b.ReportAllocs()
			for b.Loop() {
				in.Now = in.Now.Add(time.Microsecond)
				p.Pick(in)
			}
		})
	}
}

package loadbalance

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

func TestUpdateKeepsNodes(t *testing.T) {
	b := New(Config{Breaker: &resilience.BreakerConfig{Consecutive: 1, OpenFor: time.Hour}})
	eps := endpoints(10)
	b.Update(eps)
	before := b.Set().Nodes()
	now := time.Now()
	for i, n := range before {
		o := resilience.Success
		if i == 3 {
			o = resilience.Failure
		}
		p, err := b.View([]*Node{n}).Pick(Info{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		p.Done(Report{Now: now, Outcome: o, Latency: 50 * ms})
	}
	open, _ := b.Pick(Info{Now: now})
	for i := range 1000 {
		if i%3 == 0 {
			slices.Reverse(eps)
		}
		b.Update(eps)
	}
	after := b.Set().Nodes()
	for _, n := range before {
		if !slices.Contains(after, n) {
			t.Fatalf("node %s was replaced", n.Addr())
		}
		if got, ok := n.Cost(now); !ok || !near(float64(got), float64(50*ms), 0.01) {
			t.Errorf("Cost() of %s = %v, %v, want 50ms", n.Addr(), got, ok)
		}
	}
	if before[3].Available(now) || !before[3].Penalized(now) || before[3].BreakerState(time.Now()) != "open" {
		t.Error("the failed node lost its breaker or penalty")
	}
	if got := open.Node().InFlight(); got != 1 {
		t.Errorf("InFlight() = %d, want 1", got)
	}
}

func TestUpdateMatchesTheEndpoints(t *testing.T) {
	b := New(Config{})
	eps := endpoints(8)
	for _, list := range [][]discovery.Endpoint{
		eps, eps[1:], eps[2:7], eps, {eps[4], eps[0], eps[4], eps[0]}, nil, eps[:3], {eps[0], eps[2], eps[1], eps[0]},
	} {
		old := b.Set().Nodes()
		b.Update(list)
		var want []string
		for _, ep := range list {
			if !slices.Contains(want, ep.Addr) {
				want = append(want, ep.Addr)
			}
		}
		var got []string
		for _, n := range b.Set().Nodes() {
			got = append(got, n.Addr())
		}
		if !slices.Equal(got, want) {
			t.Errorf("nodes = %v, want %v", got, want)
		}
		for _, n := range old {
			if kept := slices.Contains(b.Set().Nodes(), n); kept != slices.Contains(want, n.Addr()) || kept == n.gone() {
				t.Errorf("node %s: kept %v, gone %v", n.Addr(), kept, n.gone())
			}
		}
		if len(b.nodes) != len(want) {
			t.Errorf("remembers %d nodes, want %d", len(b.nodes), len(want))
		}
	}
}

func TestUpdateTakesOverAttributes(t *testing.T) {
	b := New(Config{})
	ep := discovery.Endpoint{Addr: "a", Weight: 1, Meta: map[string]string{"v": "1"}}
	b.Update([]discovery.Endpoint{ep})
	n := b.Set().Nodes()[0]
	for _, change := range []func(){
		func() { ep.Weight = 7 },
		func() { ep.Zone = "z" },
		func() { ep.Priority = 1 },
		func() { ep.Health = discovery.Draining },
		func() { ep.Meta = map[string]string{"v": "2"} },
	} {
		change()
		b.Update([]discovery.Endpoint{ep})
		if got := n.Endpoint(); !got.Equal(ep) {
			t.Errorf("Endpoint() = %+v, want %+v", got, ep)
		}
	}
	if got := n.weighed(7); !near(got, 1, 1e-6) {
		t.Errorf("load 7 on weight 7 = %v, want 1", got)
	}
}

func TestNewNodeCostsTheMedian(t *testing.T) {
	for _, c := range []struct {
		known []time.Duration
		want  time.Duration
	}{
		{nil, 0},
		{[]time.Duration{40 * ms}, 40 * ms},
		{[]time.Duration{time.Second, 10 * ms, 20 * ms}, 20 * ms},
		{append(slices.Repeat([]time.Duration{5 * time.Second}, 100), slices.Repeat([]time.Duration{10 * ms}, 900)...), 10 * ms},
	} {
		b := New(Config{})
		b.Update(endpoints(len(c.known)))
		now := time.Now()
		for i, n := range b.Set().Nodes() {
			n.cost.observe(n.since(now), c.known[i])
		}
		b.Update(append(endpoints(len(c.known)), discovery.Endpoint{Addr: "new"}))
		nodes := b.Set().Nodes()
		if got, _ := nodes[len(nodes)-1].Cost(now); !near(float64(got), float64(c.want), 0.01) {
			t.Errorf("%d nodes known: Cost() of a new one = %v, want %v", len(c.known), got, c.want)
		}
	}
}

func TestTrafficGoesToTheFirstHealthyLevel(t *testing.T) {
	const (
		healthy   = discovery.Healthy
		draining  = discovery.Draining
		unhealthy = discovery.Unhealthy
	)
	ep := func(addr string, priority uint8, h discovery.Health) discovery.Endpoint {
		return discovery.Endpoint{Addr: addr, Priority: priority, Health: h}
	}
	for _, c := range []struct {
		name string
		eps  []discovery.Endpoint
		want []string
	}{
		{"all healthy", []discovery.Endpoint{ep("a", 0, healthy), ep("b", 0, healthy)}, []string{"a", "b"}},
		{"one draining", []discovery.Endpoint{ep("a", 0, healthy), ep("b", 0, draining)}, []string{"a"}},
		{"spare level", []discovery.Endpoint{ep("a", 1, healthy), ep("b", 0, healthy)}, []string{"b"}},
		{"level lost", []discovery.Endpoint{ep("a", 0, unhealthy), ep("b", 0, draining), ep("c", 1, healthy), ep("d", 2, healthy)}, []string{"c"}},
		{"levels do not start at 0", []discovery.Endpoint{ep("a", 255, healthy), ep("b", 7, healthy)}, []string{"b"}},
		{"none healthy", []discovery.Endpoint{ep("a", 0, unhealthy), ep("b", 3, draining)}, []string{"a", "b"}},
	} {
		b := New(Config{Builder: Random})
		b.Update(c.eps)
		got := map[string]bool{}
		for range 200 {
			p, err := b.Pick(Info{Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			got[p.Node().Addr()] = true
		}
		if len(got) != len(c.want) || slices.ContainsFunc(c.want, func(a string) bool { return !got[a] }) {
			t.Errorf("%s: picked %v, want %v", c.name, got, c.want)
		}
		if got, want := len(b.Set().Nodes()), len(c.eps); got != want {
			t.Errorf("%s: Nodes() has %d, want %d", c.name, got, want)
		}
	}
}

func TestServiceRecoversWhenEveryBreakerWasOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Breaker: &resilience.BreakerConfig{Consecutive: 1, OpenFor: time.Second}})
		b.Update(endpoints(3))
		for range 3 {
			p, err := b.Pick(Info{Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			p.Done(Report{Now: time.Now(), Outcome: resilience.Failure})
		}
		if _, err := b.Pick(Info{Now: time.Now()}); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("Pick() = %v, want ErrUnavailable", err)
		}
		time.Sleep(time.Second + ms)
		for range 3 { // each admits one probe
			p, err := b.Pick(Info{Now: time.Now()})
			if err != nil {
				t.Fatalf("Pick() after the breakers' pause = %v", err)
			}
			defer func() { p.Done(Report{Now: time.Now()}) }()
		}
		if _, err := b.Pick(Info{Now: time.Now()}); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Pick() during the probes = %v, want ErrUnavailable", err)
		}
	})
}

package loadbalance

import (
	"slices"
	"testing"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

func TestConfigureKeepsWhatIsKnownOfNodes(t *testing.T) {
	breaker := func(n uint32) *resilience.BreakerConfig {
		return &resilience.BreakerConfig{Consecutive: n, OpenFor: time.Hour}
	}
	b := New(Config{Breaker: breaker(1)})
	b.Update(endpoints(3))
	nodes, now := b.Set().Nodes(), time.Now()
	pick := func(n *Node) Pick {
		p, err := b.View([]*Node{n}).Pick(Info{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	pick(nodes[0]).Done(Report{Now: now, Outcome: resilience.Success, Latency: 50 * ms})
	pick(nodes[1]).Done(Report{Now: now, Outcome: resilience.Failure, Latency: ms})
	open := pick(nodes[2])
	cost, _ := nodes[0].Cost(now)
	b.Configure(Config{Builder: LeastRequest, Breaker: breaker(5), Limit: &LimitConfig{Max: 7}})
	if got := b.Set().Nodes(); !slices.Equal(got, nodes) {
		t.Fatal("nodes are others than before")
	}
	if got, _ := nodes[0].Cost(now); got != cost || cost == 0 {
		t.Errorf("cost = %v, want %v", got, cost)
	}
	if got, want := nodes[1].BreakerState(now), resilience.BreakerOpen; got != want {
		t.Errorf("breaker = %v, want %v", got, want)
	}
	if got, ok := nodes[0].Limit(); !ok || got != 7 {
		t.Errorf("limit = %d, %v, want 7", got, ok)
	}
	if got, want := nodes[2].InFlight(), 1; got != want {
		t.Errorf("in flight = %d, want %d", got, want)
	}
	open.Done(Report{Now: now, Outcome: resilience.Success, Latency: ms})
	if got, want := nodes[2].InFlight(), 0; got != want {
		t.Errorf("in flight after the end = %d, want %d", got, want)
	}
	b.Configure(Config{})
	if _, ok := nodes[0].Limit(); ok || nodes[1].Breaker() != nil {
		t.Error("a limit or a breaker stays though the Config has none")
	}
}

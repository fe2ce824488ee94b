package loadbalance

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

func TestNodeKeyIsThatOfTheAddress(t *testing.T) {
	// The first eight bytes of `printf 10.0.0.1:80 | sha256sum`: keys are kept by clients, and must not change.
	if got, want := NodeKey("10.0.0.1:80"), uint64(0xe0f2af3b3dabfb17); got != want {
		t.Errorf("NodeKey() = %#x, want %#x", got, want)
	}
	b := New(Config{})
	b.Update(endpoints(1000))
	for _, n := range b.Set().Nodes() {
		if got := b.Set().Find(NodeKey(n.Addr())); got != n {
			t.Fatalf("Find() of the key of %s = %v", n.Addr(), got)
		}
	}
	for _, key := range []uint64{0, 1, NodeKey("10.9.9.9:80")} {
		if got := b.Set().Find(key); got != nil {
			t.Errorf("Find(%#x) = %s, want nil", key, got.Addr())
		}
	}
	if got := new(Set).Find(1); got != nil {
		t.Errorf("Find() of the zero Set = %v, want nil", got)
	}
}

func TestPickGoesToTheNodeItIsBoundTo(t *testing.T) {
	const bound = 0
	for name, test := range map[string]struct {
		do           func(b *testbed, n *Node, in *Info)
		soft, strict error // nil: the bound node; ErrNoNode: another if soft
	}{
		"healthy":  {func(*testbed, *Node, *Info) {}, nil, nil},
		"draining": {state(bound, discovery.Draining), nil, nil},
		"unhealthy by its source": {
			state(bound, discovery.Unhealthy), ErrNoNode, ErrNoNode,
		},
		"terminating":     {state(bound, discovery.Terminating), ErrNoNode, ErrNoNode},
		"none is healthy": {state(-1, discovery.Unhealthy), nil, nil},
		"gone": {func(b *testbed, _ *Node, _ *Info) {
			b.Update(endpoints(4)[1:])
		}, ErrNoNode, ErrNoNode},
		"ejected": {func(b *testbed, n *Node, in *Info) {
			b.fail(n, 5)
			in.Now = b.now
		}, ErrNoNode, ErrNoNode},
		"ejected, but in panic": {func(b *testbed, n *Node, in *Info) {
			b.fail(n, 5)
			for _, n := range b.Set().Nodes()[1:3] {
				n.out.Store(int64(time.Hour))
			}
			b.changes.Add(1)
			in.Now = b.now
		}, nil, nil},
		"failing its checks": {func(b *testbed, n *Node, _ *Info) {
			n.out.Store(unfit)
			b.changes.Add(1)
		}, ErrNoNode, ErrNoNode},
		"tried": {func(_ *testbed, n *Node, in *Info) {
			in.Avoid = []*Node{n}
		}, ErrNoNode, nil},
		"others were tried": {func(b *testbed, _ *Node, in *Info) {
			in.Avoid = b.Set().Nodes()[1:]
		}, nil, nil},
		"tried, another is wanted": {func(_ *testbed, n *Node, in *Info) {
			in.Avoid, in.Other = []*Node{n}, true
		}, ErrNoNode, ErrNoOther},
		"under a penalty, which counts": {func(b *testbed, n *Node, in *Info) {
			b.fail(n, 1)
			in.Now, in.Sound = b.now, true
		}, ErrNoNode, nil},
		"under a penalty, which does not count": {func(b *testbed, n *Node, in *Info) {
			b.fail(n, 1)
			in.Now = b.now
		}, nil, nil},
		"no such node": {func(_ *testbed, _ *Node, in *Info) { in.Node = 4711 }, ErrNoNode, ErrNoNode},
	} {
		t.Run(name, func(t *testing.T) {
			for _, strict := range []bool{false, true} {
				b := newTestbed(t, 4, OutlierConfig{})
				n := b.node(bound)
				in := Info{Now: b.now, Node: NodeKey(n.Addr()), Strict: strict}
				test.do(b, n, &in)
				for range 20 {
					p, err := b.Pick(in)
					switch want := map[bool]error{false: test.soft, true: test.strict}[strict]; {
					case want == nil:
						if err != nil || p.Node() != n {
							t.Fatalf("strict %v: Pick() = %v, %v, want the bound node", strict, p.Node(), err)
						}
					case strict:
						if !errors.Is(err, want) || p.Node() != nil {
							t.Fatalf("strict: Pick() = %v, %v, want %v", p.Node(), err, want)
						}
					default:
						if err != nil || NodeKey(p.Node().Addr()) == in.Node {
							t.Fatalf("soft: Pick() = %v, %v, want another node", p.Node(), err)
						}
					}
					p.Done(Report{Now: in.Now})
				}
			}
		})
	}
}

// state returns what gives the endpoint at a place, all if it is negative, a health.
func state(at int, h discovery.Health) func(*testbed, *Node, *Info) {
	return func(b *testbed, _ *Node, _ *Info) {
		eps := endpoints(4)
		for i := range eps {
			if at < 0 || i == at {
				eps[i].Health = h
			}
		}
		b.Update(eps)
	}
}

func TestBreakerRejectsBoundCalls(t *testing.T) {
	b := New(Config{Breaker: &resilience.BreakerConfig{Consecutive: 1, OpenFor: time.Hour}})
	b.Update(endpoints(3))
	in := Info{Now: time.Now(), Node: NodeKey(b.Set().Nodes()[1].Addr())}
	p, _ := b.Pick(in)
	p.Done(Report{Now: in.Now, Outcome: resilience.Failure})
	if p, err := b.Pick(in); err != nil || p.Node() == b.Set().Nodes()[1] {
		t.Errorf("soft: Pick() with the breaker open = %v, %v, want another node", p.Node(), err)
	}
	in.Strict = true
	if p, err := b.Pick(in); !errors.Is(err, ErrNoNode) {
		t.Errorf("strict: Pick() with the breaker open = %v, %v, want ErrNoNode", p.Node(), err)
	}
}

// Nobody else would find out that the node of strict sessions is well again.
func TestStrictCallProbesItsEjectedNode(t *testing.T) {
	b := newTestbed(t, 4, OutlierConfig{Jitter: -1})
	n, in := b.node(2), Info{Strict: true}
	in.Node = NodeKey(n.Addr())
	b.fail(n, 5)
	b.want("after failures", 2)
	b.now = b.now.Add(1100 * ms)
	in.Now = b.now
	p, err := b.Pick(in)
	if err != nil || p.Node() != n {
		t.Fatalf("Pick() after the ejection = %v, %v, want the bound node", p.Node(), err)
	}
	if _, err := b.Pick(in); !errors.Is(err, ErrNoNode) {
		t.Errorf("Pick() during the probe = %v, want ErrNoNode", err)
	}
	p.Done(Report{Now: b.now, Outcome: resilience.Success, Latency: ms})
	b.want("after the probe")
	if p, err := b.Pick(in); err != nil || p.Node() != n {
		t.Errorf("Pick() after the probe = %v, %v, want the bound node", p.Node(), err)
	}
}

// A probe is not worth a session.
func TestBoundCallsProbeNoOtherNode(t *testing.T) {
	b := newTestbed(t, 4, OutlierConfig{Jitter: -1})
	b.fail(b.node(2), 5)
	b.now = b.now.Add(2 * time.Second)
	want := b.node(0)
	for range 10 {
		p, err := b.Pick(Info{Now: b.now, Node: NodeKey(want.Addr())})
		if err != nil || p.Node() != want {
			t.Fatalf("Pick() = %v, %v, want the bound node", p.Node(), err)
		}
		p.Done(Report{Now: b.now})
	}
}

func TestDrainingNodeGetsBoundCallsOnly(t *testing.T) {
	b := New(Config{Builder: Random})
	eps := endpoints(3)
	eps[1].Health = discovery.Draining
	b.Update(eps)
	n, now := b.Set().Nodes()[1], time.Now()
	for i := range 1000 {
		in := Info{Now: now}
		if i%2 == 0 {
			in.Node = NodeKey(n.Addr())
		}
		p, err := b.Pick(in)
		if err != nil || (p.Node() == n) != (i%2 == 0) {
			t.Fatalf("Pick(%+v) = %v, %v", in, p.Node(), err)
		}
		p.Done(Report{Now: now})
	}
}

func TestBoundPicksDoNotAllocate(t *testing.T) {
	b := New(Config{Outlier: &OutlierConfig{}})
	b.Update(endpoints(1000))
	in := Info{Now: time.Now(), Node: NodeKey("10.0.2.7:80")}
	for name, node := range map[string]uint64{"bound": in.Node, "gone": 4711} {
		in.Node = node
		if got := testing.AllocsPerRun(1000, func() {
			p, _ := b.Pick(in)
			p.Done(Report{Now: in.Now})
		}); got != 0 {
			t.Errorf("%s: %v allocations, want none", name, got)
		}
	}
	if got := testing.AllocsPerRun(1000, func() { in.Node = NodeKey("10.0.2.7:80") }); got != 0 {
		t.Errorf("NodeKey: %v allocations, want none", got)
	}
}

// Sessions stay on their nodes, and move from the ones that leave, while sets swap.
func TestBoundPicksWhileSetsSwap(t *testing.T) {
	b := New(Config{Outlier: &OutlierConfig{}})
	eps := endpoints(40)
	for i := range eps {
		eps[i].Meta = map[string]string{"shard": fmt.Sprint(i % 3), "half": fmt.Sprint(i % 2)}
	}
	b.Update(eps)
	var stop atomic.Bool
	var swaps, pickers sync.WaitGroup
	swaps.Go(func() {
		for i := 0; !stop.Load(); i++ {
			next := append([]discovery.Endpoint{}, eps[:20]...)
			for k := range next {
				next[k].Health = discovery.Health((i + k) / 20 % 2) // healthy and draining in turn
			}
			b.Update(append(next, eps[20+i%20:]...))
		}
	})
	for g := range 4 {
		pickers.Go(func() {
			for i := range 2500 {
				in := Info{Now: time.Now(), Node: NodeKey(eps[(i*7+g)%40].Addr), Strict: i%3 == 0}
				p, err := b.Pick(in)
				if n := p.Node(); n != nil {
					if in.Strict && NodeKey(n.Addr()) != in.Node {
						t.Errorf("strict Pick() = %s", n.Addr())
					}
					if (i*7+g)%40 < 20 && NodeKey(n.Addr()) != in.Node {
						t.Errorf("Pick() = %s, want %s, which stays", n.Addr(), eps[(i*7+g)%40].Addr)
					}
				} else if !in.Strict || !errors.Is(err, ErrNoNode) {
					t.Errorf("Pick() = %v", err)
				}
				p.Done(Report{Now: time.Now(), Outcome: resilience.Success, Latency: ms})

				shard := fmt.Sprint(i % 3)
				sub := b.Set().Matching([]string{"shard"}, []string{shard})
				p, err = sub.Pick(in)
				if n := p.Node(); n != nil && n.Endpoint().Meta["shard"] != shard {
					t.Errorf("Pick() of shard %s = %s", shard, n.Addr())
				} else if n == nil && !errors.Is(err, ErrNoNode) {
					t.Errorf("Pick() of shard %s: %v", shard, err)
				}
				p.Done(Report{Now: time.Now(), Outcome: resilience.Success, Latency: ms})
			}
		})
	}
	pickers.Wait()
	stop.Store(true)
	swaps.Wait()
	for _, n := range b.Set().Nodes() {
		if got := n.InFlight(); got != 0 {
			t.Errorf("%d calls in flight on %s at rest", got, n.Addr())
		}
	}
}

func BenchmarkBoundPick(b *testing.B) {
	for _, n := range []int{3, 10_000} {
		bal := New(Config{})
		bal.Update(endpoints(n))
		set, now := bal.Set(), time.Now()
		key := NodeKey(set.Nodes()[n/2].Addr())
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, _ := set.Pick(Info{Now: now, Node: key})
				p.Done(Report{Now: now})
			}
		})
		b.Run(fmt.Sprintf("index/n=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set.index.Store(nil)
				set.Find(key)
			}
		})
	}
}

package loadbalance

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// questions is a Prober that notes whom it asks.
type questions struct {
	mu    sync.Mutex // guards what follows
	addrs []string
	times []time.Time
	// answer is what all say.
	answer func(context.Context) (Load, error)
}

func (a *questions) Probe(ctx context.Context, n *Node) (Load, error) {
	a.mu.Lock()
	a.addrs, a.times = append(a.addrs, n.Addr()), append(a.times, time.Now())
	a.mu.Unlock()
	return a.answer(ctx)
}

func (a *questions) take() (addrs []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	addrs, a.addrs = a.addrs, nil
	return addrs
}

func says(l Load, err error) *questions {
	return &questions{answer: func(context.Context) (Load, error) { return l, err }}
}

func newProbed(c PrequalConfig, n int) *Balancer {
	b := New(Config{Builder: c.Prequal})
	b.Update(endpoints(n))
	return b
}

func TestProbeAsksEachNodeOnceInATwentiethOfTheAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := newProbed(PrequalConfig{}, 8), says(Load{InFlight: 3, Latency: time.Millisecond}, nil)
		for _, want := range []int{3, 3, 2, 0, 0} {
			if err := b.Probe(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if got := p.take(); len(got) != want {
				t.Errorf("a round asks %v, want %d nodes", got, want)
			}
		}
		for _, n := range b.Set().Nodes() {
			if n.excess.Load() != 2 || n.InFlight() != 0 {
				t.Errorf("%s: %d others in flight, %d of this client; want 2, 0", n.Addr(), n.excess.Load(), n.InFlight())
			}
		}
		time.Sleep(45 * time.Millisecond)
		if b.Probe(t.Context(), p); len(p.take()) != 0 {
			t.Error("somebody is asked whose report is 45 ms old")
		}
		time.Sleep(10 * time.Millisecond)
		if b.Probe(t.Context(), p); len(p.take()) != 3 {
			t.Error("nobody is asked when the reports are 55 ms old")
		}
	})
}

// Who answers calls says enough by that, and who fails or is out is not asked.
func TestProbeAsksOnlyWhoIsOfUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := newProbed(PrequalConfig{Probes: 16}, 4), says(Load{InFlight: 1}, nil)
		nodes, now := b.Set().Nodes(), time.Now()
		nodes[0].ReportLoad(now, Load{InFlight: 1})
		nodes[1].penalty.fail(nodes[1].since(now), nodes[1].since(now), 0, 0)
		nodes[2].out.Store(int64(time.Hour))
		b.Probe(t.Context(), p)
		if got := p.take(); len(got) != 1 || got[0] != nodes[3].Addr() {
			t.Errorf("asked %v, want %s only", got, nodes[3].Addr())
		}
	})
}

func TestProbeBacksOffWhereNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newProbed(PrequalConfig{}, 1)
		p := &questions{answer: func(ctx context.Context) (Load, error) {
			<-ctx.Done()
			return Load{}, ctx.Err()
		}}
		start := time.Now()
		for time.Since(start) < 10*time.Minute {
			before := time.Now()
			if err := b.Probe(t.Context(), p); err != nil && (!errors.Is(err, context.DeadlineExceeded) || time.Since(before) != 3*time.Millisecond) {
				t.Fatalf("%v after %v, want the deadline after 3 ms", err, time.Since(before))
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(p.take()); n < 14 || n > 18 { // 1, 2, 4 ... 32 s, and then one a minute
			t.Errorf("%d probes in ten minutes, want about 16", n)
		}
		p.answer = func(context.Context) (Load, error) { return Load{InFlight: 1}, nil }
		for range 700 {
			b.Probe(t.Context(), p)
			time.Sleep(100 * time.Millisecond)
		}
		p.take()
		for range 100 {
			b.Probe(t.Context(), p)
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(p.take()); n < 15 || n > 20 {
			t.Errorf("%d probes in a second of a node that answers again, want about 20", n)
		}
		p.answer = func(context.Context) (Load, error) { return Load{}, ErrNoProbes }
		for range 1190 {
			b.Probe(t.Context(), p)
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(p.take()); n != 2 {
			t.Errorf("%d probes in two minutes of a node that knows none, want 2", n)
		}
	})
}

func TestProbeDoesNothingWithoutNeed(t *testing.T) {
	p := says(Load{}, nil)
	for name, b := range map[string]*Balancer{
		"no endpoints":   New(Config{Builder: Prequal}),
		"no probes":      newProbed(PrequalConfig{Probes: -1}, 3),
		"no such reader": New(Config{}),
	} {
		if name == "no such reader" {
			b.Update(endpoints(3))
		}
		if err := b.Probe(t.Context(), p); err != nil || len(p.take()) > 0 {
			t.Errorf("%s: probes were made, or %v", name, err)
		}
		if name != "no endpoints" && b.Probing() != nil {
			t.Errorf("%s: Probing() = %+v, want nil", name, b.Probing())
		}
	}
	if c := newProbed(PrequalConfig{}, 1).Probing(); c == nil || c.Probes != 3 || c.ProbeTimeout != 3*time.Millisecond || c.ProbeRate != 500 || c.MaxAge != time.Second {
		t.Errorf("Probing() = %+v, want the defaults", c)
	}
}

// A node that leaves while it is probed is let go of when the probe is over.
func TestProbeReleasesNodesThatLeave(t *testing.T) {
	b := newProbed(PrequalConfig{}, 1)
	released := 0
	b.Probe(t.Context(), proberFunc(func(_ context.Context, n *Node) (Load, error) {
		b.Update(nil)
		n.Attach("connection", func() (any, func()) { return nil, func() { released++ } })
		return Load{InFlight: 1}, nil
	}))
	if released != 1 {
		t.Errorf("what was attached during the probe was released %d times, want once", released)
	}
}

type proberFunc func(context.Context, *Node) (Load, error)

func (f proberFunc) Probe(ctx context.Context, n *Node) (Load, error) { return f(ctx, n) }

// A node fails in no time and says in answers to probes that it is idle, and how fast it once was.
func TestProbesDoNotLeadToANodeThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newProbed(PrequalConfig{}, 10)
		bad, failed := b.Set().Nodes()[0], 0
		prober := proberFunc(func(_ context.Context, n *Node) (Load, error) {
			if n == bad {
				return Load{InFlight: 1, Latency: time.Millisecond}, nil
			}
			return Load{InFlight: 6, Latency: 50 * time.Millisecond}, nil
		})
		for range 5000 {
			now := time.Now()
			p, err := b.Pick(Info{Now: now})
			if err != nil {
				t.Fatal(err)
			}
			if p.Node() == bad {
				failed++
				p.Done(Report{Now: now, Outcome: resilience.Failure, Latency: time.Millisecond})
			} else {
				p.Done(Report{Now: now, Outcome: resilience.Success, Latency: 50 * time.Millisecond})
			}
			b.Probe(t.Context(), prober)
			time.Sleep(10 * time.Millisecond)
		}
		if failed > 25 {
			t.Errorf("%d of 5,000 calls went to the node that fails, want 25 at most", failed)
		}
	})
}

// Who calls seldom has nodes asked in turn, or some would be forgotten for longer than their report counts.
func TestProbeAsksThoseFirstWhoseReportsAreOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := newProbed(PrequalConfig{}, 10), says(Load{InFlight: 1}, nil)
		for i := range 400 {
			b.Probe(t.Context(), p)
			p.take()
			time.Sleep(60 * time.Millisecond)
			for _, n := range b.Set().Nodes() {
				if age := ticks(n.since(time.Now())) - uint32(n.said.Load()); i > 10 && age > ticks(time.Second) {
					t.Fatalf("report of %s is %d ticks old after round %d", n.Addr(), age, i)
				}
			}
		}
	})
}

func TestNodesAreAskedAtOnceAfterAClosedProber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newProbed(PrequalConfig{}, 3)
		if err := b.Probe(t.Context(), says(Load{}, ErrProberClosed)); !errors.Is(err, ErrProberClosed) {
			t.Fatalf("Probe() = %v, want ErrProberClosed", err)
		}
		p := says(Load{InFlight: 1}, nil)
		if b.Probe(t.Context(), p); len(p.take()) != 3 {
			t.Error("nodes are not asked that nobody has asked")
		}
	})
}

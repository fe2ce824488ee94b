package loadbalance

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

func TestSlowStartFollowsItsCurve(t *testing.T) {
	for _, c := range []struct {
		aggression, at, want float64
	}{
		{1, 0, 0.10}, {1, 0.05, 0.10}, {1, 0.25, 0.25}, {1, 0.5, 0.50}, {1, 1, 1}, {1, 7, 1},
		{2, 0, 0.10}, {2, 0.05, 0.22}, {2, 0.25, 0.50}, {2, 0.5, 0.71}, {2, 1, 1},
	} {
		s := SlowStart{Aggression: c.aggression}.withDefaults()
		got := s.part(time.Duration(c.at * float64(s.Window)))
		if math.Abs(got-c.want) > 0.005 {
			t.Errorf("part at %v with aggression %v = %.3f, want %.2f", c.at, c.aggression, got, c.want)
		}
	}
}

func TestNewNodeComesUpToItsShare(t *testing.T) {
	for _, p := range policies {
		for _, old := range []int{1, 4, 19} {
			b := New(Config{Builder: p.build, SlowStart: &SlowStart{}, Rand: seeded()})
			b.Update(endpoints(old))
			if got := b.Set().Nodes()[0].part(0); got != 1 {
				t.Errorf("%s: part of a node of the first set = %v, want 1", p.name, got)
			}
			b.Update(append(endpoints(old), discovery.Endpoint{Addr: "new"}))
			began := time.Now()
			for _, c := range []struct {
				at   time.Duration
				want float64
			}{
				{0, 0.1}, {2500 * ms, 0.25}, {5 * time.Second, 0.5}, {11 * time.Second, 1},
			} {
				const picks = 20_000
				got, now := 0, began.Add(c.at)
				for range picks {
					pick, err := b.Pick(Info{Now: now})
					if err != nil {
						t.Fatal(err)
					}
					if pick.Node().Addr() == "new" {
						got++
					}
					pick.Done(Report{Now: now, Outcome: resilience.Success})
				}
				// That part of an equal share, or, since taking turns knows who was passed over, of an equal weight.
				least, most := c.want/float64(old+1)*picks, c.want/(float64(old)+c.want)*picks
				if float64(got) < 0.9*least-20 || float64(got) > 1.1*most+20 {
					t.Errorf("%s: picks of one new node of %d at %v = %d, want %.0f to %.0f", p.name, old+1, c.at, got, least, most)
				}
			}
			if n := b.Set().Nodes()[old]; n.young.Load() != 0 {
				t.Errorf("%s: the slow start does not end", p.name)
			}
		}
	}
}

// Calls of one key would otherwise go to the new node and to the old one in turn.
func TestKeysGoToTheirNodeDuringItsSlowStart(t *testing.T) {
	b := New(Config{Builder: Rendezvous, SlowStart: &SlowStart{}, Rand: seeded()})
	b.Update(endpoints(4))
	b.Update(append(endpoints(4), discovery.Endpoint{Addr: "new"}))
	now, moved := time.Now(), 0
	for k := range 500 {
		in := Info{Now: now, Hash: HashKey(fmt.Sprint(k))}
		first := ""
		for range 5 {
			pick, err := b.Pick(in)
			if err != nil {
				t.Fatal(err)
			}
			addr := pick.Node().Addr()
			pick.Done(Report{Now: now, Outcome: resilience.Success})
			if first == "" {
				first = addr
			} else if addr != first {
				t.Fatalf("calls of key %d went to %s and to %s", k, first, addr)
			}
		}
		if first == "new" {
			moved++
		}
	}
	if moved < 60 || moved > 140 {
		t.Errorf("keys of the new one of 5 nodes = %d of 500, want about 100", moved)
	}
}

func TestSlowStartIsValidatedOrClamped(t *testing.T) {
	for _, c := range []struct {
		field string // empty: valid
		cfg   SlowStart
	}{
		{"", SlowStart{}},
		{"", SlowStart{Window: time.Minute, Min: 1, Aggression: 2}},
		{"window", SlowStart{Window: -1}},
		{"window", SlowStart{Window: 2 * time.Hour}},
		{"min", SlowStart{Min: -0.1}},
		{"min", SlowStart{Min: math.NaN()}},
		{"aggression", SlowStart{Aggression: -1}},
		{"aggression", SlowStart{Aggression: math.NaN()}},
	} {
		err := c.cfg.Validate()
		if c.field == "" && err != nil || c.field != "" && (err == nil || !strings.HasPrefix(err.Error(), c.field+": ")) {
			t.Errorf("Validate() of %+v = %v, want an error of %q", c.cfg, err, c.field)
		}
		if err := c.cfg.withDefaults().Validate(); err != nil {
			t.Errorf("%+v is not clamped: %v", c.cfg, err)
		}
	}
}

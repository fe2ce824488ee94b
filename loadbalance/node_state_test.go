package loadbalance

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

func TestNodeTellsOfEjectionAndSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Outlier: &OutlierConfig{Consecutive: 1, Ejection: 10 * time.Second, Jitter: -1, Absolute: true}, SlowStart: &SlowStart{Window: 10 * time.Second}})
		eps := []discovery.Endpoint{{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}, {Addr: "10.0.0.3:80"}}
		b.Update(eps)
		nodes := b.Set().Nodes()
		for _, n := range nodes {
			if got := n.SlowStart(time.Now()); got != 1 || !n.EjectedUntil().IsZero() {
				t.Errorf("at first: SlowStart() = %v, EjectedUntil() = %v, want 1 and zero", got, n.EjectedUntil())
			}
		}
		p, err := b.Pick(Info{Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		p.Done(Report{Now: time.Now(), Outcome: resilience.Failure})
		if got, want := p.Node().EjectedUntil(), time.Now().Add(10*time.Second); !got.Equal(want) {
			t.Errorf("EjectedUntil() = %v, want %v", got, want)
		}
		if got := p.Node().EjectedFor(); got != Consecutive {
			t.Errorf("EjectedFor() = %v, want Consecutive", got)
		}
		b.EndEjection(p.Node().Addr(), time.Now())
		time.Sleep(5 * time.Second)
		if got := p.Node().SlowStart(time.Now()); got < 0.4 || got > 0.6 || !p.Node().EjectedUntil().IsZero() || p.Node().EjectedFor() != NoCause {
			t.Errorf("SlowStart() = %v, EjectedUntil() = %v, want about a half and zero", got, p.Node().EjectedUntil())
		}
	})
}

func TestLeftOutCountsWhatSubsetsLeave(t *testing.T) {
	b := New(Config{Subset: Subset{Size: 20, Client: "me"}})
	eps := make([]discovery.Endpoint, 100)
	for i := range eps {
		eps[i].Addr = fmt.Sprintf("10.0.0.%d:80", i+1)
	}
	b.Update(eps)
	if got, want := b.LeftOut(), 100-len(b.Set().Nodes()); got != want || got == 0 {
		t.Errorf("LeftOut() = %d, want %d", got, want)
	}
}

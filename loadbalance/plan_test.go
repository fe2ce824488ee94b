package loadbalance

import (
	"math"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

func TestPanicThreshold(t *testing.T) {
	for _, c := range []struct {
		threshold float64
		failing   int // of 10
		panics    bool
	}{
		{0, 5, false}, {0, 6, true}, {0.5, 6, true}, {math.NaN(), 6, true},
		{-1, 6, false}, {-1, 9, false}, {-1, 10, true},
		{0.2, 8, false}, {0.2, 9, true},
		{1, 2, false}, // the others can carry everything
		{1, 3, true}, {7, 3, true},
	} {
		b := New(Config{Builder: Random, Panic: c.threshold, Rand: seeded()})
		b.Update(endpoints(10))
		now := b.base.Add(time.Second)
		for _, n := range b.Set().Nodes()[:c.failing] {
			b.SetFailing(n.Addr(), true, now)
		}
		want := 10 - c.failing
		if c.panics {
			want = 10
		}
		if got := len(picked(t, b, now, 1000)); got != want || b.Set().Panicking() != c.panics {
			t.Errorf("with a threshold of %v and %d of 10 failing: picked nodes, Panicking = %d, %v, want %d, %v",
				c.threshold, c.failing, got, b.Set().Panicking(), want, c.panics)
		}
	}
}

func TestOverProvisioningFactor(t *testing.T) {
	for _, c := range []struct {
		factor  float64
		healthy int // of 20 in the first level
		want    float64
	}{
		{0, 10, 0.7}, {1.4, 10, 0.7}, {math.NaN(), 10, 0.7},
		{1, 19, 0.95}, {0.5, 19, 0.95},
		{2, 10, 1}, {2, 5, 0.5},
		{1000, 1, 1}, {1000, 0, 0},
	} {
		eps := endpoints(40)
		for i := range eps {
			if i >= 20 {
				eps[i].Priority = 1
			} else if i >= c.healthy {
				eps[i].Health = discovery.Unhealthy
			}
		}
		b := New(Config{Builder: Random, OverProvisioning: c.factor, Rand: seeded()})
		b.Update(eps)
		const picks = 10_000
		first := 0
		for range picks {
			p, err := b.Pick(Info{Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			if p.Node().Endpoint().Priority == 0 {
				first++
			}
		}
		if got := float64(first) / picks; math.Abs(got-c.want) > 0.02 {
			t.Errorf("share of a first level with %d of 20 by a factor of %v = %.3f, want %.2f", c.healthy, c.factor, got, c.want)
		}
	}
}

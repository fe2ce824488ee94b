package loadbalance

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestHealthCountsAWindow(t *testing.T) {
	// Against a plain list of responses, over slots that wrap around their 24 bits.
	rnd := rand.New(rand.NewPCG(3, 4))
	type response struct {
		slot   uint32
		failed bool
	}
	var h health
	var list []response
	slot := uint32(slotMask - 500)
	for range 20_000 {
		if rnd.IntN(10) == 0 {
			slot += uint32(rnd.IntN(14))
		}
		r := response{slot, rnd.IntN(3) == 0}
		h.count(r.slot, r.failed)
		list = append(list, r)
		list = list[max(0, len(list)-1000):]
		var wantAll, wantFailed int
		for _, r := range list {
			if slot-r.slot < slots {
				wantAll++
				if r.failed {
					wantFailed++
				}
			}
		}
		if all, bad := h.sum(slot); all != wantAll || bad != wantFailed {
			t.Fatalf("sum() = %d, %d, want %d, %d", all, bad, wantAll, wantFailed)
		}
	}
}

func TestHealthCountsNoMoreThanFits(t *testing.T) {
	var h health
	for range 3_000_000 {
		h.count(7, true)
	}
	all, bad := h.sum(7)
	if all != bad || all < 1_000_000 || all > countMask {
		t.Errorf("sum() = %d, %d, want a million of each", all, bad)
	}
	if got := uint32(h.ring[7].Load() >> slotShift); got != 7 {
		t.Errorf("the slot became %d, want 7", got)
	}
}

func TestHealthAveragesLatency(t *testing.T) {
	var h health
	for range 100 {
		h.time(10 * time.Millisecond)
	}
	h.time(time.Second)
	got := float64(math.Float32frombits(h.latency.Load())) / 1e6
	if want := 10 + (1000-10)/16.0; !near(got, want, 1e-3) {
		t.Errorf("average after one slow response = %v ms, want %v", got, want)
	}
}

func TestTollTellsWhatIsNew(t *testing.T) {
	var c toll
	want := func(answers int64, spent time.Duration) {
		t.Helper()
		if n, d := c.since(); n != answers || d != spent {
			t.Errorf("since() = %d, %v, want %d, %v", n, d, answers, spent)
		}
	}
	want(0, 0)
	c.add(20*ms, true)
	c.add(30*ms, false)
	want(1, 50*ms)
	want(0, 0)
	c.add(500*24*time.Hour, true) // more than there is room for
	c.since()
	for range 3 << 19 {
		c.add(0, true)
		c.add(ms, false)
		if c.sum.Load()%1000 == 0 {
			c.since()
		}
	}
	c.since()
	c.add(ms, true)
	want(1, ms)
}

package orca

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestMeterLatencyIsThatAtTheNumberInFlight(t *testing.T) {
	m := NewMeter()
	now := m.base.Add(time.Second)
	if got := m.Latency(now, 3); got != 0 {
		t.Errorf("Latency() before any request = %v, want 0", got)
	}
	for rif := range 200 {
		for range depth {
			m.Observe(now, rif, time.Duration(rif+1)*time.Millisecond, false)
		}
	}
	for _, rif := range []int{0, 1, 7, 15, 17, 40, 100, 199, 10_000, -1} {
		got, want := m.Latency(now, rif), time.Duration(min(max(rif, 0), 199)+1)*time.Millisecond
		if got < want*7/8 || got > want*9/8 {
			t.Errorf("Latency() at %d in flight = %v, want about %v", rif, got, want)
		}
	}
	if got := m.Latency(now.Add(recent+2*time.Millisecond), 7); got != 0 {
		t.Errorf("Latency() when nothing is recent = %v, want 0", got)
	}
}

func TestMeterLatencyIsAMedian(t *testing.T) {
	m := NewMeter()
	now := m.base.Add(time.Second)
	for _, took := range []time.Duration{1, 2, 3, 1000, 3} {
		m.Observe(now, 5, took*time.Millisecond, false)
		m.Observe(now, 5, time.Microsecond, true) // failures are not fast
	}
	if got, want := m.Latency(now, 5), 3*time.Millisecond; got.Round(time.Microsecond) != want {
		t.Errorf("Latency() of 1, 2, 3, 3 and 1000 ms = %v, want %v", got, want)
	}
	m = NewMeter()
	m.Observe(now, 5, time.Second, false)
	for range depth {
		m.Observe(now, 7, time.Millisecond, false)
	}
	if got, want := m.Latency(now, 5), time.Millisecond; got != want {
		t.Errorf("Latency() of one second, and of 1 ms at two more in flight = %v, want %v: one request is chance", got, want)
	}
}

func TestMeterCellsAreInOrder(t *testing.T) {
	last := -1
	for n := range 1 << 17 {
		c := cellOf(n)
		if c != last && c != last+1 || c >= cells {
			t.Fatalf("cellOf(%d) = %d after %d of %d", n, c, last, cells)
		}
		last = c
	}
	if last != cells-1 {
		t.Errorf("the last cell is %d, want %d", last, cells-1)
	}
}

func TestMeterCountsRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMeter()
		for range 100 {
			time.Sleep(10 * time.Millisecond)
			m.Observe(time.Now(), 0, time.Millisecond, false)
			m.Observe(time.Now(), 0, time.Millisecond, true)
		}
		got := m.Rates(time.Now())
		if got.Requests != 200 || got.Errors != 100 || got.CPU < 0 {
			t.Errorf("Rates() = %+v, want 200 requests and 100 errors", got)
		}
		time.Sleep(500 * time.Millisecond)
		if again := m.Rates(time.Now()); again != got {
			t.Errorf("Rates() half a second later = %+v, want still %+v", again, got)
		}
		time.Sleep(1500 * time.Millisecond)
		if got := m.Rates(time.Now()); got.Requests != 0 || got.Errors != 0 {
			t.Errorf("Rates() after two idle seconds = %+v, want 0", got)
		}
	})
}

func TestMeterIsSafeForConcurrentUse(t *testing.T) {
	m := NewMeter()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				now := m.base.Add(time.Duration(i) * 10 * time.Millisecond)
				m.Observe(now, i%50, time.Millisecond, i%7 == g)
				if got := m.Latency(now, i%50); got != time.Millisecond && got != 0 {
					t.Errorf("Latency() = %v, want 1ms", got)
				}
				m.Rates(now)
			}
		})
	}
	wg.Wait()
}

func BenchmarkMeter(b *testing.B) {
	m := NewMeter()
	now := m.base.Add(time.Second)
	for rif := range 40 {
		for range depth {
			m.Observe(now, rif, time.Duration(rif*7%13+1)*time.Millisecond, false)
		}
	}
	for name, f := range map[string]func(i int){
		"observe": func(i int) { m.Observe(now, i%40, time.Millisecond, false) },
		"latency": func(i int) { m.Latency(now, i%40) },
		"rates":   func(i int) { m.Rates(now) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				f(i)
			}
		})
	}
}

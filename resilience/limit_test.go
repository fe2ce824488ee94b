package resilience

import (
	"sync"
	"testing"
	"time"
)

func TestLimitConfigNamesEveryMistake(t *testing.T) {
	err := LimitConfig{Algorithm: "vegas", Max: 5, Min: 6, Initial: 7, Queue: -1, Timeout: -1}.Validate()
	want := `algorithm: must be "fixed", "aimd" or "gradient", got "vegas"
queue: must be between 0 and 100000, got -1
min: must not be more than max (5), got 6
initial: must not be more than max (5), got 7
timeout: must not be negative, got -1ns`
	if err == nil || err.Error() != want {
		t.Errorf("Validate() = %v, want %s", err, want)
	}
	if err := (LimitConfig{Min: 5, Initial: 4}).Validate(); err == nil {
		t.Error("an initial limit below the least is valid")
	}
	if err := (LimitConfig{Algorithm: "gradient", Min: 5, Initial: 10, Max: 20, Queue: 100, MaxWait: -1}).Validate(); err != nil {
		t.Errorf("Validate() = %v, want nil", err)
	}
}

func TestNewLimitBringsEverythingIntoRange(t *testing.T) {
	for _, c := range []struct {
		cfg  LimitConfig
		want int
	}{
		{LimitConfig{}, 1024}, {LimitConfig{Max: -3}, 1024}, {LimitConfig{Max: 7}, 7}, {LimitConfig{Algorithm: "fixed"}, 1024}, {LimitConfig{Algorithm: "aimd"}, 20},
		{LimitConfig{Algorithm: "gradient"}, 20}, {LimitConfig{Algorithm: "gradient", Max: 8}, 8}, {LimitConfig{Algorithm: "aimd", Min: 30}, 30},
		{LimitConfig{Algorithm: "aimd", Max: 2, Min: 30}, 2}, {LimitConfig{Algorithm: "aimd", Initial: 1}, 3},
	} {
		if got := NewLimit(c.cfg, nil).State().Limit; got != c.want {
			t.Errorf("NewLimit(%+v) has a limit of %d, want %d", c.cfg, got, c.want)
		}
	}
}

// What can wait leaves room for what cannot: the last places are not for those below Critical.
func TestLimitKeepsHeadroomForCriticalCalls(t *testing.T) {
	for _, c := range []struct {
		level Criticality
		want  int
	}{{Sheddable, 15}, {SheddablePlus, 18}, {Unspecified, 20}, {Critical, 20}, {CriticalPlus, 20}} {
		l := NewLimit(LimitConfig{Max: 20}, nil)
		admitted := 0
		for range 30 {
			if l.Enter(1, &Ticket{Criticality: c.level}) == Admitted {
				admitted++
			}
		}
		if admitted != c.want {
			t.Errorf("%d calls that are %v admitted, want %d", admitted, c.level, c.want)
		}
	}
	if got := NewLimit(LimitConfig{Max: 1}, nil).Enter(1, &Ticket{Criticality: Sheddable}); got != Admitted {
		t.Errorf("the only place is not for sheddable calls: %v", got)
	}
}

func TestLimitObservesWithoutRefusing(t *testing.T) {
	l := NewLimit(LimitConfig{Max: 1, Queue: 1, Observe: true}, nil)
	tickets := make([]Ticket, 3)
	for i, want := range []Admission{Admitted, Admitted, Full} {
		if got := l.Enter(1, &tickets[i]); got != want {
			t.Errorf("Enter() number %d = %v, want %v", i, got, want)
		}
	}
	late := Ticket{Deadline: 5, Expected: 10}
	if got := l.Enter(1, &late); got != Late {
		t.Errorf("Enter() = %v, want %v", got, Late)
	}
	if got := l.State().InFlight; got != 4 {
		t.Errorf("%d in flight, want all 4", got)
	}
	for i := range tickets {
		l.Leave(2, &tickets[i], Success, 1)
	}
	if l.Leave(2, &late, Success, 1); l.State().InFlight != 0 {
		t.Errorf("%d in flight at rest", l.State().InFlight)
	}
}

func TestLimitSaysWhenToComeAgain(t *testing.T) {
	l := NewLimit(LimitConfig{Max: 2, Queue: 4}, nil)
	if got := l.State().Wait; got != 0 {
		t.Errorf("an empty limit has a wait of %v", got)
	}
	var a Ticket
	l.Enter(0, &a)
	l.Leave(100*time.Millisecond, &a, Success, 1)
	tickets := make([]Ticket, 5)
	for i := range tickets {
		l.Enter(100*time.Millisecond, &tickets[i])
	}
	if got, want := l.State().Wait, 200*time.Millisecond; got != want { // 3 wait, and each 50 ms somebody leaves
		t.Errorf("Wait = %v, want %v", got, want)
	}
}

func TestLimitRefusesWhomTheQueueWouldCostTheDeadline(t *testing.T) {
	l := NewLimit(LimitConfig{Max: 1, Queue: 4}, nil)
	var a, b Ticket
	l.Enter(0, &a)
	l.Leave(100*time.Millisecond, &a, Success, 1)
	l.Enter(100*time.Millisecond, &b)
	for _, c := range []struct {
		left time.Duration
		want Admission
	}{{109 * time.Millisecond, Late}, {110 * time.Millisecond, Queued}, {209 * time.Millisecond, Late}, {0, Queued}} {
		ticket := Ticket{Expected: 10 * time.Millisecond}
		if c.left > 0 {
			ticket.Deadline = 100*time.Millisecond + c.left
		}
		if got := l.Enter(100*time.Millisecond, &ticket); got != c.want {
			t.Errorf("Enter() with %v left = %v, want %v", c.left, got, c.want)
		}
	}
}

func TestTicketEnteredTwiceIsOneCall(t *testing.T) {
	l := NewLimit(LimitConfig{Max: 1, Queue: 2}, nil)
	var a, b Ticket
	l.Enter(1, &a)
	l.Enter(1, &b)
	if got := l.Enter(2, &a); got != Admitted {
		t.Errorf("Enter() of a ticket in flight = %v", got)
	}
	if got := l.Enter(2, &b); got != Queued {
		t.Errorf("Enter() of a ticket that waits = %v", got)
	}
	l.Leave(2, &b, Success, 1) // not in flight
	if got := l.State(); got.InFlight != 1 || got.Queued != 1 {
		t.Errorf("State() = %+v, want one in flight and one waiting", got)
	}
}

func TestTicketKnowsHowLongItWaited(t *testing.T) {
	l := NewLimit(LimitConfig{Max: 1, Queue: 2}, nil)
	var a, b Ticket
	l.Enter(10, &a)
	l.Enter(20, &b)
	l.Leave(50, &a, Success, 1)
	if got := b.Waited(); got != 30 {
		t.Errorf("Waited() = %v, want 30ns", got)
	}
}

func TestLimitAllocatesNothingUncontended(t *testing.T) {
	for _, algorithm := range []string{"", "aimd", "gradient"} {
		l := NewLimit(LimitConfig{Algorithm: algorithm, Queue: 10}, nil)
		var ticket Ticket
		var now time.Duration
		if n := testing.AllocsPerRun(1000, func() {
			now += time.Millisecond
			l.Enter(now, &ticket)
			l.Leave(now, &ticket, Success, time.Millisecond)
		}); n != 0 {
			t.Errorf("%q: %v allocations a call", algorithm, n)
		}
	}
}

func BenchmarkLimit(b *testing.B) {
	for _, algorithm := range []string{"fixed", "aimd", "gradient"} {
		l := NewLimit(LimitConfig{Algorithm: algorithm, Queue: 10}, nil)
		b.Run(algorithm, func(b *testing.B) {
			b.ReportAllocs()
			var ticket Ticket
			var now time.Duration
			for b.Loop() {
				now += time.Microsecond
				l.Enter(now, &ticket)
				l.Leave(now, &ticket, Success, time.Millisecond)
			}
		})
		b.Run(algorithm+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				ticket := new(Ticket)
				var now time.Duration
				for pb.Next() {
					now += time.Microsecond
					l.Enter(now, ticket)
					l.Leave(now, ticket, Success, time.Millisecond)
				}
			})
		})
	}
}

// Many goroutines at once lose no place and no ticket.
func TestLimitUnderContention(t *testing.T) {
	l := NewLimit(LimitConfig{Algorithm: "gradient", Max: 4, Queue: 3, MaxWait: 50}, nil)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 2000 {
				done := make(chan Admission, 1)
				ticket := Ticket{Criticality: Criticality(g % 5), Told: func(_ time.Duration, a Admission) { done <- a }}
				now := time.Duration(i + 1)
				a := l.Enter(now, &ticket)
				if a == Queued && i%3 == 0 && l.Cancel(now, &ticket) {
					continue
				}
				if a == Queued {
					l.Tick(now + 50)
					a = <-done
				}
				if a == Admitted {
					l.Leave(now+1, &ticket, Success, 1)
				}
			}
		})
	}
	all.Wait()
	if got := l.State(); got.InFlight != 0 || got.Queued != 0 {
		t.Errorf("at rest State() = %+v", got)
	}
}

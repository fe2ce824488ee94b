package resilience

import (
	"sync"
	"testing"
	"time"
)

// Finagle's numbers: a fifth of the calls of the last ten seconds and ten per second more.
func TestRatioBudgetCountsTheCallsOfItsWindow(t *testing.T) {
	b := NewBudget(BudgetConfig{Kind: BudgetRatio})
	drain := func(now time.Duration) (n int) {
		for b.take(now) {
			n++
		}
		return n
	}
	const s = time.Second
	for _, tt := range []struct {
		at    time.Duration
		calls int
		want  int // grants
	}{
		{0, 0, 100}, // the floor of ten seconds
		{5 * s, 50, 10},
		{9*s + s/2, 100, 20},
		{10*s - 1, 0, 0},
		{10 * s, 0, 100}, // those of the first second have left
		{14 * s, 0, 0},
		{21 * s, 0, 100}, // and all others
		{60 * s, 5, 101},
		{time.Hour, 1000, 300},
	} {
		for range tt.calls {
			b.request(tt.at)
			b.success(tt.at) // pays nothing
			b.failure(tt.at) // costs nothing
		}
		if got := drain(tt.at); got != tt.want {
			t.Errorf("at %v: %d grants, want %d", tt.at, got, tt.want)
		}
	}
	b.giveBack()
	if got := drain(time.Hour); got != 1 {
		t.Errorf("%d grants after one was given back", got)
	}
	b.request(time.Hour)
	b.Resent(time.Hour, 2)
	for range 14 {
		b.request(time.Hour)
	}
	if got := drain(time.Hour); got != 1 {
		t.Errorf("%d grants for 15 calls after two hidden ones, want 1", got)
	}
}

func TestRatioBudgetWithoutAFloor(t *testing.T) {
	b := NewBudget(BudgetConfig{Kind: BudgetRatio, Ratio: 0.5, Floor: -1, Window: 2 * time.Second})
	if b.take(0) {
		t.Error("a grant without a call")
	}
	b.request(0)
	b.request(0)
	if !b.repeat(time.Second) || b.repeat(time.Second) {
		t.Error("two calls at a half do not pay for exactly one retry")
	}
	b.request(time.Second)
	b.request(time.Second)
	if b.take(3 * time.Second) {
		t.Error("calls pay after their window")
	}
}

// Envoy's numbers: a fifth of what is under way, but at least three.
func TestConcurrentBudgetCountsWhatIsUnderWay(t *testing.T) {
	b := NewBudget(BudgetConfig{Kind: BudgetConcurrent})
	take := func() (n int) {
		for b.take(0) {
			n++
		}
		return n
	}
	if got := take(); got != 3 {
		t.Errorf("%d grants while nothing is under way, want 3", got)
	}
	for range 24 {
		b.started()
	}
	if got := take(); got != 1 {
		t.Errorf("%d more grants with 24 attempts under way, want 1", got)
	}
	if got, want := b.Level(), 1-4/4.8; got < want-1e-9 || got > want+1e-9 {
		t.Errorf("Level() = %v, want %v", got, want)
	}
	b.started()
	b.failure(0)
	b.success(0)
	b.Resent(0, 5)
	if got := take(); got != 1 {
		t.Errorf("%d more grants with 25 attempts under way, want 1", got)
	}
	b.ended(true)
	b.giveBack()
	if got := take(); got != 1 {
		t.Errorf("%d more grants after two were given back and 24 attempts are left, want 1", got)
	}
	none := NewBudget(BudgetConfig{Kind: BudgetConcurrent, Floor: -1})
	if none.take(0) {
		t.Error("a grant without a floor and with nothing under way")
	}
}

// The bucket of the default grows with the traffic, but has to be filled, and shrinks when the traffic is gone.
func TestBudgetGrowsWithTheTraffic(t *testing.T) {
	burst := func(b *Budget, now time.Duration) (n int) {
		for b.take(now) {
			n++
		}
		return n
	}
	for _, tt := range []struct {
		name  string
		rate  int // successes per second
		idle  time.Duration
		least int
		most  int
	}{
		{"just started", 0, 0, 5, 5},
		{"little traffic", 100, 0, 5, 5},
		{"much traffic", 4000, 0, 95, 105},
		{"very much traffic", 200_000, 0, 1000, 1000},
		{"a lull", 4000, 3 * time.Second, 60, 80},
		{"idle", 4000, 11 * time.Second, 5, 5},
		{"idle for a day", 4000, 24 * time.Hour, 5, 5},
	} {
		b := NewBudget(BudgetConfig{})
		now := time.Duration(0)
		for range 12 * tt.rate {
			now += time.Second / time.Duration(tt.rate)
			b.success(now)
		}
		now += tt.idle
		if got := burst(b, now); got < tt.least || got > tt.most {
			t.Errorf("%s: %d backups at once, want %d to %d", tt.name, got, tt.least, tt.most)
		}
		if got := burst(b, now+20*time.Second); got != 0 {
			t.Errorf("%s: %d backups later although nothing has paid", tt.name, got)
		}
	}
	b := NewBudget(BudgetConfig{Kind: BudgetGRPC})
	for i := range 50_000 {
		b.success(time.Duration(i) * time.Millisecond / 4)
	}
	if got := burst(b, 13*time.Second); got != 5 {
		t.Errorf("%d backups at once of a bucket as that of gRPC, want 5", got)
	}
}

// A backup that wins is free, so that any number of calls get away from nodes that hang. One that loses costs twice.
func TestBackupsPayForWhatTheyAchieve(t *testing.T) {
	b := NewBudget(BudgetConfig{})
	for i := range 1000 {
		if !b.take(epoch) {
			t.Fatalf("backup %d is not granted although all others have won", i)
		}
		b.won()
	}
	taken := 0
	for range 1000 {
		b.success(epoch)
		if b.take(epoch) {
			taken++
			b.lost()
		}
	}
	if taken < 50 || taken > 53 {
		t.Errorf("%d backups that lose for 1,000 successes, want one in twenty", taken)
	}
}

// A service that refuses everything gets every call once, and not as often as a call may be repeated.
func TestResendsAreBounded(t *testing.T) {
	b := NewBudget(BudgetConfig{})
	count := func(now time.Duration, calls int) (n int) {
		for range calls {
			if b.resend(now) {
				n++
			}
		}
		return n
	}
	if got := count(0, 5000); got != 100 {
		t.Errorf("%d resends by a process that has just started, want 100", got)
	}
	for i := range 100 {
		b.success(0)
		if got := count(0, 10); got != MaxAttempts-1 {
			t.Fatalf("%d resends after success %d, want those of one call", got, i)
		}
	}
	for i := range 11_000 {
		b.success(time.Duration(i) * time.Millisecond)
	}
	if got := count(11*time.Second, 5000); got < 950 || got > 1050 {
		t.Errorf("%d resends at once at 1,000 successes per second, want about 1,000", got)
	}
	if got := NewBudget(BudgetConfig{}).Level(); got != 1 {
		t.Errorf("Level() = %v, want 1: resends cost no token", got)
	}
}

func TestTallyForgetsWhatIsOlderThanItsWindow(t *testing.T) {
	y := tally{slot: time.Second}
	for i := range 100 {
		y.add(time.Duration(i)*time.Second, 1)
		if got, want := y.sum(), int64(min(i+1, tallySlots)); got != want {
			t.Errorf("sum() = %d in second %d, want %d", got, i, want)
		}
	}
	for _, tt := range []struct{ at, want int64 }{{100, 9}, {103, 6}, {108, 1}, {109, 0}, {500, 0}} {
		y.turn(time.Duration(tt.at) * time.Second)
		if got := y.sum(); got != tt.want {
			t.Errorf("sum() = %d in second %d, want %d", got, tt.at, tt.want)
		}
	}
}

func TestTallyLosesNothing(t *testing.T) {
	y := tally{slot: time.Second}
	const workers, each = 8, 2000
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for n := range each { // all in one window, through all of its slots
				y.add(time.Duration(n*9)*time.Second/each+time.Duration(i), 1)
			}
		})
	}
	wg.Wait()
	if got, want := y.sum(), int64(workers*each); got != want {
		t.Errorf("sum() = %d, want %d", got, want)
	}
}

// When everything stops for a moment, all the backups that there are tokens for lose. That must not leave later calls alone
// with nodes that hang.
func TestBudgetIsSoonBackAfterAStandstill(t *testing.T) {
	for _, tokens := range []float64{10, 100, 1000} {
		b := NewBudget(BudgetConfig{Tokens: tokens, Ratio: 0.05})
		taken := 0
		for b.take(epoch) {
			taken++
		}
		for range taken {
			b.success(epoch)
			b.lost()
		}
		n := 0
		for !b.take(epoch) {
			b.success(epoch)
			n++
		}
		// A token is 20 successes.
		if limit := 20 * max(int(tokens)/2/debtShare+1, 3); n > limit {
			t.Errorf("%v tokens: %d backups lost, and it takes %d successes until the next, want at most %d", tokens, taken, n, limit)
		}
	}
}

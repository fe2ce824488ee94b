package resilience

import (
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

func TestBudgetFollowsRetryThrottlingOfGRPC(t *testing.T) {
	b := NewBudget(BudgetConfig{Tokens: 10, Ratio: 0.1})
	for i, want := range []bool{true, true, true, true, false, false} {
		b.Failure()
		if got := b.Allow(); got != want {
			t.Errorf("after %d failures: Allow() = %v, want %v", i+1, got, want)
		}
	}
	// Four tokens are left, and retries are to resume above five.
	for range 10 {
		b.Success()
	}
	if b.Allow() {
		t.Errorf("Allow() = true at half of the size (level %v)", b.Level())
	}
	b.Success()
	if !b.Allow() {
		t.Errorf("Allow() = false above half of the size (level %v)", b.Level())
	}
}

func TestBudgetStaysWithinItsBounds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, c := range []BudgetConfig{{}, {Tokens: 0.5}, {Tokens: 1.2, Ratio: 0.7}, {Tokens: 1000, Ratio: 1}} {
		b := NewBudget(c)
		for range 10_000 {
			before := b.tokens.Load()
			var took bool
			switch rnd.IntN(4) {
			case 0:
				b.Success()
			case 1:
				b.Failure()
			case 2:
				took = b.Take()
				if took != (before > b.size/2) {
					t.Fatalf("Take() = %v at %d of %d", took, before, b.size)
				}
			case 3:
				b.refund()
			}
			if l := b.Level(); !(l >= 0 && l <= 1) {
				t.Fatalf("%+v: Level() = %v", c, l)
			}
		}
	}
}

func TestBudgetGrantsABoundedBurst(t *testing.T) {
	for _, tokens := range []float64{1, 2, 3, 10, 11, 100, 1000} {
		retries, backups := NewBudget(BudgetConfig{Tokens: tokens}), NewBudget(BudgetConfig{Tokens: tokens})
		granted, taken := 0, 0
		for range 5000 {
			if retries.Failure(); retries.Allow() {
				granted++
			}
			if backups.Take() {
				taken++
			}
		}
		if got, limit := float64(granted), tokens/2; got > limit {
			t.Errorf("%v tokens: %v retries, want at most %v", tokens, got, limit)
		}
		if got, limit := float64(taken), math.Ceil(tokens/2); got > limit || got == 0 {
			t.Errorf("%v tokens: %v backups, want 1 to %v", tokens, got, limit)
		}
	}
}

// In the long run, one extra attempt for ten successes: the income is spent and nothing more.
func TestBudgetIsFundedBySuccesses(t *testing.T) {
	b := NewBudget(BudgetConfig{})
	taken := 0
	for range 10_000 {
		b.Success()
		if b.Take() {
			taken++
		}
	}
	if got, want := taken, 1000; got < want-5 || got > want+defaultTokens {
		t.Errorf("%d backups for 10,000 successes, want about %d", got, want)
	}
}

func TestBudgetConcurrentUseLosesNothing(t *testing.T) {
	b := NewBudget(BudgetConfig{Tokens: 1000, Ratio: 0.001})
	const workers, each = 8, 50
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				b.Failure()
				b.Success()
				b.Allow()
			}
		})
	}
	wg.Wait()
	paid := int64(workers * each * (milli - 1))
	if got, want := b.tokens.Load(), b.size-paid; got != want {
		t.Errorf("%d thousandths left, want %d", got, want)
	}

	b = NewBudget(BudgetConfig{Tokens: 100})
	var taken [workers]int
	for i := range workers {
		wg.Go(func() {
			for range each {
				if b.Take() {
					taken[i]++
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range taken {
		sum += n
	}
	if got, want := sum, 50; got != want {
		t.Errorf("%d tokens taken together, want %d", got, want)
	}
}

func TestNilBudgetGrantsEverything(t *testing.T) {
	var b *Budget
	b.Success()
	b.Failure()
	b.refund()
	if !b.Allow() || !b.Take() || b.Level() != 1 {
		t.Errorf("Allow, Take, Level = %v, %v, %v, want true, true, 1", b.Allow(), b.Take(), b.Level())
	}
}

func TestBudgetConfigIsValidatedOrClamped(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, tt := range []struct {
		config      BudgetConfig
		field       string // that Validate complains of
		size, ratio int64
	}{
		{BudgetConfig{}, "", 10_000, 100},
		{BudgetConfig{Tokens: 3, Ratio: 0.5}, "", 3000, 500},
		{BudgetConfig{Tokens: 1000, Ratio: 1}, "", 1_000_000, 1000},
		{BudgetConfig{Tokens: 1e-9, Ratio: 1e-9}, "", 1, 1},
		{BudgetConfig{Tokens: -1}, "tokens", 10_000, 100},
		{BudgetConfig{Tokens: nan}, "tokens", 10_000, 100},
		{BudgetConfig{Tokens: inf}, "tokens", 1_000_000, 100},
		{BudgetConfig{Tokens: -inf}, "tokens", 10_000, 100},
		{BudgetConfig{Tokens: 1001}, "tokens", 1_000_000, 100},
		{BudgetConfig{Ratio: -0.1}, "ratio", 10_000, 100},
		{BudgetConfig{Ratio: nan}, "ratio", 10_000, 100},
		{BudgetConfig{Ratio: inf}, "ratio", 10_000, 1000},
		{BudgetConfig{Ratio: 1.5}, "ratio", 10_000, 1000},
	} {
		checkField(t, tt.config.Validate(), tt.field)
		b := NewBudget(tt.config)
		if b.size != tt.size || b.ratio != tt.ratio || b.Level() != 1 {
			t.Errorf("NewBudget(%+v) has size %d, ratio %d, level %v, want %d, %d, 1",
				tt.config, b.size, b.ratio, b.Level(), tt.size, tt.ratio)
		}
	}
}

// checkField checks that err names the field, or is nil if there is none.
func checkField(t *testing.T, err error, field string) {
	t.Helper()
	if field == "" && err != nil || field != "" && (err == nil || !strings.HasPrefix(err.Error(), field+": ")) {
		t.Errorf("Validate() = %v, want field %q", err, field)
	}
}

func BenchmarkBudgetSuccess(b *testing.B) {
	budget := NewBudget(BudgetConfig{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			budget.Success()
		}
	})
}

package resilience

import (
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestBudgetFollowsRetryThrottlingOfGRPC(t *testing.T) {
	b := NewBudget(BudgetConfig{Tokens: 10, Ratio: 0.1})
	for i, want := range []bool{true, true, true, true, false, false} {
		b.failure(epoch)
		if got := b.repeat(epoch); got != want {
			t.Errorf("after %d failures: repeat() = %v, want %v", i+1, got, want)
		}
	}
	// Four tokens are left, and retries are to resume above five.
	for range 10 {
		b.success(epoch)
	}
	if b.repeat(epoch) {
		t.Errorf("repeat() = true at half of the size (level %v)", b.Level())
	}
	b.success(epoch)
	if !b.repeat(epoch) {
		t.Errorf("repeat() = false above half of the size (level %v)", b.Level())
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
				b.success(epoch)
			case 1:
				b.failure(epoch)
			case 2:
				took = b.take(epoch)
				if took != (before > b.half) {
					t.Fatalf("take() = %v at %d of %d", took, before, b.limit.Load())
				}
			case 3:
				b.giveBack()
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
			if retries.failure(epoch); retries.repeat(epoch) {
				granted++
			}
			if backups.take(epoch) {
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
		b.success(epoch)
		if b.take(epoch) {
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
				b.failure(epoch)
				b.success(epoch)
				b.repeat(epoch)
			}
		})
	}
	wg.Wait()
	paid := int64(workers * each * (milli - 1))
	if got, want := b.tokens.Load(), b.limit.Load()-paid; got != want {
		t.Errorf("%d thousandths left, want %d", got, want)
	}

	b = NewBudget(BudgetConfig{Tokens: 100})
	var taken [workers]int
	for i := range workers {
		wg.Go(func() {
			for range each {
				if b.take(epoch) {
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
	b.success(epoch)
	b.failure(epoch)
	b.giveBack()
	if !b.repeat(epoch) || !b.take(epoch) || b.Level() != 1 {
		t.Errorf("repeat, take, Level = %v, %v, %v, want true, true, 1", b.repeat(epoch), b.take(epoch), b.Level())
	}
}

func TestBudgetConfigIsValidatedOrClamped(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	const s = time.Second
	for _, tt := range []struct {
		config      BudgetConfig
		fields      string // that Validate complains of
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
		{BudgetConfig{Kind: "success", Floor: 1, Window: s}, "floor window", 10_000, 100},
		{BudgetConfig{Kind: "grpc", Floor: -1, Tokens: -1}, "tokens floor", 10_000, 100},
		{BudgetConfig{Kind: "ratio", Floor: -1, Window: s}, "", 10_000, 200},
		{BudgetConfig{Kind: "ratio", Floor: nan, Tokens: 1, Window: s - 1}, "tokens floor window", 1000, 200},
		{BudgetConfig{Kind: "ratio", Floor: inf, Ratio: nan, Window: 61 * s}, "ratio floor window", 10_000, 200},
		{BudgetConfig{Kind: "ratio", Floor: -inf, Window: -s}, "floor window", 10_000, 200},
		{BudgetConfig{Kind: "concurrent", Floor: 1001, Window: s, Tokens: nan}, "tokens floor window", 10_000, 200},
		{BudgetConfig{Kind: "Ratio", Tokens: -1, Ratio: 2, Floor: nan, Window: -1}, "kind tokens ratio floor window", 10_000, 1000},
	} {
		var fields []string
		if err := tt.config.Validate(); err != nil {
			for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
				field, _, _ := strings.Cut(err.Error(), ":")
				fields = append(fields, field)
			}
		}
		if got := strings.Join(fields, " "); got != tt.fields {
			t.Errorf("Validate(%+v) complains of %q, want %q", tt.config, got, tt.fields)
		}
		b := NewBudget(tt.config)
		if b.limit.Load() != tt.size || b.ratio != tt.ratio || b.Level() != 1 && !(b.kind == kindRatio && b.floor == 0) {
			t.Errorf("NewBudget(%+v) has size %d, ratio %d, level %v, want %d, %d, 1",
				tt.config, b.limit.Load(), b.ratio, b.Level(), tt.size, tt.ratio)
		}
	}
}

func BenchmarkBudgetSuccess(b *testing.B) {
	budget := NewBudget(BudgetConfig{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			budget.success(epoch)
		}
	})
}

func TestBudgetSpareIsWhatItWouldGrant(t *testing.T) {
	for _, kind := range []string{BudgetSuccess, BudgetGRPC, BudgetRatio, BudgetConcurrent} {
		b := NewBudget(BudgetConfig{Kind: kind})
		if got := b.Spare(0); got != 1 {
			t.Errorf("%s: Spare() = %v of a full budget, want 1", kind, got)
		}
		for n := 0; b.take(0); n++ {
			if b.Spare(0) >= 1 || n > 1000 {
				t.Fatalf("%s: Spare() = %v after %d extra attempts", kind, b.Spare(0), n+1)
			}
		}
		if got := b.Spare(0); got >= 0.1 {
			t.Errorf("%s: Spare() = %v of an empty budget", kind, got)
		}
		if b.giveBack(); b.Spare(0) <= 0 {
			t.Errorf("%s: Spare() = %v when something was given back", kind, b.Spare(0))
		}
	}
	b := NewBudget(BudgetConfig{Kind: BudgetRatio})
	for b.take(0) {
	}
	if got := b.Spare(11 * time.Second); got != 1 {
		t.Errorf("Spare() = %v after the window, want 1", got)
	}
	if got := (*Budget)(nil).Spare(0); got != 1 {
		t.Errorf("Spare() = %v of no budget, want 1", got)
	}
}

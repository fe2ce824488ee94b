package zerohop

import (
	"context"
	"testing"

	"github.com/zerohop/zerohop/loadbalance"
)

// watching are hooks that change nothing of a call, as those of telemetry are where there are no spans.
func watching() Hooks {
	return Hooks{
		CallStart:    func(ctx context.Context, _ CallInfo) context.Context { return ctx },
		CallDone:     func(context.Context, CallInfo, CallResult) {},
		AttemptStart: func(ctx context.Context, _ CallInfo, _ AttemptInfo) context.Context { return ctx },
		AttemptDone:  func(context.Context, CallInfo, AttemptInfo, AttemptResult) {},
		Propagate:    func(context.Context, func(key, value string)) {},
	}
}

func TestHooksThatOnlyWatchCostNoAllocation(t *testing.T) {
	allocations := func(h Hooks) float64 {
		m := open(t, Config{Resolver: orders(3), Hooks: h})
		f := func(context.Context, *loadbalance.Node) (int, error) { return 0, nil }
		return testing.AllocsPerRun(1000, func() {
			if _, err := Do(t.Context(), m, "orders", f); err != nil {
				t.Error(err)
			}
		})
	}
	if plain, told := allocations(Hooks{}), allocations(watching()); told > plain {
		t.Errorf("a call makes %v allocations with hooks, %v without", told, plain)
	}
}

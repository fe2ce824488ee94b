package grpcmesh

import (
	"context"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// watching are hooks that change nothing of a call, as those of telemetry are where there are no spans.
func watching() zerohop.Hooks {
	return zerohop.Hooks{
		CallStart:    func(ctx context.Context, _ zerohop.CallInfo) context.Context { return ctx },
		CallDone:     func(context.Context, zerohop.CallInfo, zerohop.CallResult) {},
		AttemptStart: func(ctx context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo) context.Context { return ctx },
		AttemptDone:  func(context.Context, zerohop.CallInfo, zerohop.AttemptInfo, zerohop.AttemptResult) {},
		Propagate:    func(context.Context, func(key, value string)) {},
	}
}

// What hooks cost is compared in calls over a real connection, whose own allocations are counted, too: they vary by one.
func TestHooksThatOnlyWatchCostNoAllocation(t *testing.T) {
	allocations := func(h zerohop.Hooks) (n float64) {
		synctest.Test(t, func(t *testing.T) {
			b := setUp(t, 1, zerohop.Config{Hooks: h})
			req := &echopb.SayRequest{}
			n = testing.AllocsPerRun(200, func() {
				if _, err := b.client.Say(t.Context(), req); err != nil {
					t.Error(err)
				}
			})
		})
		return n
	}
	if plain, told := allocations(zerohop.Hooks{}), allocations(watching()); told > plain+1 {
		t.Errorf("a call makes %v allocations with hooks, %v without", told, plain)
	}
}

// A hook that sets metadata of one attempt, late or never again, must not change that of others.
func TestMetadataOfHooksStaysWithItsAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := watching()
		var kept []func(key, value string)
		h.Propagate = func(_ context.Context, set func(key, value string)) {
			if len(kept) == 0 {
				set("traceparent", "first")
			}
			kept = append(kept, set)
		}
		b := setUp(t, 1, zerohop.Config{Hooks: h})
		var seen []string
		f := func(ctx context.Context, _ string, _ echopb.Echo_ChatServer) error {
			md, _ := metadata.FromIncomingContext(ctx)
			seen = append(seen, append(md["traceparent"], "none")[0])
			return nil
		}
		b.servers[0].behave.Store(&f)
		for range 3 {
			if _, err := b.client.Say(t.Context(), &echopb.SayRequest{}, grpc.WaitForReady(true)); err != nil {
				t.Fatal(err)
			}
			for _, set := range kept {
				set("traceparent", "late")
			}
		}
		if len(seen) != 3 || seen[0] != "first" || seen[1] != "none" || seen[2] != "none" {
			t.Errorf("the service saw %q, want first and then none", seen)
		}
	})
}

package grpcmesh_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// overloaded refuses calls and asks for a pause.
func overloaded(ctx context.Context, pause string) error {
	if err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", pause)); err != nil {
		return err
	}
	return status.Error(codes.ResourceExhausted, "busy")
}

// flood makes calls from a number of callers at once and returns how many failed, and how long the slowest took.
func (u *user) flood(t *testing.T, calls, callers int, want codes.Code) (failed int64, slowest time.Duration) {
	t.Helper()
	var bad, longest atomic.Int64
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := c; i < calls; i += callers {
				start := time.Now()
				_, err := u.Say(t.Context(), &echopb.SayRequest{Text: fmt.Sprint(i)})
				took := int64(time.Since(start))
				for most := longest.Load(); took > most && !longest.CompareAndSwap(most, took); most = longest.Load() {
				}
				if err != nil {
					bad.Add(1)
				}
				if got := status.Code(err); err != nil && got != want {
					t.Errorf("Say() = %v, want %v", err, want)
				}
			}
		})
	}
	wg.Wait()
	return bad.Load(), time.Duration(longest.Load())
}

func TestOverloadedNodeIsLeftAlone(t *testing.T) {
	const pause = time.Second
	var busy atomic.Pointer[instance]
	f := launch(t, 3, func(ctx context.Context, s *instance, _ string, _ int) error {
		if s == busy.Load() {
			return overloaded(ctx, fmt.Sprint(pause.Milliseconds()))
		}
		return nil
	})
	spec := hasty
	spec.Defaults.Balance = "" // in turn, they would go to an endpoint that has failed, too
	u := use(t, zerohop.Config{Spec: spec}, f.addrs())
	u.warm(t, f)
	busy.Store(f.instances[0])
	const calls, callers = 400, 8
	start := time.Now()
	failed, slowest := u.flood(t, calls, callers, codes.ResourceExhausted)
	took := time.Since(start)
	if slowest >= pause {
		t.Errorf("a call beside two healthy nodes took %v, as if it had kept the pause of %v", slowest, pause)
	}
	got := f.instances[0].calls.Load()
	t.Logf("%d calls, none longer than %v: %d failed, the busy node was asked %d times", calls, slowest, failed, got)
	if failed > 0 {
		t.Errorf("%d of %d calls failed beside two healthy nodes", failed, calls)
	}
	// At the end of each pause every caller may come once.
	if limit := (int64(took/pause) + 1) * callers; got == 0 || got > limit {
		t.Errorf("the busy node was asked %d times in %v, want 1 to %d", got, took, limit)
	}
	u.idle(t)
}

func TestOverloadIsNotMadeWorse(t *testing.T) {
	for _, pause := range []string{"1", "0", "-1", "2147483647", "99999999999999999999", "soon", ""} {
		t.Run(pause, func(t *testing.T) {
			var busy atomic.Bool
			f := launch(t, 3, func(ctx context.Context, _ *instance, _ string, _ int) error {
				if busy.Load() {
					return overloaded(ctx, pause)
				}
				return nil
			})
			u := use(t, zerohop.Config{}, f.addrs())
			u.warm(t, f)
			busy.Store(true)
			const calls = 300
			if failed, _ := u.flood(t, calls, 8, codes.ResourceExhausted); failed != calls {
				t.Errorf("%d of %d calls failed, want all", failed, calls)
			}
			var sum int64
			for _, s := range f.instances {
				sum += s.calls.Load()
			}
			// Half of the budget is there to be spent.
			if sum < calls || sum > calls+10 {
				t.Errorf("%d calls were executed %d times, want at most 10 more", calls, sum)
			}
			u.idle(t)
			busy.Store(false)
			if failed, _ := u.flood(t, 100, 8, codes.OK); failed > 0 {
				t.Errorf("%d of 100 calls failed after the overload", failed)
			}
		})
	}
}

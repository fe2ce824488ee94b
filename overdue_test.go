package zerohop_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// A hung endpoint answers nothing that could count as a failure; that backups win is all there is to see.
func TestPicksAvoidEndpointWhoseAttemptIsOverdue(t *testing.T) {
	const start = time.Second // of the backup, while nothing is learned
	for name, test := range map[string]struct {
		takes [2]time.Duration // first attempt and backup
		avoid [2]bool
	}{
		"backup wins":        {[2]time.Duration{time.Hour, start / 2}, [2]bool{true, false}},
		"first attempt wins": {[2]time.Duration{start * 3 / 2, time.Hour}, [2]bool{false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, err := zerohop.New(zerohop.Config{
					Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}}},
				})
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				var attempts atomic.Int32
				var tried [2]*loadbalance.Node
				ctx := zerohop.WithCall(t.Context(), zerohop.CallOptions{Idempotent: zerohop.On})
				_, err = zerohop.Do(ctx, m, "orders", func(ctx context.Context, n *loadbalance.Node) (int, error) {
					i := attempts.Add(1) - 1
					tried[i] = n
					select {
					case <-time.After(test.takes[i]):
						return 0, nil
					case <-ctx.Done():
						return 0, ctx.Err()
					}
				})
				if err != nil || attempts.Load() != 2 {
					t.Fatalf("Do() = %v after %d attempts, want success after 2", err, attempts.Load())
				}
				synctest.Wait()
				for i, n := range tried {
					if got := n.Penalized(time.Now()); got != test.avoid[i] {
						t.Errorf("attempt %d: endpoint avoided = %v, want %v", i, got, test.avoid[i])
					}
				}
			})
		})
	}
}

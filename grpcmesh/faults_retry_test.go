package grpcmesh_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// A server says that it is unavailable in the one answer that it sends, or after it has sent headers.
func TestUnavailableIsRepeatedElsewhere(t *testing.T) {
	for name, headers := range map[string]bool{"trailers only": false, "trailers after headers": true} {
		t.Run(name, func(t *testing.T) {
			f := launch(t, 3, func(ctx context.Context, _ *instance, text string, earlier int) error {
				if text == "warm" || earlier > 0 {
					return nil
				}
				if headers {
					if err := grpc.SendHeader(ctx, metadata.Pairs("x-node", "here")); err != nil {
						return err
					}
				}
				return status.Error(codes.Unavailable, "restarting")
			})
			u := use(t, zerohop.Config{Spec: hasty}, f.addrs())
			u.warm(t, f)
			const calls, callers = 1000, 8
			var elsewhere atomic.Int64
			var wg sync.WaitGroup
			for c := range callers {
				wg.Go(func() {
					for i := c; i < calls; i += callers {
						id := fmt.Sprint(i)
						r, err := u.Say(t.Context(), &echopb.SayRequest{Text: id})
						if err != nil {
							t.Error(err)
							continue
						}
						if ran := f.journal.of(id); len(ran) == 2 && ran[0] != ran[1] && r.Node == ran[1] && r.Text == id {
							elsewhere.Add(1)
						}
					}
				})
			}
			wg.Wait()
			t.Logf("%d of %d calls were repeated on another node", elsewhere.Load(), calls)
			if got := elsewhere.Load(); got != calls {
				t.Errorf("%d of %d calls were repeated once on another node, want all", got, calls)
			}
			u.idle(t)
		})
	}
}

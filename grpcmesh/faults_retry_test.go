package grpcmesh_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
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

// Calls that a server never looked at may be repeated even if they count, and that costs nothing of the budget. The
// servers say where calls have been.
func TestUnprocessedIsRepeatedElsewhere(t *testing.T) {
	for name, refuse := range map[string]script{
		"refused stream": resets(http2.ErrCodeRefusedStream),
		"going away":     func(w *frames, stream uint32) { _ = w.WriteGoAway(max(stream, 2)-2, http2.ErrCodeNo, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var seen journal
			var warm atomic.Bool
			var addrs []string
			for i := range 3 {
				s := frameServer(t, func(w *frames, stream uint32) {
					if warm.Load() || seen.note(w.said, fmt.Sprint(i)) > 0 {
						good(w, stream)
					} else {
						refuse(w, stream)
					}
				})
				addrs = append(addrs, s.addr)
			}
			u := use(t, zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Balance: "weighted-round-robin"}}}, addrs)
			// answers waits until a server is connected. A backup might come when it is over.
			ctx := zerohop.WithCall(t.Context(), zerohop.CallOptions{Backup: zerohop.Off})
			answers := func(addr string) {
				for at := new(peer.Peer); at.Addr == nil || at.Addr.String() != addr; {
					if _, err := u.Say(ctx, &echopb.SayRequest{Text: "warm"}, grpc.Peer(at)); err != nil {
						t.Fatal(err)
					}
				}
			}
			const calls = 1000
			for i := range calls {
				warm.Store(true) // all are connected, though one may have just gone away
				for _, addr := range addrs {
					answers(addr)
				}
				warm.Store(false)
				if _, err := u.Order(t.Context(), &echopb.SayRequest{Text: fmt.Sprint(i)}); err != nil {
					t.Fatal(err)
				}
			}
			elsewhere := 0
			for text, at := range seen.ran {
				if len(at) == 2 && at[0] != at[1] {
					elsewhere++
				} else {
					t.Errorf("call %q was sent to %v, want two servers", text, at)
				}
			}
			t.Logf("%d of %d calls were repeated on another node", elsewhere, calls)
			if elsewhere != calls {
				t.Errorf("%d of %d calls were repeated once on another node, want all", elsewhere, calls)
			}
			u.idle(t)
		})
	}
}

package grpcmesh

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// learn makes the mesh learn that calls take a millisecond, so that backups come after the least time of the policy.
func (b *bed) learn(t *testing.T) {
	t.Helper()
	for _, s := range b.servers {
		s.do(func(context.Context, string) error {
			time.Sleep(time.Millisecond)
			return nil
		})
	}
	for range 200 {
		b.say(t)
	}
}

func TestHungNodeGetsBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		b := setUp(t, 3, zerohop.Config{Hooks: c.hooks()})
		b.learn(t)
		var given int
		var mu sync.Mutex
		b.servers[0].do(func(ctx context.Context, text string) error {
			err := hang(ctx, text)
			mu.Lock()
			defer mu.Unlock()
			given++
			return err
		})
		const calls = 60
		b.servers[0].calls.Store(0)
		for i := range calls {
			text := fmt.Sprint(i)
			start := time.Now()
			r, err := b.client.Say(t.Context(), &echopb.SayRequest{Text: text})
			if err != nil || r.Text != text || r.Node == b.servers[0].name {
				t.Fatalf("Say() = %v, %v", r, err)
			}
			if took := time.Since(start); took > 60*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			for range 10 { // pay into the budget
				b.say(t)
			}
		}
		synctest.Wait()
		hung := int(b.servers[0].calls.Load())
		if hung == 0 {
			t.Fatal("the hung node was never called")
		}
		if mu.Lock(); given != hung {
			t.Errorf("%d of %d hung attempts were given up, want all", given, hung)
		}
		mu.Unlock()
		b.idle(t)
		c.settled(t, c.begun)
	})
}

func TestRepliesBelongToWinners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{Spec: unlimited})
		b.warm(t)
		b.learn(t)
		var log executions
		var raced atomic.Int64
		for _, s := range b.servers {
			s.do(func(_ context.Context, text string) error {
				if log.add(text, s.name) == 0 {
					time.Sleep(time.Duration(49+rand.IntN(3)) * time.Millisecond) // the backup is sent after 50 ms
				}
				return nil
			})
		}
		var wg sync.WaitGroup
		for i := range 200 {
			text := fmt.Sprint(i)
			wg.Go(func() {
				var header metadata.MD
				var from peer.Peer
				r, err := b.client.Say(t.Context(), &echopb.SayRequest{Text: text}, grpc.Header(&header), grpc.Peer(&from))
				if err != nil || r.Text != text || from.Addr == nil || header == nil {
					t.Errorf("Say(%s) = %v, %v", text, r, err)
				}
				if len(log.of(text)) == 2 {
					raced.Add(1)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if got := raced.Load(); got < 40 {
			t.Errorf("%d of 200 calls got a backup, want about a half", got)
		}
		b.idle(t)
	})
}

func TestBackupsFillAnyReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 2, zerohop.Config{})
		b.warm(t)
		for i, s := range b.servers {
			s.do(func(ctx context.Context, text string) error {
				if s.calls.Load()+b.servers[1-i].calls.Load() == 1 {
					return hang(ctx, text)
				}
				return nil
			})
		}
		reply := dynamicpb.NewMessage((&echopb.SayReply{}).ProtoReflect().Descriptor())
		if err := b.conn.Invoke(t.Context(), echopb.Echo_Say_FullMethodName, &echopb.SayRequest{Text: "hello"}, reply); err != nil {
			t.Fatal(err)
		}
		raw, err := proto.Marshal(reply)
		if err != nil {
			t.Fatal(err)
		}
		var got echopb.SayReply
		if err := proto.Unmarshal(raw, &got); err != nil || got.Text != "hello" || got.Node == "" {
			t.Errorf("reply = %v, %v", &got, err)
		}
		if b.servers[0].calls.Load() != 1 || b.servers[1].calls.Load() != 1 {
			t.Error("there was no backup")
		}
	})
}

func TestPlainRepliesAreCopied(t *testing.T) {
	type frame struct{ data []byte }
	reply := &frame{data: []byte("old")}
	r := newResults(reply, nil, nil)
	r.reply.(*frame).data = []byte("new")
	r.deliver(reply, nil, false)
	if got, want := string(reply.data), "old"; got != want {
		t.Errorf("after a failure = %q, want %q", got, want)
	}
	r.deliver(reply, nil, true)
	if got, want := string(reply.data), "new"; got != want {
		t.Errorf("after an answer = %q, want %q", got, want)
	}
}

func TestOrdersGetNoBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{})
		b.warm(t)
		b.learn(t)
		b.servers[0].do(hang)
		for _, s := range b.servers {
			s.calls.Store(0)
		}
		failed := 0
		const calls = 100
		for range calls {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			_, err := b.client.Order(ctx, &echopb.SayRequest{})
			cancel()
			if err != nil {
				if status.Code(err) != codes.DeadlineExceeded {
					t.Fatalf("Order() = %v, want DEADLINE_EXCEEDED", err)
				}
				failed++
			}
			time.Sleep(10 * time.Millisecond)
		}
		if got := b.servers[0].calls.Load() + b.servers[1].calls.Load() + b.servers[2].calls.Load(); got != calls {
			t.Errorf("the servers saw %d orders, want %d", got, calls)
		}
		// Each expired order keeps those after it off the node for some seconds, and longer each time.
		if failed == 0 || failed > 5 {
			t.Errorf("%d of %d orders expired on the hung node, want 1 to 5", failed, calls)
		}
		synctest.Wait()
		b.idle(t)
	})
}

func TestWaitingForConnectionGetsNoBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		b := setUp(t, 0, zerohop.Config{Hooks: c.hooks()})
		const addr, calls = "10.0.0.1:80", 20
		b.source.Set("orders", endpoints(addr)...)
		for range calls {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := b.client.Say(ctx, &echopb.SayRequest{}, grpc.WaitForReady(true))
			cancel()
			if status.Code(err) != codes.DeadlineExceeded {
				t.Fatalf("Say() = %v, want DEADLINE_EXCEEDED", err)
			}
		}
		synctest.Wait()
		if c.started != calls {
			t.Errorf("%d calls made %d attempts, want one each", calls, c.started)
		}
	})
}

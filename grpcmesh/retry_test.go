package grpcmesh

import (
	"context"
	"errors"
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
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

var errUnavailable = status.Error(codes.Unavailable, "restarting")

// executions notes which nodes executed which call.
type executions struct {
	mu sync.Mutex
	by map[string][]string
}

// add returns how often the call was executed before.
func (e *executions) add(call, node string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.by == nil {
		e.by = map[string][]string{}
	}
	e.by[call] = append(e.by[call], node)
	return len(e.by[call]) - 1
}

func (e *executions) of(call string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.by[call]
}

func TestRetriesGoToAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{Spec: unlimited})
		b.warm(t)
		var log executions
		for _, s := range b.servers {
			s.do(func(_ context.Context, text string) error {
				if log.add(text, s.name) == 0 {
					return errUnavailable
				}
				return nil
			})
		}
		const calls = 1000
		elsewhere := 0
		for i := range calls {
			id := fmt.Sprint(i)
			r, err := b.client.Say(t.Context(), &echopb.SayRequest{Text: id})
			if err != nil {
				t.Fatal(err)
			}
			if by := log.of(id); len(by) == 2 && by[0] != by[1] && r.Node == by[1] {
				elsewhere++
			}
		}
		if elsewhere != calls {
			t.Errorf("%d of %d calls were repeated once on another node, want all", elsewhere, calls)
		}
		b.idle(t)
	})
}

func TestOrdersAreSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{Spec: unlimited})
		b.warm(t)
		for _, s := range b.servers {
			s.do(func(context.Context, string) error { return errUnavailable })
		}
		_, err := b.client.Order(t.Context(), &echopb.SayRequest{})
		var e *zerohop.Error
		if status.Code(err) != codes.Unavailable || !errors.As(err, &e) || len(e.Attempts) != 1 || !e.Sent {
			t.Errorf("Order() = %v, want UNAVAILABLE after one attempt", err)
		}
		if got := b.servers[0].calls.Load() + b.servers[1].calls.Load() + b.servers[2].calls.Load(); got != 1 {
			t.Errorf("the servers saw %d attempts, want 1", got)
		}
		ctx := zerohop.WithCall(t.Context(), zerohop.CallOptions{Idempotent: zerohop.On})
		if _, err = b.client.Order(ctx, &echopb.SayRequest{}); !errors.As(err, &e) || len(e.Attempts) != 3 {
			t.Errorf("Order() declared idempotent = %v, want three attempts", err)
		}
	})
}

func TestOrdersGoPastNodesThatRefuseConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{})
		b.warm(t)
		for i := range 30 {
			down := b.servers[i%3]
			down.stop()
			synctest.Wait() // gRPC has noticed: what it wrote before counts as sent
			for range 10 {
				r, err := b.client.Order(t.Context(), &echopb.SayRequest{})
				if err != nil {
					t.Fatal(err)
				}
				if r.Node == down.name {
					t.Fatalf("%s answered, but is down", r.Node)
				}
			}
			down.restart()
			time.Sleep(2 * time.Second)
		}
		b.idle(t)
	})
}

func TestKillsRepeatNoOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{Spec: unlimited})
		b.warm(t)
		var orders, says executions
		for round := range 60 {
			victim := b.servers[round%3]
			for _, s := range b.servers {
				s.do(func(ctx context.Context, text string) error {
					log := &says
					if m, _ := grpc.Method(ctx); m == echopb.Echo_Order_FullMethodName {
						log = &orders
					}
					log.add(text, s.name)
					time.Sleep(10 * time.Millisecond)
					return nil
				})
			}
			var wg sync.WaitGroup
			for i := range 10 {
				id := fmt.Sprint(round, "-", i)
				wg.Go(func() {
					time.Sleep(time.Duration(rand.Int64N(int64(10 * time.Millisecond))))
					if _, err := b.client.Say(t.Context(), &echopb.SayRequest{Text: id}); err != nil {
						t.Errorf("Say() = %v", err)
					}
				})
				wg.Go(func() {
					time.Sleep(time.Duration(rand.Int64N(int64(10 * time.Millisecond))))
					_, err := b.client.Order(t.Context(), &echopb.SayRequest{Text: id})
					var e *zerohop.Error
					switch by := orders.of(id); {
					case len(by) > 1:
						t.Errorf("order %s was executed by %v", id, by)
					case err == nil && len(by) != 1:
						t.Errorf("order %s was answered, but not executed", id)
					case err != nil && (!errors.As(err, &e) || !e.Sent && len(by) > 0):
						t.Errorf("order %s was executed, but reported as not sent: %v", id, err)
					}
				})
			}
			time.Sleep(10 * time.Millisecond)
			victim.stop()
			wg.Wait()
			victim.restart()
			time.Sleep(2 * time.Second)
		}
		synctest.Wait()
		b.idle(t)
	})
}

// pushbackCase is a status that comes with pushback, and what the call does then.
type pushbackCase struct {
	code        codes.Code
	values      []string
	attempts    int64
	least, most time.Duration // of the pause
}

// Where another endpoint is connected, no pause is kept.
func TestPushback(t *testing.T) {
	const usual = 25 * time.Millisecond
	for name, tc := range map[string]pushbackCase{
		"unavailable":              {codes.Unavailable, nil, 2, 0, usual},
		"unavailable, at once":     {codes.Unavailable, []string{"0"}, 2, 0, 0},
		"unavailable, later":       {codes.Unavailable, []string{"700"}, 2, 700 * time.Millisecond, 700 * time.Millisecond},
		"unavailable, never":       {codes.Unavailable, []string{"-1"}, 1, 0, 0},
		"unavailable, nonsense":    {codes.Unavailable, []string{"soon"}, 1, 0, 0},
		"unavailable, two answers": {codes.Unavailable, []string{"1", "2"}, 1, 0, 0},
		"overload":                 {codes.ResourceExhausted, nil, 1, 0, 0},
		"overload, at once":        {codes.ResourceExhausted, []string{"0"}, 2, 0, 0},
		"overload, later":          {codes.ResourceExhausted, []string{"300"}, 2, 300 * time.Millisecond, 300 * time.Millisecond},
		"overload, never":          {codes.ResourceExhausted, []string{"-1"}, 1, 0, 0},
		"internal":                 {codes.Internal, []string{"1"}, 1, 0, 0},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { tc.test(t, 1, false) }) })
		t.Run(name+", after headers", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { tc.test(t, 1, true) }) })
		if tc.least > 0 {
			tc.least, tc.most = 0, usual
		}
		t.Run(name+", beside another", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { tc.test(t, 2, false) }) })
	}
}

func (tc *pushbackCase) test(t *testing.T, servers int, headers bool) {
	b := setUp(t, servers, zerohop.Config{})
	b.warm(t)
	var asked atomic.Int64
	for _, s := range b.servers {
		s.do(func(ctx context.Context, _ string) error {
			if asked.Add(1) > 1 {
				return nil
			}
			if headers {
				if err := grpc.SendHeader(ctx, nil); err != nil {
					return err
				}
			}
			for _, v := range tc.values {
				if err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", v)); err != nil {
					return err
				}
			}
			return status.Error(tc.code, "not now")
		})
	}
	start := time.Now()
	_, err := b.client.Say(t.Context(), &echopb.SayRequest{})
	took := time.Since(start)
	want := codes.OK
	if tc.attempts == 1 {
		want = tc.code
	}
	if got := status.Code(err); got != want {
		t.Errorf("code = %v, want %v", got, want)
	}
	if got := asked.Load(); got != tc.attempts {
		t.Errorf("the servers saw %d attempts, want %d", got, tc.attempts)
	}
	if took < tc.least || took > tc.most {
		t.Errorf("it took %v, want a pause of %v to %v", took, tc.least, tc.most)
	}
}

func TestBudgetBoundsRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{})
		b.warm(t)
		for _, s := range b.servers {
			s.do(func(context.Context, string) error { return errUnavailable })
		}
		const calls = 500
		for range calls {
			if _, err := b.client.Say(t.Context(), &echopb.SayRequest{}); status.Code(err) != codes.Unavailable {
				t.Fatalf("Say() = %v, want UNAVAILABLE", err)
			}
		}
		got := b.servers[0].calls.Load() + b.servers[1].calls.Load() + b.servers[2].calls.Load()
		if got < calls || got > calls+10 {
			t.Errorf("%d calls made %d attempts, want at most 10 more", calls, got)
		}
	})
}

func TestFastFailuresAttractNoTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{})
		b.warm(t)
		for i, s := range b.servers {
			s.do(func(context.Context, string) error {
				if i == 0 {
					return status.Error(codes.Internal, "broken")
				}
				time.Sleep(5 * time.Millisecond)
				return nil
			})
		}
		const calls = 2000
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range calls / 4 {
					_, err := b.client.Say(t.Context(), &echopb.SayRequest{})
					if err != nil && status.Code(err) != codes.Internal {
						t.Errorf("Say() = %v", err)
					}
				}
			})
		}
		wg.Wait()
		if got := b.servers[0].calls.Load(); got > calls/20 {
			t.Errorf("the node that fails fast got %d of %d calls, want at most 5 %%", got, calls)
		}
	})
}

// If there is no endpoint any more when a call is to be repeated, it ends with the answer that it has.
func TestAnswerStandsIfNoEndpointIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		b := setUp(t, 1, zerohop.Config{Hooks: c.hooks(), Spec: repeatable})
		s := b.servers[0]
		s.do(func(ctx context.Context, _ string) error {
			time.AfterFunc(500*time.Millisecond, s.stop)
			_ = grpc.SetTrailer(ctx, metadata.Pairs(pushbackKey, "1000"))
			return errUnavailable
		})
		_, err := b.client.Say(t.Context(), &echopb.SayRequest{})
		if status.Code(err) != codes.Unavailable || !errors.Is(err, errUnavailable) {
			t.Errorf("Say() = %v, want what the server said", err)
		}
		if got := c.settled(t, 1); got.Err == nil || got.Status != int(codes.Unavailable) || got.Attempts != 1 {
			t.Errorf("CallDone got %+v, want the error of the only attempt", got)
		}
	})
}

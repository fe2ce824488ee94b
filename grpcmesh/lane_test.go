package grpcmesh

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// setUpLanes makes a bed whose last instance is in the lane x.
func setUpLanes(t *testing.T, n int, l zerohop.Lane) *bed {
	l.Mode = zerohop.On
	b := setUp(t, n, zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Lane: l}}})
	var addrs []string
	for _, s := range b.servers {
		addrs = append(addrs, s.name)
	}
	eps := endpoints(addrs...)
	eps[n-1].Meta = map[string]string{"lane": "x"}
	b.source.Set("orders", eps...)
	return b
}

// A branch that was just started may not be connected yet: its calls wait for that a moment. One that is stopped costs no call, and
// is used again when it is back.
func TestCallsGoToTheirLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUpLanes(t, 3, zerohop.Lane{})
		time.Sleep(time.Second)
		branch := b.servers[2]
		say := func(lane string) string {
			r, err := b.client.Say(zerohop.WithLane(t.Context(), lane), &echopb.SayRequest{})
			if err != nil {
				t.Fatalf("a call in lane %q failed: %v", lane, err)
			}
			return r.Node
		}
		mixed := func(up bool) {
			t.Helper()
			for i := range 200 {
				lane := ""
				if i%2 > 0 {
					lane = "x"
				}
				if got := say(lane) == branch.name; got != (up && lane == "x") {
					t.Fatalf("a call in lane %q is answered by the branch: %v", lane, got)
				}
				if s, err := b.client.Chat(zerohop.WithLane(t.Context(), lane)); err != nil || s.CloseSend() != nil {
					t.Fatalf("a stream in lane %q failed: %v", lane, err)
				} else if _, err := s.Recv(); err == nil {
					t.Fatal("an answer to nothing")
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		mixed(true)
		branch.stop()
		mixed(false)
		branch.restart()
		time.Sleep(2 * time.Minute)
		say("x") // which may find out that it is back
		mixed(true)
	})
}

func TestCallsWaitForALaneThatIsBeingConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Lane: zerohop.Lane{Mode: zerohop.On}}}})
		b.warm(t)
		branch := b.serve(t, "10.0.0.9:80")
		eps := endpoints("10.0.0.1:80", branch.name)
		eps[1].Meta = map[string]string{"lane": "x"}
		b.source.Set("orders", eps...)
		synctest.Wait()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				r, err := b.client.Say(zerohop.WithLane(t.Context(), "x"), &echopb.SayRequest{})
				if err != nil || r.Node != branch.name {
					t.Errorf("answered by %v, %v", r, err)
				}
			})
		}
		wg.Wait()
		r, err := b.client.Say(zerohop.WithLane(t.Context(), "x"), &echopb.SayRequest{})
		if err != nil || r.Node != branch.name {
			t.Errorf("answered by %v, %v, want the branch", r, err)
		}
	})
}

// One that hangs while it is connected to holds its calls up for a second at most.
func TestLaneThatCannotBeConnectedIsLeft(t *testing.T) {
	for fallback, ok := range map[zerohop.Fallback]bool{zerohop.FallbackStable: true, zerohop.FallbackNone: false} {
		synctest.Test(t, func(t *testing.T) {
			b := setUpLanes(t, 2, zerohop.Lane{Fallback: fallback})
			b.servers[1].stop()
			time.Sleep(10 * time.Second)
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			r, err := b.client.Say(zerohop.WithLane(ctx, "x"), &echopb.SayRequest{})
			if took := time.Since(start); (err == nil) != ok || ok && r.Node != b.servers[0].name || took > firstConnect+time.Second {
				t.Errorf("fallback %s: answered by %v, %v after %v", fallback, r, err, took)
			}
		})
	}
}

func TestCallsCarryTheirLane(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lane  string
		pairs []string
		hook  string
		want  string
	}{
		{"none", "", []string{"baggage", "a=1", "baggage", "b=2"}, "", "a=1|b=2"},
		{"alone", "x", nil, "", "zerohop-lane=x"},
		{"with others", "x", []string{"baggage", "a=1", "baggage", "zerohop-lane=y,b=2"}, "", "a=1,b=2,zerohop-lane=x"},
		{"beside what hooks set", "x", []string{"baggage", "a=1"}, "c=3", "a=1,c=3,zerohop-lane=x"},
		{"there already", "x", []string{"baggage", "zerohop-lane=x;p,b=2"}, "", "zerohop-lane=x;p,b=2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var cfg zerohop.Config
				if tt.hook != "" {
					cfg.Hooks.Propagate = func(_ context.Context, set func(key, value string)) { set("baggage", tt.hook) }
				}
				b := setUp(t, 1, cfg)
				var got []string
				b.servers[0].do(func(ctx context.Context, _ string) error {
					got = metadata.ValueFromIncomingContext(ctx, "baggage")
					return nil
				})
				ctx := metadata.AppendToOutgoingContext(t.Context(), tt.pairs...)
				if tt.lane != "" {
					ctx = zerohop.WithLane(ctx, tt.lane)
				}
				if _, err := b.client.Say(ctx, &echopb.SayRequest{}); err != nil {
					t.Fatal(err)
				}
				if strings.Join(got, "|") != tt.want {
					t.Errorf("baggage = %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestServerKnowsTheLaneOfACall(t *testing.T) {
	for _, ignore := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &Server{IgnoreLane: ignore}
			b := served(t, 1, zerohop.Config{}, s.ServerOptions()...)
			want, left := "x", "a=1|zerohop-lane=x,b=2"
			if ignore {
				want, left = "", "a=1,b=2"
			}
			check := func(ctx context.Context) {
				if got := zerohop.LaneOf(ctx); got != want {
					t.Errorf("ignoring %v: lane = %q, want %q", ignore, got, want)
				}
				if got := strings.Join(metadata.ValueFromIncomingContext(ctx, "baggage"), "|"); got != left {
					t.Errorf("ignoring %v: baggage = %q, want %q", ignore, got, left)
				}
			}
			calls := 0
			f := func(ctx context.Context, _ string, stream echopb.Echo_ChatServer) error {
				if calls++; stream != nil {
					ctx = stream.Context()
				}
				check(ctx)
				return nil
			}
			b.servers[0].behave.Store(&f)
			ctx := metadata.AppendToOutgoingContext(t.Context(), "baggage", "a=1", "baggage", "zerohop-lane=x,b=2")
			if _, err := b.client.Say(ctx, &echopb.SayRequest{}); err != nil {
				t.Fatal(err)
			}
			stream, err := b.client.Chat(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err == nil || calls != 2 {
				t.Errorf("%d calls were served, want 2 (%v)", calls, err)
			}
		})
	}
}

package grpcmesh

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	"github.com/zerohop/zerohop/routing"
)

// announced notes what servers are told of attempts made before.
type announced struct {
	mu   sync.Mutex
	list []string
}

func (l *announced) add(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, strings.Join(md[attemptsKey], ",")+"/"+strings.Join(md["say"], ","))
}

func TestAttemptsTellOfThoseBefore(t *testing.T) {
	for name, tc := range map[string]struct {
		inbound   int
		stale     string
		propagate zerohop.Switch
		want      []string
	}{
		"none before":        {0, "", zerohop.Inherit, []string{"/please", "1/please", "2/please"}},
		"stale metadata":     {0, "7", zerohop.Inherit, []string{"/please", "1/please", "2/please"}},
		"not to be told":     {0, "7", zerohop.Off, []string{"7/please", "7/please", "7/please"}},
		"a repeated request": {2, "", zerohop.Inherit, []string{"2/please"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				spec := unlimited
				spec.Defaults.Propagate = tc.propagate
				b := setUp(t, 3, zerohop.Config{Spec: spec})
				b.warm(t)
				var log announced
				for _, s := range b.servers {
					s.do(func(ctx context.Context, _ string) error {
						log.add(ctx)
						return errUnavailable
					})
				}
				ctx := metadata.AppendToOutgoingContext(t.Context(), "say", "please")
				if tc.stale != "" {
					ctx = metadata.AppendToOutgoingContext(ctx, attemptsKey, tc.stale)
				}
				if tc.inbound > 0 {
					ctx = zerohop.WithInbound(ctx, &zerohop.Inbound{Attempt: tc.inbound})
				}
				if _, err := b.client.Say(ctx, &echopb.SayRequest{}); status.Code(err) != codes.Unavailable {
					t.Fatalf("Say() = %v, want UNAVAILABLE", err)
				}
				if got, want := strings.Join(log.list, " "), strings.Join(tc.want, " "); got != want {
					t.Errorf("the servers were told %q, want %q", got, want)
				}
			})
		})
	}
}

// A backup comes while the attempt before it runs, which may have reached its server all the same.
func TestBackupsTellOfTheAttemptBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 2, zerohop.Config{})
		b.warm(t)
		var log announced
		for i, s := range b.servers {
			s.do(func(ctx context.Context, text string) error {
				log.add(ctx)
				if s.calls.Load()+b.servers[1-i].calls.Load() == 1 {
					return hang(ctx, text)
				}
				return nil
			})
		}
		b.say(t)
		if got, want := strings.Join(log.list, " "), "/ 1/"; got != want {
			t.Errorf("the servers were told %q, want %q", got, want)
		}
	})
}

func TestMethodsHavePolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := unlimited
		spec.Policies = map[string]zerohop.Policy{"safe": {Idempotent: zerohop.On}, "unsafe": {Idempotent: zerohop.Off}}
		spec.Routes = []routing.Rule{
			{Name: "order", Match: routing.Match{Service: "orders", Path: routing.Path{Exact: echopb.Echo_Order_FullMethodName}}, Policy: "safe"},
			{Name: "say", Match: routing.Match{Service: "orders", Path: routing.Path{Exact: echopb.Echo_Say_FullMethodName}}, Policy: "unsafe"},
		}
		b := setUp(t, 3, zerohop.Config{Spec: spec})
		for _, s := range b.servers {
			s.do(func(context.Context, string) error { return errUnavailable })
		}
		for method, want := range map[string]int{echopb.Echo_Order_FullMethodName: 3, echopb.Echo_Say_FullMethodName: 1} {
			err := b.conn.Invoke(t.Context(), method, &echopb.SayRequest{}, &echopb.SayReply{}, grpc.WaitForReady(true))
			var e *zerohop.Error
			if !errors.As(err, &e) || len(e.Attempts) != want {
				t.Errorf("%s = %v, want %d attempts", method, err, want)
			}
		}
	})
}

func TestBackupsComeWhenTheirMethodIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := zerohop.Spec{Defaults: zerohop.Policy{Idempotent: zerohop.On}}
		b := setUp(t, 3, zerohop.Config{Spec: spec})
		b.warm(t)
		slow := func(ctx context.Context, _ string) error {
			if m, _ := grpc.Method(ctx); m == echopb.Echo_Order_FullMethodName {
				time.Sleep(400 * time.Millisecond)
			} else {
				time.Sleep(time.Millisecond)
			}
			return nil
		}
		for _, s := range b.servers {
			s.do(slow)
		}
		order := func() {
			if _, err := b.client.Order(t.Context(), &echopb.SayRequest{}); err != nil {
				t.Fatal(err)
			}
		}
		const calls = 100
		for range calls {
			order()
			for range 5 {
				b.say(t)
			}
		}
		got := b.servers[0].calls.Load() + b.servers[1].calls.Load() + b.servers[2].calls.Load()
		if want := int64(6 * calls); got != want {
			t.Errorf("the servers saw %d attempts, want %d: a fast method made backups of a slow one", got, want)
		}
		// A fast one that hangs gets its backup as if there were no slow one.
		var hung atomic.Bool
		for _, s := range b.servers {
			s.do(func(ctx context.Context, text string) error {
				if hung.CompareAndSwap(false, true) {
					return hang(ctx, text)
				}
				return nil
			})
		}
		start := time.Now()
		b.say(t)
		if got, want := time.Since(start), 50*time.Millisecond; got != want {
			t.Errorf("a hung call of the fast method took %v, want %v", got, want)
		}
	})
}

func TestRefusalsOfTheClientNameNoEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{})
		const secret = "canary-4711"
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", secret)
		for name, call := range map[string]func() error{
			"too large": func() error {
				_, err := b.client.Say(ctx, &echopb.SayRequest{Text: strings.Repeat("x", 100)}, grpc.MaxCallSendMsgSize(10))
				return err
			},
			"no message": func() error { return b.conn.Invoke(ctx, echopb.Echo_Say_FullMethodName, "text", &echopb.SayReply{}) },
			"no compressor": func() error {
				_, err := b.client.Say(ctx, &echopb.SayRequest{}, grpc.UseCompressor("none"))
				return err
			},
			"bad metadata": func() error {
				_, err := b.client.Say(metadata.AppendToOutgoingContext(ctx, "key", secret+"\n"), &echopb.SayRequest{})
				return err
			},
		} {
			err := call()
			if err == nil {
				t.Fatalf("%s: no error", name)
			}
			if strings.Contains(err.Error(), "10.0.0.") || strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error names an endpoint or a secret: %v", name, err)
			}
			var e *zerohop.Error
			if !errors.As(err, &e) {
				t.Errorf("%s: %v, want a *zerohop.Error", name, err)
				continue
			}
			for _, a := range e.Attempts {
				if a.Addr != "" {
					t.Errorf("%s: the record names endpoint %s", name, a.Addr)
				}
			}
		}
		b.idle(t)
	})
}

func TestMethodNamesFromOutsideHurtNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{Spec: unlimited})
		b.say(t)
		b.servers[0].calls.Store(0)
		for i, method := range []string{"", "/", "//", "Say", "zerohop.echo.v1.Echo/Say", "//zerohop.echo.v1.Echo/Say", "/zerohop.echo.v1.Echo%2fSay", "/zerohop.echo.v1.Echo/say"} {
			err := b.conn.Invoke(t.Context(), method, &echopb.SayRequest{Text: fmt.Sprint(i)}, &echopb.SayReply{})
			if err == nil {
				t.Errorf("Invoke(%q) = nil, want an error", method)
			}
		}
		if got := b.servers[0].calls.Load(); got != 0 {
			t.Errorf("%d calls reached Say", got)
		}
		b.idle(t)
	})
}

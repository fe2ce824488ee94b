package zerohop_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

var errGone = errors.New("gone")

// fallbackMesh has orders, for which orders-replica answers. The events are those of hooks.
func fallbackMesh(t *testing.T, orders zerohop.Policy, events *[]string) *zerohop.Mesh {
	t.Helper()
	orders.Fallback.Service = "orders-replica"
	orders.Retry.Base = 1
	m, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:80"}}, "orders-replica": {{Addr: "10.0.0.2:80"}}},
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{
			"orders":         orders,
			"orders-replica": {Idempotent: orders.Idempotent, Retry: zerohop.Retry{Attempts: 1}, Fallback: zerohop.Substitute{Service: "orders"}},
		}},
		Hooks: zerohop.Hooks{
			CallDone: func(_ context.Context, call zerohop.CallInfo, r zerohop.CallResult) {
				*events = append(*events, call.Service+" for ["+call.Instead+"] "+r.Outcome.String())
			},
			FellBack: func(_ context.Context, call zerohop.CallInfo, by string, err error) {
				*events = append(*events, call.Service+" fell back to ["+by+"]")
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestFallbackAnswersForAServiceThatFailed(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errGone}
	for name, test := range map[string]struct {
		policy  zerohop.Policy
		first   error // of orders
		second  error // of orders-replica
		want    string
		err     error
		calls   string
		visible []string
	}{
		"answer": {
			zerohop.Policy{Idempotent: zerohop.On}, nil, nil, "10.0.0.1:80", nil, "1",
			[]string{"orders for [] success"},
		},
		"safe to repeat": {
			zerohop.Policy{Idempotent: zerohop.On}, errGone, nil, "10.0.0.2:80", nil, "1112",
			[]string{"orders for [] failure", "orders-replica for [orders] success", "orders fell back to [orders-replica]"},
		},
		"not sent": {
			zerohop.Policy{}, dial, nil, "10.0.0.2:80", nil, "1112",
			[]string{"orders for [] failure", "orders-replica for [orders] success", "orders fell back to [orders-replica]"},
		},
		"not safe": {
			zerohop.Policy{}, errGone, nil, "", errGone, "1", []string{"orders for [] failure"},
		},
		"both fail": {
			zerohop.Policy{Idempotent: zerohop.On}, errGone, errBoom, "", errGone, "1112",
			[]string{"orders for [] failure", "orders-replica for [orders] failure"},
		},
		"switched off": {
			zerohop.Policy{Idempotent: zerohop.On, Fallback: zerohop.Substitute{Mode: zerohop.Off}}, errGone, nil, "", errGone, "111",
			[]string{"orders for [] failure"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var events []string
				m := fallbackMesh(t, test.policy, &events)
				defer m.Close()
				calls := ""
				got, err := zerohop.Do(t.Context(), m, "orders", func(_ context.Context, n *loadbalance.Node) (string, error) {
					if n.Addr() == "10.0.0.1:80" {
						calls += "1"
						return n.Addr(), test.first
					}
					calls += "2"
					return n.Addr(), test.second
				})
				if got != test.want || !errors.Is(err, test.err) || calls != test.calls {
					t.Errorf("Do() = %q, %v after calls of %s, want %q, %v after %s", got, err, calls, test.want, test.err, test.calls)
				}
				if !slices.Equal(events, test.visible) {
					t.Errorf("hooks heard %q, want %q", events, test.visible)
				}
			})
		})
	}
}

var errBoom = errors.New("boom")

func TestFallbackHasTheTimeThatIsLeft(t *testing.T) {
	for name, test := range map[string]struct {
		attempt time.Duration
		want    time.Duration // left to the fallback; 0 if there is none
	}{
		"some": {300 * time.Millisecond, 700 * time.Millisecond},
		"none": {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var events []string
				m := fallbackMesh(t, zerohop.Policy{
					Timeout: time.Second, AttemptTimeout: test.attempt, Idempotent: zerohop.On, Retry: zerohop.Retry{Attempts: 1},
				}, &events)
				defer m.Close()
				var left time.Duration
				begin := time.Now()
				_, err := zerohop.Do(t.Context(), m, "orders", func(ctx context.Context, n *loadbalance.Node) (int, error) {
					if n.Addr() == "10.0.0.2:80" {
						d, _ := ctx.Deadline()
						left = time.Until(d)
					}
					<-ctx.Done()
					return 0, ctx.Err()
				})
				if left != test.want || time.Since(begin) != time.Second || err == nil {
					t.Errorf("the fallback had %v, and the call took %v (%v), want %v and 1s", left, time.Since(begin), err, test.want)
				}
			})
		})
	}
}

func TestFallbackIsNotForThoseWhoHaveGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []string
		m := fallbackMesh(t, zerohop.Policy{Idempotent: zerohop.On}, &events)
		defer m.Close()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, err := zerohop.DoOr(ctx, m, "orders", func(ctx context.Context, n *loadbalance.Node) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}, func(context.Context, error) (string, error) { return "made up", nil })
		if !errors.Is(err, context.Canceled) || !slices.Equal(events, []string{"orders for [] neutral"}) {
			t.Errorf("Do() = %v with %q, want the cancellation alone", err, events)
		}
	})
}

func TestDoOrAnswersWhenNoServiceDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []string
		m := fallbackMesh(t, zerohop.Policy{Idempotent: zerohop.On}, &events)
		defer m.Close()
		broken := func(context.Context, *loadbalance.Node) (string, error) { return "", errGone }
		var made error
		fallback := func(_ context.Context, err error) (string, error) {
			e, ok := errors.AsType[*zerohop.Error](err)
			if !ok || e.Service != "orders" || len(e.Attempts) == 0 {
				t.Errorf("fallback got %v, want the error of the call", err)
			}
			return "made up", made
		}
		got, err := zerohop.DoOr(t.Context(), m, "orders", broken, fallback)
		if got != "made up" || err != nil || events[len(events)-1] != "orders fell back to []" {
			t.Errorf("DoOr() = %q, %v with %q, want what the function made up", got, err, events)
		}
		made, events = errBoom, nil
		if _, err = zerohop.DoOr(t.Context(), m, "orders", broken, fallback); !errors.Is(err, errBoom) || len(events) != 2 {
			t.Errorf("DoOr() = %v with %q, want the error of the function", err, events)
		}
		got, err = zerohop.DoOr(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (string, error) { return "real", nil }, fallback)
		if got != "real" || err != nil {
			t.Errorf("DoOr() = %q, %v, want the answer", got, err)
		}
	})
}

func TestFallbackIsValidated(t *testing.T) {
	_, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{}, Spec: zerohop.Spec{
		Defaults: zerohop.Policy{Fallback: zerohop.Substitute{Service: strings.Repeat("x", 300)}},
		Services: map[string]zerohop.Policy{"a": {Fallback: zerohop.Substitute{Service: "A", Mode: "maybe", Credentials: "some"}}},
	}})
	for _, want := range []string{
		"defaults.fallback.service: a name must have", "services.a.fallback.service: must be another service",
		"services.a.fallback.mode: must be", "services.a.fallback.credentials: must be",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New() = %v, want it to say %q", err, want)
		}
	}
	m, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{}, Spec: zerohop.Spec{
		Defaults: zerohop.Policy{Fallback: zerohop.Substitute{Service: "spare"}}, Services: map[string]zerohop.Policy{"a": {}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got, want := m.Reachable("a"), []string{"a", "spare"}; !slices.Equal(got, want) || !m.IsService("spare") {
		t.Errorf("Reachable(a) = %v, want %v", got, want)
	}
	if got, want := m.Reachable("spare"), []string{"spare"}; !slices.Equal(got, want) {
		t.Errorf("Reachable(spare) = %v, want %v", got, want)
	}
}

package zerohop

import (
	"context"
	"testing"

	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// sender is an Exchange made of a function.
type sender struct {
	call Call
	f    func(*Attempt) resilience.Verdict
}

func (s *sender) Attempt(_ context.Context, a *Attempt) resilience.Verdict { return s.f(a) }
func (s *sender) Release(*Attempt)                                         {}

func send(t *testing.T, ctx context.Context, m *Mesh, f func(*Attempt) resilience.Verdict) {
	t.Helper()
	s := &sender{f: f}
	a, err := s.call.Run(ctx, m, &Request{Request: routing.Request{Service: "orders"}}, s)
	if err != nil {
		t.Fatal(err)
	}
	a.End(a.Verdict().Outcome, nil)
}

func TestAttemptsKnowWhetherOthersMayFollow(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy Policy
		want   bool
	}{
		{"default", Policy{}, false}, {"idempotent", Policy{Idempotent: On}, true},
		{"one attempt", Policy{Idempotent: On, Retry: Retry{Attempts: 1}}, false},
		{"backups only", Policy{Idempotent: On, Retry: Retry{Mode: Off}}, true},
		{"neither", Policy{Idempotent: On, Retry: Retry{Mode: Off}, Backup: Backup{Mode: Off}}, false},
	} {
		m := open(t, Config{Resolver: orders(1), Spec: Spec{Defaults: c.policy}})
		send(t, t.Context(), m, func(a *Attempt) resilience.Verdict {
			if got := a.Repeatable(); got != c.want {
				t.Errorf("%s: Repeatable() = %v, want %v", c.name, got, c.want)
			}
			a.Status = 0
			return resilience.Verdict{}
		})
	}
}

func TestResendsAreReportedAndPaidFor(t *testing.T) {
	var done AttemptResult
	m := open(t, Config{Resolver: orders(1), Hooks: Hooks{
		AttemptDone: func(_ context.Context, _ CallInfo, _ AttemptInfo, r AttemptResult) { done = r },
	}})
	ctx, report := WithReport(t.Context())
	send(t, ctx, m, func(a *Attempt) resilience.Verdict {
		a.Resent(2)
		a.Status = 0
		return resilience.Verdict{Outcome: resilience.Neutral}
	})
	if records := report.Calls()[0].Attempts; done.Resends != 2 || records[0].Resends != 2 {
		t.Errorf("AttemptDone got %+v, the report has %+v, want 2 resends", done, records)
	}
	target, _, err := m.target(&routing.Request{Service: "orders"}, new(uint64))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := target.service.budget.Level(), 0.8; got != want {
		t.Errorf("budget = %v of its size, want %v", got, want)
	}
}

func TestStreamsEndBeforeTheirCallerGoesOn(t *testing.T) {
	m := open(t, Config{Resolver: orders(1)})
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		var over <-chan struct{}
		s := &streamer{begin: func(ctx context.Context, a *Attempt) resilience.Verdict {
			over, a.Status = ctx.Done(), 0
			return resilience.Verdict{}
		}}
		a, err := s.call.Run(ctx, m, &Request{Request: routing.Request{Service: "orders"}, Stream: true}, s)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		select {
		case <-over:
		default:
			t.Fatal("the attempt goes on after the call was cancelled")
		}
		a.End(resilience.Neutral, nil)
	}
}

// streamer is an Exchange whose attempts go on after they have answered.
type streamer struct {
	call  Call
	begin func(context.Context, *Attempt) resilience.Verdict
}

func (s *streamer) Attempt(ctx context.Context, a *Attempt) resilience.Verdict {
	return s.begin(ctx, a)
}
func (s *streamer) Release(*Attempt) {}

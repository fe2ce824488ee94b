package resilience

import (
	"testing"
	"time"
)

func TestPausedCallsMakeNoOtherAttempt(t *testing.T) {
	begin := Event{Kind: Begin}
	failed := Verdict{Outcome: Failure, Retry: true}
	unsent := Verdict{Outcome: Failure, Retry: true, Unsent: true}
	after := Verdict{Outcome: Failure, Retry: true, After: 10 * time.Millisecond}
	for _, tt := range []struct {
		name   string
		backup time.Duration
		events []Event
		want   Action
	}{
		{"a failure", 0, []Event{begin, {Kind: Done, Verdict: failed, Paused: true}}, Action{Kind: Finish, Reason: Paused}},
		{"one that was not sent", 0, []Event{begin, {Kind: Done, Verdict: unsent, Paused: true}}, Action{Kind: Finish, Reason: Paused}},
		{"a success", 0, []Event{begin, {Kind: Done, Verdict: Verdict{Outcome: Success}, Paused: true}}, Action{Kind: Finish}},
		{"one that would not be repeated", 0, []Event{begin, {Kind: Done, Verdict: Verdict{Outcome: Failure}, Paused: true}}, Action{Kind: Finish}},
		{"a pause before a retry", 0, []Event{begin, {Kind: Done, Verdict: after}, {Kind: Tick, Paused: true}}, Action{Kind: Finish, Reason: Paused}},
		{"a first attempt without an endpoint", 0, []Event{begin, {Kind: Rejected, Paused: true}}, Action{Kind: Finish, Attempt: -1, Reason: Unroutable}},
		{"a slow one", 10 * time.Millisecond, []Event{begin, {Kind: Tick, Paused: true}}, Action{Kind: Wait}},
		{"a slow one after the end", 10 * time.Millisecond, []Event{begin, {Kind: Tick, Paused: true}, {Kind: Tick}}, Action{Kind: Launch, Cause: Backup, Attempt: 1}},
		{"a retry without an endpoint", 0, []Event{begin, {Kind: Done, Verdict: unsent}, {Kind: Done, Attempt: 1, Verdict: failed, Paused: true}},
			Action{Kind: Finish, Attempt: 1, Reason: Paused}},
	} {
		c := Call{Config: CallConfig{Attempts: 3, Idempotent: true, Backup: tt.backup, Budget: NewBudget(BudgetConfig{})}}
		var now time.Duration
		var act Action
		for _, ev := range tt.events {
			if ev.Kind == Tick {
				now = c.Wake()
			}
			act = c.Step(now, &ev)
		}
		if act != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, act, tt.want)
		}
		if spent := c.Config.Budget.tokens.Load(); act.Kind == Wait && spent != 10*milli {
			t.Errorf("%s: %d of the budget is left, want all", tt.name, spent)
		}
	}
}

package resilience

import (
	"fmt"
	"math"
	"testing"
	"time"
)

const ms = time.Millisecond

// at returns the time d after the call began.
func at(d time.Duration) time.Duration { return epoch + d }

func end(attempt int, v Verdict) Event {
	return Event{Kind: Done, Attempt: attempt, Verdict: v, Random: math.MaxUint64 / 2}
}

// step makes a step with an event that has no name.
func step(c *Call, now time.Duration, ev Event) Action { return c.Step(now, &ev) }

// next is what follows from a step.
type next struct {
	Action
	wake time.Duration
}

func TestCallSemantics(t *testing.T) {
	var (
		ok          = Verdict{Outcome: Success}
		fail        = Verdict{Outcome: Failure}
		retry       = Verdict{Outcome: Failure, Retry: true}
		unsent      = Verdict{Outcome: Failure, Retry: true, Unsent: true}
		misdirected = Verdict{Outcome: Success, Retry: true, Unsent: true}
		noMore      = Verdict{Outcome: Failure, Retry: true, After: -1}
		busy        = Verdict{Outcome: Overload, Retry: true, After: 40 * ms}
		month       = Verdict{Outcome: Overload, Retry: true, After: 720 * time.Hour}
		shed        = Verdict{Outcome: Overload, Retry: true, Unsent: true}
		neutral     = Verdict{Outcome: Neutral}
		stale       = Verdict{Outcome: Neutral, Retry: true}

		wait   = next{Action: Action{Kind: Wait}}
		launch = func(i int) next { return next{Action: Action{Kind: Launch, Attempt: i}} }
		repeat = func(i int) next { return next{Action: Action{Kind: Launch, Cause: Repeat, Attempt: i}} }
		resend = func(i int) next { return next{Action: Action{Kind: Launch, Cause: Resend, Attempt: i}} }
		backup = func(i int) next { return next{Action: Action{Kind: Launch, Cause: Backup, Attempt: i}} }
		finish = func(i int, r Reason) next { return next{Action: Action{Kind: Finish, Attempt: i, Reason: r}} }
		until  = func(n next, d time.Duration) next { n.wake = at(d); return n }

		begin    = Event{Kind: Begin}
		tick     = Event{Kind: Tick}
		rejected = func(i int) Event { return Event{Kind: Rejected, Attempt: i} }
		free     = func(ev Event) Event { ev.Elsewhere = true; return ev }
		answer   = func(ev Event) Event { ev.Answer = true; return ev }
		stuck    = func(ev Event) Event { ev.Nowhere = true; return ev }
		// The random words are just below a half: a pause is just below half of its interval.
		first = 25*ms/2 - 1
	)
	type step struct {
		at   time.Duration
		ev   Event
		want next
	}
	safe := CallConfig{Attempts: 3, Idempotent: true}
	backed := CallConfig{Attempts: 3, Idempotent: true, Backup: 50 * ms}
	for _, tt := range []struct {
		name   string
		config CallConfig
		steps  []step
	}{
		{"success", CallConfig{}, []step{{0, begin, launch(0)}, {ms, end(0, ok), finish(0, Answered)}, {ms, tick, wait}}},
		{"attempts below the range count as one", CallConfig{Attempts: -1, Idempotent: true},
			[]step{{0, begin, launch(0)}, {0, end(0, retry), finish(0, Exhausted)}}},
		{"a failure that no retry helps against", safe, []step{{0, begin, launch(0)}, {0, end(0, fail), finish(0, Answered)}}},
		{"neutral", safe, []step{{0, begin, launch(0)}, {0, end(0, neutral), finish(0, Answered)}}},
		{"retries double their pause", safe, []step{
			{0, begin, launch(0)}, {0, end(0, retry), until(wait, first)},
			{first - 1, tick, until(wait, first)}, {first, tick, repeat(1)},
			{20 * ms, end(1, retry), until(wait, 45*ms-1)}, {time.Second, tick, repeat(2)},
			{time.Second, end(2, retry), finish(2, Exhausted)},
		}},
		{"retries switched off", CallConfig{Attempts: 3, Idempotent: true, NoRetry: true},
			[]step{{0, begin, launch(0)}, {0, end(0, retry), finish(0, Exhausted)}}},
		{"not safe to repeat", CallConfig{Attempts: 3}, []step{{0, begin, launch(0)}, {0, end(0, retry), finish(0, Unsafe)}}},
		{"what was not sent is safe to repeat and needs no pause", CallConfig{Attempts: 3}, []step{
			{0, begin, launch(0)}, {0, end(0, unsent), resend(1)}, {0, end(1, retry), finish(1, Unsafe)},
		}},
		{"what was not sent pauses before it goes to the only endpoint a third time", CallConfig{Attempts: 4}, []step{
			{0, begin, launch(0)}, {0, stuck(end(0, unsent)), resend(1)}, {0, stuck(end(1, unsent)), until(wait, 25*ms-1)},
			{25 * ms, tick, resend(2)}, {25 * ms, end(2, unsent), resend(3)}, {25 * ms, end(3, unsent), finish(3, Exhausted)},
		}},
		{"a neutral failure worth repeating", safe, []step{
			{0, begin, launch(0)}, {0, end(0, stale), until(wait, first)}, {first, tick, repeat(1)}, {first, end(1, neutral), finish(1, Answered)},
		}},
		{"a call for a repeated request", CallConfig{Attempts: 3, Idempotent: true, Nested: true, Backup: 50 * ms}, []step{
			{0, begin, launch(0)}, {0, end(0, unsent), resend(1)}, {0, end(1, retry), finish(1, Nested)},
		}},
		{"what was sent is gone", CallConfig{Attempts: 3, Idempotent: true}, []step{
			{0, begin, launch(0)},
			{0, Event{Kind: Done, Verdict: Verdict{Outcome: Failure, Retry: true}, Unrepeatable: true}, finish(0, Unrepeatable)},
		}},
		{"what was sent turns out to be gone", CallConfig{Attempts: 3, Idempotent: true}, []step{
			{0, begin, launch(0)}, {0, end(0, unsent), resend(1)},
			{0, Event{Kind: Rejected, Attempt: 1, Unrepeatable: true}, finish(0, Unrepeatable)},
		}},
		{"a call for a repeated request that is not safe either", CallConfig{Attempts: 3, Nested: true},
			[]step{{0, begin, launch(0)}, {0, end(0, retry), finish(0, Unsafe)}}},
		{"a misdirected request is repeated once", CallConfig{Attempts: 5}, []step{
			{0, begin, launch(0)}, {0, end(0, misdirected), resend(1)}, {0, end(1, misdirected), finish(1, Answered)},
		}},
		{"the server's pause", safe, []step{
			{0, begin, launch(0)}, {0, end(0, busy), until(wait, 40*ms)}, {39 * ms, tick, until(wait, 40*ms)}, {40 * ms, tick, repeat(1)},
		}},
		{"the server's pause is not for others", safe, []step{
			{0, begin, launch(0)}, {0, free(end(0, month)), until(wait, first)}, {first, tick, repeat(1)},
		}},
		{"the server's pause is bounded", CallConfig{Attempts: 3, Idempotent: true, Deadline: at(time.Hour)},
			[]step{{0, begin, launch(0)}, {0, end(0, month), until(wait, time.Minute)}}},
		{"a long pause is not for a call without a deadline", safe,
			[]step{{0, begin, launch(0)}, {0, end(0, month), finish(0, OutOfTime)}}},
		{"a pause beyond the deadline", CallConfig{Attempts: 3, Idempotent: true, Deadline: at(41*ms - 1)},
			[]step{{0, begin, launch(0)}, {0, end(0, busy), finish(0, OutOfTime)}}},
		{"a pause just within the deadline", CallConfig{Attempts: 3, Idempotent: true, Deadline: at(41 * ms)},
			[]step{{0, begin, launch(0)}, {0, end(0, busy), until(wait, 40*ms)}, {40*ms + 1, tick, finish(0, OutOfTime)}}},
		{"too little time for another attempt", CallConfig{Attempts: 3, Deadline: at(10 * ms), MinRemaining: 5 * ms},
			[]step{{0, begin, launch(0)}, {5 * ms, end(0, unsent), resend(1)}, {5*ms + 1, end(1, unsent), finish(1, OutOfTime)}}},
		{"the server wants no retry", safe, []step{{0, begin, launch(0)}, {0, end(0, noMore), finish(0, Declined)}}},
		{"the server wants no retry, nor a backup", backed, []step{
			{0, begin, until(launch(0), 50*ms)}, {50 * ms, tick, until(backup(1), 100*ms)},
			{60 * ms, end(0, noMore), until(wait, 100*ms)}, {100 * ms, tick, wait}, {101 * ms, end(1, retry), finish(1, Declined)},
		}},
		{"canceled", safe, []step{{0, begin, launch(0)}, {0, Event{Kind: Cancel}, finish(-1, Canceled)}, {0, end(0, ok), wait}}},
		{"canceled in a pause", safe, []step{
			{0, begin, launch(0)}, {0, end(0, busy), until(wait, 40*ms)}, {ms, Event{Kind: Cancel}, finish(-1, Canceled)}, {40 * ms, tick, wait},
		}},
		{"no endpoint", safe, []step{{0, begin, launch(0)}, {0, rejected(0), finish(-1, Unroutable)}}},
		{"no endpoint for the retry", safe, []step{
			{0, begin, launch(0)}, {0, end(0, unsent), resend(1)}, {0, rejected(1), finish(0, Unroutable)},
		}},
		{"the backup wins", backed, []step{
			{0, begin, until(launch(0), 50*ms)}, {49 * ms, tick, until(wait, 50*ms)}, {50 * ms, tick, until(backup(1), 100*ms)},
			{60 * ms, end(1, ok), finish(1, Answered)}, {60 * ms, end(0, neutral), wait},
		}},
		{"an early failure waits for the other attempt", backed, []step{
			{0, begin, until(launch(0), 50*ms)}, {50 * ms, tick, until(backup(1), 100*ms)},
			{60 * ms, end(0, fail), until(wait, 100*ms)}, {70 * ms, end(1, ok), finish(1, Answered)},
		}},
		{"backups of backups", backed, []step{
			{0, begin, until(launch(0), 50*ms)}, {50 * ms, tick, until(backup(1), 100*ms)}, {100 * ms, tick, backup(2)},
			{110 * ms, end(1, retry), wait}, {110 * ms, end(2, retry), wait}, {120 * ms, end(0, retry), finish(0, Exhausted)},
		}},
		{"no backup for what must not run twice", CallConfig{Attempts: 3, Backup: 50 * ms},
			[]step{{0, begin, launch(0)}, {50 * ms, tick, wait}}},
		{"no backup without time", CallConfig{Attempts: 3, Idempotent: true, Backup: 50 * ms, Deadline: at(60 * ms), MinRemaining: 11 * ms},
			[]step{{0, begin, until(launch(0), 50*ms)}, {50 * ms, tick, wait}}},
		{"a rejected backup is not an attempt, and asked for again later", CallConfig{Attempts: 2, Idempotent: true, Backup: 50 * ms}, []step{
			{0, begin, until(launch(0), 50*ms)}, {50 * ms, tick, backup(1)}, {51 * ms, rejected(1), until(wait, 101*ms)},
			{101 * ms, tick, backup(2)}, {101 * ms, rejected(2), until(wait, 151*ms)},
			{110 * ms, end(0, unsent), resend(3)}, {110 * ms, end(3, retry), finish(3, Exhausted)},
		}},
		{"rejected backups leave a place for every retry", backed, []step{
			{0, begin, until(launch(0), 50*ms)}, {50 * ms, tick, until(backup(1), 100*ms)}, {50 * ms, rejected(1), until(wait, 100*ms)},
			{100 * ms, tick, until(backup(2), 150*ms)}, {100 * ms, rejected(2), wait}, {999 * ms, tick, wait},
			{999 * ms, end(0, unsent), resend(3)}, {999 * ms, end(3, unsent), resend(4)}, {999 * ms, end(4, retry), finish(4, Exhausted)},
		}},
		{"an answer is better than a later error", safe, []step{
			{0, begin, launch(0)}, {0, answer(end(0, retry)), until(wait, first)}, {first, tick, repeat(1)},
			{first, end(1, unsent), resend(2)}, {first, end(2, retry), finish(0, Exhausted)},
		}},
		{"a later answer is better than an earlier one", backed, []step{
			{0, begin, until(launch(0), 50*ms)}, {50 * ms, tick, until(backup(1), 100*ms)}, {60 * ms, answer(end(1, fail)), until(wait, 100*ms)},
			{70 * ms, answer(end(0, fail)), finish(0, Answered)},
		}},
		{"no time left at all", CallConfig{Attempts: 3, Deadline: at(10 * ms)}, []step{{10 * ms, begin, finish(-1, OutOfTime)}, {10 * ms, begin, wait}}},
		{"hardly any time left", CallConfig{Attempts: 3, Deadline: at(10 * ms), MinRemaining: time.Second},
			[]step{{10*ms - 1, begin, launch(0)}, {10 * ms, end(0, ok), finish(0, Answered)}}},
		{"refused because of overload", CallConfig{Attempts: 3}, []step{
			{0, begin, launch(0)}, {0, end(0, shed), until(wait, first)}, {first, tick, repeat(1)}, {first, end(1, retry), finish(1, Unsafe)},
		}},
		{"refused because of overload, while made for a repeated request", CallConfig{Attempts: 3, Nested: true},
			[]step{{0, begin, launch(0)}, {0, end(0, shed), finish(0, Nested)}}},
		{"a failure that meets a rejected backup is repeated", backed, []step{
			{0, begin, until(launch(0), 50*ms)}, {50 * ms, tick, until(backup(1), 100*ms)}, {50 * ms, end(0, retry), until(wait, 100*ms)},
			{50 * ms, rejected(1), until(wait, 50*ms+first)}, {100 * ms, tick, until(repeat(2), 150*ms)}, {100 * ms, rejected(2), finish(0, Unroutable)},
		}},
		{"stale events", safe, []step{
			{0, begin, launch(0)}, {0, begin, wait}, {0, end(1, ok), wait}, {0, end(-1, ok), wait}, {0, rejected(7), wait},
			{0, end(0, unsent), resend(1)}, {0, end(0, ok), wait}, {0, rejected(0), wait}, {0, end(1, ok), finish(1, Answered)},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Call{Config: tt.config}
			for i, s := range tt.steps {
				if got := (next{c.Step(at(s.at), &s.ev), c.Wake()}); got != s.want {
					t.Fatalf("step %d: Step(%v, %+v) = %+v, want %+v", i, s.at, s.ev, got, s.want)
				}
			}
		})
	}
}

func TestCallNeverExceedsMaxAttempts(t *testing.T) {
	c := Call{Config: CallConfig{Attempts: 100}}
	act := c.Step(epoch, &Event{Kind: Begin})
	for act.Kind == Launch {
		act = step(&c, epoch, end(act.Attempt, Verdict{Outcome: Failure, Retry: true, Unsent: true}))
	}
	if got, want := act, (Action{Kind: Finish, Attempt: MaxAttempts - 1, Reason: Exhausted}); got != want {
		t.Errorf("last action = %+v, want %+v", got, want)
	}
	if got, want := c.Launched(), MaxAttempts; got != want {
		t.Errorf("Launched() = %d, want %d", got, want)
	}
}

// A service that is down for everybody costs one execution a call once the budget is spent.
func TestCallsStopRetryingWhenTheBudgetIsSpent(t *testing.T) {
	b := NewBudget(BudgetConfig{})
	sent := 0
	const calls = 100
	for range calls {
		c := Call{Config: CallConfig{Attempts: 3, Idempotent: true, Budget: b}}
		now := epoch
		for act := c.Step(now, &Event{Kind: Begin}); act.Kind != Finish; {
			if act.Kind == Launch {
				sent++
				act = step(&c, now, end(act.Attempt, Verdict{Outcome: Failure, Retry: true}))
			} else {
				now = c.Wake()
				act = c.Step(now, &Event{Kind: Tick})
			}
		}
	}
	if got, limit := sent-calls, defaultTokens/2; got > limit || got == 0 {
		t.Errorf("%d retries, want 1 to %d", got, limit)
	}
}

func TestRejectedBackupsCostNothing(t *testing.T) {
	b := NewBudget(BudgetConfig{Tokens: 4})
	for range 10 {
		c := Call{Config: CallConfig{Attempts: 2, Idempotent: true, Backup: ms, Budget: b}}
		c.Step(epoch, &Event{Kind: Begin})
		if got, want := c.Step(at(ms), &Event{Kind: Tick}).Kind, Launch; got != want {
			t.Fatalf("overdue: %v, want %v", got, want)
		}
		c.Step(at(ms), &Event{Kind: Rejected, Attempt: 1})
	}
	if got, want := b.Level(), 1.0; got != want {
		t.Errorf("Level() = %v, want %v", got, want)
	}
}

func TestCallCostsNoAllocation(t *testing.T) {
	b := NewBudget(BudgetConfig{})
	c := Call{Config: CallConfig{Attempts: 3, Idempotent: true, Backup: ms, Budget: b}}
	got := testing.AllocsPerRun(100, func() {
		call := c
		call.Step(epoch, &Event{Kind: Begin})
		call.Step(epoch, &Event{Kind: Done})
	})
	if got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

func TestNames(t *testing.T) {
	for r, want := range []string{"answered", "attempts exhausted", "not safe to repeat", "retry budget empty", "no time left to retry", "no endpoint", "canceled", "server wants no retry", "made for a repeated request", "cannot be sent again", "refused by the client", "not critical enough to repeat", "fault injected", "fixed response", "retries paused", "unknown"} {
		if got := Reason(r).String(); got != want {
			t.Errorf("Reason(%d) = %q, want %q", r, got, want)
		}
	}
	for c, want := range []string{"first", "retry", "resend", "backup", "unknown"} {
		if got := Cause(c).String(); got != want {
			t.Errorf("Cause(%d) = %q, want %q", c, got, want)
		}
	}
	for o, want := range []string{"success", "failure", "overload", "neutral", "unknown"} {
		if got := Outcome(o).String(); got != want {
			t.Errorf("Outcome(%d) = %q, want %q", o, got, want)
		}
	}
}

// FuzzCall plays a stream of events, two bytes each, and checks every step as the exploration does.
func FuzzCall(f *testing.F) {
	f.Add(uint8(3), uint8(3), []byte{0, 0, 0, 0})
	f.Add(uint8(5), uint8(7), []byte{0, 0, 9, 1, 30, 0, 4, 1, 22, 5})
	f.Fuzz(func(t *testing.T, attempts, flags uint8, events []byte) {
		c := CallConfig{Attempts: int(attempts % 8), Idempotent: flags&1 != 0, NoRetry: flags&8 != 0, Nested: attempts&64 != 0}
		c.Criticality = Criticality(attempts >> 3 & 3)
		if flags&2 != 0 {
			c.Backup = 20 * ms
		}
		if flags&4 != 0 {
			c.Deadline, c.MinRemaining = at(time.Duration(flags>>5)*10*ms), 5*ms
		}
		var budget *BudgetConfig
		if flags&16 != 0 {
			budget = &BudgetConfig{Kind: []string{"", BudgetGRPC, BudgetConcurrent, BudgetRatio}[flags>>5&3]}
			if budget.Kind == "" || budget.Kind == BudgetGRPC {
				budget.Tokens = float64(flags >> 5)
			} else {
				budget.Floor = float64(flags>>7) / 10
			}
		}
		x, w := newExplorer(c, budget)
		if attempts&128 != 0 {
			w.funds.resends = min(w.funds.resends, milli)
		}
		x.kinds = x.kinds[:0]
		for k := range verdicts {
			x.kinds = append(x.kinds, int8(k))
		}
		for ; len(events) >= 2; events = events[2:] {
			moves := x.moves(&w)
			m := moves[int(events[0])%len(moves)]
			if later := m.at + time.Duration(events[1])*ms/4; w.call.launched > 0 {
				m.at = later
			}
			var err error
			if w, err = x.step(w, m); err != nil {
				t.Fatal(err)
			}
		}
		if w.call.launched == 0 {
			return
		}
		if err := x.complete(w); err != nil {
			t.Fatal(err)
		}
	})
}

// ExampleCall shows the loop of a driver that makes one attempt at a time.
func ExampleCall() {
	attempt := func(i int) Verdict { return HTTPStatus([]int{503, 503, 200}[i], 0) }

	call := Call{Config: CallConfig{Attempts: 3, Idempotent: true}}
	now := time.Duration(0) // stands still here; a real driver reads its clock, and sleeps until call.Wake
	act := call.Step(now, &Event{Kind: Begin})
	for act.Kind != Finish {
		if act.Kind == Launch {
			fmt.Println("attempt", act.Attempt)
			act = call.Step(now, &Event{Kind: Done, Attempt: act.Attempt, Verdict: attempt(act.Attempt), Random: 1 << 63})
		} else {
			now = call.Wake()
			act = call.Step(now, &Event{Kind: Tick})
		}
	}
	fmt.Println(act.Reason, "by attempt", act.Attempt)
	// Output:
	// attempt 0
	// attempt 1
	// attempt 2
	// answered by attempt 2
}

func BenchmarkCall(b *testing.B) {
	config := CallConfig{Attempts: 3, Idempotent: true, Backup: 50 * ms, Budget: NewBudget(BudgetConfig{})}
	b.ReportAllocs()
	for b.Loop() {
		c := Call{Config: config}
		c.Step(epoch, &Event{Kind: Begin})
		if c.Step(epoch, &Event{Kind: Done}).Kind != Finish {
			b.Fatal("not finished")
		}
	}
}

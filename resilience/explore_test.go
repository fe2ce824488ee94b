package resilience

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// world is a call together with everything that its future, and the checks on it, depend on.
type world struct {
	call   Call // its Config lives in the explorer
	now    time.Duration
	funds  funds
	wake   time.Duration
	over   bool
	log    [MaxAttempts]entry
	latest int8 // attempt that ended last with a verdict, -1 if none
}

// funds is what is left of a budget.
type funds struct{ tokens, resends, calls, active, extra int64 }

// entry is what the outside knows about an attempt.
type entry struct {
	state attemptState
	kind  int8 // of the verdict, if it failed or succeeded
	end   int8 // how many ended before it did
	cause Cause
}

type attemptState uint8

const (
	idle attemptState = iota
	running
	failed
	rejected
)

// verdicts are the ways for an attempt to end; the random word is that of the Done event.
var verdicts = []struct {
	Verdict
	random    uint64
	elsewhere bool
	answer    bool
}{
	{Verdict: Verdict{Outcome: Success}, answer: true},
	{Verdict: Verdict{Outcome: Success, Retry: true, Unsent: true}, answer: true},
	{Verdict: Verdict{Outcome: Failure}, answer: true},
	{Verdict: Verdict{Outcome: Failure, Retry: true}},
	{Verdict: Verdict{Outcome: Failure, Retry: true}, random: math.MaxUint64, answer: true},
	{Verdict: Verdict{Outcome: Failure, Retry: true, Unsent: true}},
	{Verdict: Verdict{Outcome: Failure, Retry: true, After: -1}},
	{Verdict: Verdict{Outcome: Overload, Retry: true, After: 7 * time.Millisecond}},
	{Verdict: Verdict{Outcome: Overload, Retry: true, After: math.MaxInt64}},
	{Verdict: Verdict{Outcome: Neutral}},
	{Verdict: Verdict{Outcome: Neutral, Retry: true}},
	{Verdict: Verdict{Outcome: Overload, Retry: true, After: math.MaxInt64}, elsewhere: true},
	{Verdict: Verdict{Outcome: Overload, Retry: true, Unsent: true}, answer: true},
}

func done(attempt int, kind int8) Event {
	v := verdicts[kind]
	return Event{Kind: Done, Attempt: attempt, Verdict: v.Verdict, Random: v.random, Elsewhere: v.elsewhere, Answer: v.answer}
}

// explorer steps worlds of one configuration, and checks every step.
type explorer struct {
	config CallConfig
	budget *Budget
	kinds  []int8 // the verdicts it tries
}

// epoch is when calls begin.
const epoch = time.Hour

func newExplorer(c CallConfig, budget *BudgetConfig) (*explorer, world) {
	x := &explorer{config: c}
	for k := range verdicts {
		x.kinds = append(x.kinds, int8(k))
	}
	switch { // with all of them, many attempts have millions of states
	case raceEnabled && c.Attempts > 3:
		x.kinds = []int8{0, 4, 5}
	case c.Attempts > 3:
		x.kinds = []int8{0, 2, 3, 4, 5, 7, 12}
	case raceEnabled && c.Attempts == 3:
		x.kinds = []int8{0, 1, 3, 4, 5, 7, 12}
	}
	w := world{now: epoch, latest: -1}
	if budget != nil {
		x.budget = NewBudget(*budget)
		x.config.Budget = x.budget
		x.budget.successes.ends.Store(math.MaxInt64) // time does not pass for it
		if x.budget.calls != nil {
			x.budget.calls.ends.Store(math.MaxInt64)
		}
		w.funds = x.funds()
	}
	return x, w
}

// funds returns what is left of the budget.
func (x *explorer) funds() (f funds) {
	b := x.budget
	if b == nil {
		return f
	}
	f = funds{tokens: b.tokens.Load(), resends: b.resends.Load(), active: b.active.Load(), extra: b.extra.Load()}
	if b.calls != nil {
		f.calls = b.calls.sum()
	}
	return f
}

// fund sets what is left of the budget.
func (x *explorer) fund(f funds) {
	b := x.budget
	if b == nil {
		return
	}
	b.tokens.Store(f.tokens)
	b.resends.Store(f.resends)
	b.active.Store(f.active)
	b.extra.Store(f.extra)
	if b.calls != nil {
		b.calls.total.Store(f.calls)
		for i := range b.calls.cells {
			b.calls.cells[i].n.Store(0)
		}
	}
}

// move is an event at a time.
type move struct {
	ev   Event
	kind int8 // of the verdict of a Done
	at   time.Duration
}

func (m move) String() string {
	return fmt.Sprintf("{%d attempt %d %+v at %v}", m.ev.Kind, m.ev.Attempt, m.ev.Verdict, m.at-epoch)
}

// moves lists what can happen next. Attempts that do not run are reported, too: a driver may be late.
func (x *explorer) moves(w *world) []move {
	if w.call.launched == 0 {
		return []move{{ev: Event{Kind: Begin}, at: w.now}}
	}
	list := []move{{ev: Event{Kind: Cancel}, at: w.now}, {ev: Event{Kind: Begin}, at: w.now}}
	launched := w.call.Launched()
	for i := -1; i <= launched; i++ {
		list = append(list, move{ev: Event{Kind: Rejected, Attempt: i}, at: w.now},
			move{ev: Event{Kind: Rejected, Attempt: i, Unrepeatable: true}, at: w.now})
		kinds := x.kinds
		if w.over || i < 0 || i == launched || w.log[i].state != running {
			kinds = kinds[:1]
		}
		for _, k := range kinds {
			list = append(list, move{done(i, k), k, w.now})
			if w.wake > w.now && len(kinds) > 1 { // at the same time as the tick, which comes after it or not at all
				list = append(list, move{done(i, k), k, w.wake})
			}
		}
	}
	tick := Event{Kind: Tick}
	if w.wake == 0 {
		return append(list, move{ev: tick, at: w.now})
	}
	for _, late := range []time.Duration{-time.Microsecond, 0, 3 * time.Millisecond} {
		if at := w.wake + late; at >= w.now {
			list = append(list, move{ev: tick, at: at})
		}
	}
	return list
}

// step makes a move in a copy of the world. It returns the copy, or what is wrong with the step.
func (x *explorer) step(w world, m move) (world, error) {
	before := w
	w.call.Config = x.config
	x.fund(w.funds)
	act := w.call.Step(m.at, &m.ev)
	w.call.Config = CallConfig{}
	w.funds = x.funds()
	w.now, w.wake = m.at, w.call.Wake()

	valid := false // the event is about an attempt that runs
	if i := m.ev.Attempt; !before.over && (m.ev.Kind == Done || m.ev.Kind == Rejected) && i >= 0 && i < before.call.Launched() {
		if valid = before.log[i].state == running; valid && m.ev.Kind == Done {
			w.log[i].state, w.log[i].kind, w.log[i].end, w.latest = failed, m.kind, before.ended(), int8(i)
		} else if valid {
			w.log[i].state = rejected
		}
	}
	var err error
	switch {
	case before.over:
		if act != (Action{Kind: Wait}) || w.call != before.call || w.funds != before.funds {
			err = fmt.Errorf("%+v after Finish", act)
		}
	case (m.ev.Kind == Done || m.ev.Kind == Rejected || m.ev.Kind == Begin && before.call.launched > 0) && !valid:
		if act.Kind != Wait || w.call != before.call || w.funds != before.funds {
			err = fmt.Errorf("a stale event changes the call: %+v", act)
		}
	case act.Kind == Launch:
		err = x.checkLaunch(&before, &w, m, act)
		w.log[act.Attempt%MaxAttempts].state = running
		w.log[act.Attempt%MaxAttempts].cause = act.Cause
	case act.Kind == Finish:
		err = x.checkFinish(&before, &w, m, act)
		w.over = true
	default:
		err = x.checkWait(&before, &w, m)
	}
	if err == nil {
		err = x.checkState(&before, &w, m, valid, act)
	}
	if err != nil {
		err = fmt.Errorf("%v -> %+v: %w", m, act, err)
	}
	return w, err
}

// complete lets every attempt fail, and checks that the call ends.
func (x *explorer) complete(w world) error {
	for range 6 * MaxAttempts {
		if w.over {
			return nil
		}
		m := move{ev: Event{Kind: Tick}, at: w.wake}
		for i, e := range w.log {
			if e.state == running {
				m = move{done(i, 3), 3, w.now}
			}
		}
		var err error
		if w, err = x.step(w, m); err != nil {
			return err
		}
	}
	return fmt.Errorf("the call does not end though all attempts do")
}

// key returns the state by which worlds are known that have the same future. Without a deadline it does not matter when
// that begins.
func (x *explorer) key(w world) world {
	if w.over {
		w.call, w.log = Call{finished: true}, [MaxAttempts]entry{}
		w.call.launched = 1
		w.now, w.funds = 0, funds{}
		return w
	}
	if x.config.Deadline == 0 {
		if w.wake > 0 {
			w.wake -= w.now
			w.call.wake -= w.now
		}
		w.now = 0
	}
	return w
}

// explored returns configurations in all combinations that matter.
func explored() []scenario {
	var list []scenario
	for attempts := 1; attempts <= 4; attempts++ {
		for bits := range 8 {
			c := CallConfig{Attempts: attempts, Idempotent: bits&1 != 0}
			if bits&2 != 0 {
				c.Backup = 20 * time.Millisecond
			}
			if bits&4 != 0 {
				c.Deadline, c.MinRemaining = epoch+60*time.Millisecond, 5*time.Millisecond
			}
			list = append(list, scenario{c, &BudgetConfig{Tokens: 4}, false})
			if attempts == 4 && bits < 4 {
				list = append(list, scenario{c, nil, false})
			} else if bits < 4 {
				list = append(list, scenario{c, nil, false}, scenario{c, &BudgetConfig{Kind: BudgetConcurrent, Floor: 1}, false},
					scenario{c, &BudgetConfig{Kind: BudgetRatio, Floor: 0.1}, false}, scenario{c, &BudgetConfig{Kind: BudgetGRPC, Tokens: 4}, false})
			}
		}
	}
	return append(list,
		scenario{CallConfig{Attempts: 3, Idempotent: true, Criticality: Sheddable, Backup: time.Millisecond}, nil, false},
		scenario{CallConfig{Attempts: 3, Idempotent: true, Criticality: SheddablePlus, Backup: time.Millisecond}, nil, false},
		scenario{CallConfig{Attempts: 3, NoRetry: true, Idempotent: true, Backup: time.Millisecond}, nil, false},
		scenario{CallConfig{Attempts: 3, Idempotent: true, Nested: true, Backup: time.Millisecond}, nil, false},
		scenario{CallConfig{Attempts: 3, Nested: true}, &BudgetConfig{}, false},
		scenario{CallConfig{Attempts: 3, Idempotent: true, Backup: time.Millisecond}, &BudgetConfig{}, true},
		scenario{CallConfig{Attempts: 3, Idempotent: true, Deadline: epoch + time.Microsecond}, nil, false},
		scenario{CallConfig{Attempts: 3, Idempotent: true, Deadline: epoch}, &BudgetConfig{}, false},
		scenario{CallConfig{Attempts: 3, Idempotent: true, Backup: time.Millisecond}, &BudgetConfig{Tokens: 1}, false},
	)
}

type scenario struct {
	CallConfig
	budget  *BudgetConfig
	resends bool // a single one is left
}

// TestCallKeepsItsPromises visits every state that a call can reach, by every event, until there is no new one.
func TestCallKeepsItsPromises(t *testing.T) {
	begun, states, steps, longest := time.Now(), 0, 0, 0
	for _, c := range explored() {
		x, first := newExplorer(c.CallConfig, c.budget)
		if c.resends {
			first.funds.resends = milli
		}
		seen := map[world]bool{first: true}
		depth := 0
		for level := []world{first}; len(level) > 0; depth++ {
			var next []world
			for _, w := range level {
				if err := x.complete(w); err != nil && w.call.launched > 0 {
					t.Fatalf("%+v, budget %+v:\nfrom %+v\n%v", c.CallConfig, c.budget, w, err)
				}
				for _, m := range x.moves(&w) {
					steps++
					to, err := x.step(w, m)
					if err != nil {
						t.Fatalf("%+v, budget %+v:\nfrom %+v\n%v", c.CallConfig, c.budget, w, err)
					}
					if key := x.key(to); !seen[key] {
						seen[key] = true
						next = append(next, to)
					}
				}
			}
			level = next
		}
		states, longest = states+len(seen), max(longest, depth)
	}
	t.Logf("%d states, %d steps, up to %d events deep, in %v", states, steps, longest, time.Since(begun))
}

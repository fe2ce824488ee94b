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
	tokens int64
	wake   time.Duration
	over   bool
	log    [MaxAttempts]entry
	latest int8 // attempt that ended last with a verdict, -1 if none
}

// entry is what the outside knows about an attempt.
type entry struct {
	state  attemptState
	kind   int8 // of the verdict, if it failed or succeeded
	backup bool
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
}{
	{Verdict: Verdict{Outcome: Success}},
	{Verdict: Verdict{Outcome: Success, Retry: true, Unsent: true}},
	{Verdict: Verdict{Outcome: Failure}},
	{Verdict: Verdict{Outcome: Failure, Retry: true}},
	{Verdict: Verdict{Outcome: Failure, Retry: true}, random: math.MaxUint64},
	{Verdict: Verdict{Outcome: Failure, Retry: true, Unsent: true}},
	{Verdict: Verdict{Outcome: Failure, Retry: true, After: -1}},
	{Verdict: Verdict{Outcome: Overload, Retry: true, After: 7 * time.Millisecond}},
	{Verdict: Verdict{Outcome: Overload, Retry: true, After: math.MaxInt64}},
	{Verdict: Verdict{Outcome: Neutral}},
	{Verdict: Verdict{Outcome: Neutral, Retry: true}},
	{Verdict: Verdict{Outcome: Overload, Retry: true, After: math.MaxInt64}, elsewhere: true},
}

func done(attempt int, kind int8) Event {
	v := verdicts[kind]
	return Event{Kind: Done, Attempt: attempt, Verdict: v.Verdict, Random: v.random, Elsewhere: v.elsewhere}
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
	x := &explorer{config: c, kinds: []int8{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}
	switch { // with all of them, many attempts have millions of states
	case c.Attempts > 3:
		x.kinds = []int8{0, 4, 5}
	case c.Attempts == 3:
		x.kinds = []int8{0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11}
	}
	w := world{now: epoch, latest: -1}
	if budget != nil {
		x.budget = NewBudget(*budget)
		x.config.Budget = x.budget
		w.tokens = x.budget.tokens.Load()
	}
	return x, w
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
	if x.budget != nil {
		x.budget.tokens.Store(w.tokens)
	}
	act := w.call.Step(m.at, &m.ev)
	w.call.Config = CallConfig{}
	if x.budget != nil {
		w.tokens = x.budget.tokens.Load()
	}
	w.now, w.wake = m.at, w.call.Wake()

	valid := false // the event is about an attempt that runs
	if i := m.ev.Attempt; !before.over && (m.ev.Kind == Done || m.ev.Kind == Rejected) && i >= 0 && i < before.call.Launched() {
		if valid = before.log[i].state == running; valid && m.ev.Kind == Done {
			w.log[i].state, w.log[i].kind, w.latest = failed, m.kind, int8(i)
		} else if valid {
			w.log[i].state = rejected
		}
	}
	var err error
	switch {
	case before.over:
		if act != (Action{Kind: Wait}) || w.call != before.call || w.tokens != before.tokens {
			err = fmt.Errorf("%+v after Finish", act)
		}
	case (m.ev.Kind == Done || m.ev.Kind == Rejected || m.ev.Kind == Begin && before.call.launched > 0) && !valid:
		if act.Kind != Wait || w.call != before.call || w.tokens != before.tokens {
			err = fmt.Errorf("a stale event changes the call: %+v", act)
		}
	case act.Kind == Launch:
		err = x.checkLaunch(&before, &w, m, act)
		w.log[act.Attempt%MaxAttempts].state = running
		w.log[act.Attempt%MaxAttempts].backup = before.running() > 0 && m.ev.Kind == Tick
	case act.Kind == Finish:
		err = x.checkFinish(&w, m, act)
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
			list = append(list, scenario{c, &BudgetConfig{Tokens: 4}})
			if attempts < 4 && bits < 4 {
				list = append(list, scenario{c, nil})
			}
		}
	}
	return append(list,
		scenario{CallConfig{Attempts: 3, NoRetry: true, Idempotent: true, Backup: time.Millisecond}, nil},
		scenario{CallConfig{Attempts: 3, Idempotent: true, Nested: true, Backup: time.Millisecond}, nil},
		scenario{CallConfig{Attempts: 3, Idempotent: true, Deadline: epoch + time.Microsecond}, nil},
		scenario{CallConfig{Attempts: 3, Idempotent: true, Backup: time.Millisecond}, &BudgetConfig{Tokens: 1}},
	)
}

type scenario struct {
	CallConfig
	budget *BudgetConfig
}

// TestCallKeepsItsPromises visits every state that a call can reach, by every event, until there is no new one.
func TestCallKeepsItsPromises(t *testing.T) {
	begun, states, steps, longest := time.Now(), 0, 0, 0
	for _, c := range explored() {
		x, first := newExplorer(c.CallConfig, c.budget)
		seen := map[world]bool{first: true}
		depth := 0
		for level := []world{first}; len(level) > 0; depth++ {
			var next []world
			for _, w := range level {
				for _, m := range x.moves(&w) {
					steps++
					to, err := x.step(w, m)
					if err != nil {
						t.Fatalf("%+v, budget %+v:\nfrom %+v\n%v", c.CallConfig, c.budget, w, err)
					}
					if !seen[to] {
						seen[to] = true
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

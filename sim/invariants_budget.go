package sim

import (
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// ledger is what a mesh has spent of the budget of a service, and what has paid for that.
type ledger struct {
	calls, good, won int
	paid             int // attempts that were granted
	open, most       int // attempts under way, and how many have been
	extra            int // of those under way the granted ones
}

func (m *mesh) ledger(a *zerohop.Attempt) *ledger { return m.ledgerOf(a.Service()) }

func (m *mesh) ledgerOf(service string) *ledger {
	l := m.ledgers[service]
	if l == nil {
		l = &ledger{}
		m.ledgers[service] = l
	}
	return l
}

// ended takes an attempt off those under way.
func (l *ledger) ended(paid bool) {
	l.open--
	if paid {
		l.extra--
	}
}

// pays reports whether an attempt that begins must have been granted. One that repeats what was not sent is not.
func (c *call) pays(a *zerohop.Attempt) bool {
	return len(c.attempts) > 0 && (a.Backup() || !c.resend)
}

// checkBudget is told of every attempt that begins.
func (w *world) checkBudget(l *ledger, a *attempt) {
	l.open++
	l.most = max(l.most, l.open)
	if !a.paid {
		return
	}
	l.paid++
	l.extra++
	p := a.step.Policy().Budget
	if p.Mode != zerohop.On {
		return
	}
	or := func(x, otherwise float64) float64 {
		if x == 0 {
			return otherwise
		}
		return max(x, 0)
	}
	switch p.Kind {
	case "", resilience.BudgetSuccess, resilience.BudgetGRPC:
		if most := or(p.Tokens, 10)/2 + or(p.Ratio, 0.1)*float64(l.good) + float64(l.won) + 1; float64(l.paid) > most {
			w.violated("%d attempts have been repeated or backed up, but %d successes and %d backups that won pay for %.1f", l.paid, l.good, l.won, most)
		}
	case resilience.BudgetRatio:
		length := p.Window
		if length == 0 {
			length = 10 * time.Second
		}
		windows := 2 + float64(w.now)/(0.9*float64(length)) // the floor is granted anew in each; its last tenth ends at once
		if most := or(p.Ratio, 0.2)*float64(l.calls) + or(p.Floor, 10)*length.Seconds()*windows; float64(l.paid) > most {
			w.violated("%d attempts have been repeated or backed up, but %d calls and the floor pay for %.1f", l.paid, l.calls, most)
		}
	case resilience.BudgetConcurrent:
		if most := max(or(p.Floor, 3), or(p.Ratio, 0.2)*float64(l.most)); float64(l.extra) > most {
			w.violated("%d attempts under way are extra ones, but %.1f may be where there were never more than %d", l.extra, most, l.most)
		}
	}
}

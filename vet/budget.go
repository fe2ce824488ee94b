package vet

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

func lower(s string) string { return strings.ToLower(s) }

// entry files a finding of an entry of the graph.
func (r *runner) entry(n *network, i int, s Severity, format string, args ...any) {
	r.findings = append(r.findings, Finding{
		ID: timeoutBelowLatency, Severity: s, Document: n.graph.Name, Path: fmt.Sprintf("entries[%d].deadline", i), Message: fmt.Sprintf(format, args...),
	})
}

// recovery is how long a service may be well without any retry after an outage.
const recovery = 10 * time.Minute

// burstShare is for how many successes of a second a bucket that successes fill holds one token above its half.
const burstShare = 40

// budget looks at whether there is one, and whether it ever grants and ever refuses anything.
func (r *runner) budget(u *use) {
	b, n := u.p.Budget, u.p.Retry.Attempts
	if !u.retries() {
		return
	}
	if b.Mode != zerohop.On {
		if u.explicit("budget.mode") || n > 2 && u.explicit("retry.attempts") {
			r.report(u, budgetOff, Warning, u.blame("budget.mode", "retry.attempts"), "up to %d attempts and no budget: while it is down it gets %d times its load. Set budget.mode to on", n, n)
		}
		return
	}
	policyRate, rate := u.perProcess()
	field := u.blame("budget.tokens", "budget.ratio", "budget.floor", "budget.kind", "retry.attempts")
	switch b.Kind {
	case resilience.BudgetSuccess, resilience.BudgetGRPC:
		// A failure takes a token, and more than half of the bucket must be left for a retry.
		spare := b.Tokens / 2
		if b.Kind == resilience.BudgetSuccess {
			spare = math.Max(spare, rate/burstShare)
		}
		if spare <= 1 {
			r.report(u, budgetNeverGrants, Warning, field,
				"a bucket of %.3g tokens is not more than half full after one failure, so nothing is ever repeated: set budget.tokens to more than 2, 10 for example", b.Tokens)
			return
		}
		if rate == 0 {
			return
		}
		successes := math.Floor(b.Tokens/2/b.Ratio) + 1
		if d := time.Duration(successes / rate * float64(time.Second)); d > recovery {
			r.report(u, budgetSlowRecovery, Warning, field,
				"after an outage the bucket of %.4g tokens needs %.0f successes of %.3g each before it grants a retry, which take %v at %.3g calls per second and process: lower budget.tokens or raise budget.ratio",
				b.Tokens, successes, b.Ratio, d.Round(time.Second), rate)
		}
	case resilience.BudgetRatio:
		if rate == 0 {
			return
		}
		if granted := rate*b.Ratio + b.Floor; granted*b.Window.Seconds() < 1 {
			r.report(u, budgetNeverGrants, Warning, field, "%.3g calls per second and process pay for %.3g retries in the window of %v, which is less than one: raise budget.ratio, budget.floor or budget.window",
				rate, granted*b.Window.Seconds(), b.Window)
		} else if all := rate * float64(n-1); n > 2 && granted >= all {
			r.report(u, budgetNeverRefuses, Warning, field, "each process may make %.3g retries per second (ratio %.3g and floor %.3g), and %.3g calls per second have %.3g at most: while the service is down it gets %d times its load. Lower budget.floor, or set budget.kind to %q",
				granted, b.Ratio, b.Floor, rate, all, n, resilience.BudgetSuccess)
		}
	case resilience.BudgetConcurrent:
		busy := u.inFlight()
		if p99 := rate * latencyOf(u).P99.Seconds(); p99 > 0 && b.Floor == 0 && b.Ratio*math.Max(p99, 1) < 1 && b.Ratio*(busy+1) < 1 {
			r.report(u, budgetNeverGrants, Warning, field, "%.3g calls in flight per process, and a share of %.3g of them is less than one retry: raise budget.ratio or set budget.floor", busy, b.Ratio)
		} else if n > 2 && busy > 0 && policyRate > 0 && b.Floor >= busy*float64(n-1) && u.explicit("budget.floor") {
			r.report(u, budgetNeverRefuses, Warning, field, "%.3g retries may be under way in each process (floor), and its %.3g calls in flight have %.3g at most: while the service is down it gets %d times its load. Lower budget.floor",
				b.Floor, busy, busy*float64(n-1), n)
		}
	}
}

func latencyOf(u *use) Latency {
	if u.load == nil {
		return Latency{}
	}
	return u.load.latency
}

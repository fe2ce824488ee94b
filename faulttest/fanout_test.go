//go:build unix

package faulttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// Who needs the answers of a hundred leaves waits for the slowest. If a leaf takes 10 ms, but nearly a second once in a
// hundred times, so do two of three fan-outs. Hedging is switched on as Policy.Backup documents: since one answer in a
// hundred is slow, the 98th percentile is that of the others. Plain and hedged fan-outs take turns, so that what else the
// machine does falls on both, and the median of the rounds counts: in a thousand fan-outs, p99.9 is the worst one of all, and
// a machine that stands still for a moment makes a dozen as bad as it likes.
func TestHedgingCutsTailOfFanOut(t *testing.T) {
	const (
		leaves = 100
		rate   = 25 // 2,500 calls a second, of which two cores make three times as many
		rounds = 7
		lasts  = 6 * time.Second // for a thousand hedged fan-outs in all
		brief  = lasts / 4       // is enough for the others, as most of them are slow
	)
	list := startBackends(t, 4, capacity{Workers: 1000, Mean: 10 * time.Millisecond, Fixed: true})
	fanOuts := func(p zerohop.Policy) *trial {
		m, count := newMeshWith(t, static(protocols[1].addrs(list)), p)
		tr := &trial{protocol: protocols[1], backends: list, call: fanOut(leaves, meshedGRPC(t, m, service)), count: count}
		l := startLoad(t, rate, tr.call)
		l.until(1500 * time.Millisecond)
		l.stop() // what is usual is known
		return tr
	}
	for _, b := range list {
		b.become(t, uneven)
	}
	plain := fanOuts(zerohop.Policy{Backup: zerohop.Backup{Mode: zerohop.Off}})
	hedged := fanOuts(zerohop.Policy{
		Backup: zerohop.Backup{Quantile: 0.98, Factor: 1, Min: 30 * time.Millisecond},
		Retry:  zerohop.Retry{Attempts: 4},                // one leaf in a million is slow three times, ten thousand fan-outs
		Budget: zerohop.Budget{Tokens: 1000, Ratio: 0.05}, // fan-outs come in bursts, but one call in twenty is the limit
	})
	var without result
	promise(t, func() result {
		var with result
		var tailWithout, tailWith []time.Duration
		without = result{}
		for i := range rounds {
			r := plain.run(t, fmt.Sprint("plain ", i), rate, func(l *load) { l.until(brief) })
			without, tailWithout = without.and(r), append(tailWithout, r.p999)
			r = hedged.run(t, fmt.Sprint("hedged ", i), rate, func(l *load) { l.until(lasts) })
			with, tailWith = with.and(r), append(tailWith, r.p999)
		}
		without.log(t, "fan-outs")
		with.log(t, "fan-outs, hedged")
		slices.Sort(tailWithout)
		slices.Sort(tailWith)
		without.p999, with.p999 = quantile(tailWithout, 0.5), quantile(tailWith, 0.5)
		extra := float64(with.attempts)/float64(with.calls*leaves) - 1
		t.Logf("p99.9 of fan-outs %.1f times better (medians of the rounds) for %.2f %% more calls",
			float64(without.p999)/float64(with.p999), 100*extra)
		return with
	}, okAtLeast(1), func(r result) string {
		return atMost("p99.9 of hedged fan-outs", without.p999/5, func(r result) time.Duration { return r.p999 })(r)
	}, atMost("attempts of hedged fan-outs", 1.05*leaves, func(r result) float64 { return r.perCall(r.attempts) }),
		atMost("executions of hedged fan-outs", 1.05*leaves, func(r result) float64 { return r.perCall(r.executions) }))
}

// fanOut returns a caller that makes n calls at once and waits for all of them.
func fanOut(n int, call caller) caller {
	return func(ctx context.Context) error {
		errs := make([]error, n)
		var calls sync.WaitGroup
		for i := range errs {
			calls.Go(func() { errs[i] = call(ctx) })
		}
		calls.Wait()
		return errors.Join(errs...)
	}
}

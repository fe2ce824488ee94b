//go:build unix

package faulttest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// The load of a spike: what three backends of 100 calls a second are offered before, meanwhile and after.
const (
	usualRate, spikeRate = 210, 450

	spikeBegins = 5 * time.Second
	spikeEnds   = 15 * time.Second
	spikeIsOver = 20 * time.Second

	// tryFor is what an attempt may take: half as long as a full queue takes, so that what gets into one is lost.
	tryFor = 250 * time.Millisecond
)

// For ten seconds callers want half as much again as backends can do, which go on with what nobody waits for any more.
// Retries without a limit make that an outage which does not end with its cause. A client that limits what it has in flight
// on each endpoint gets nearly all that can be had, two thirds, and so it does if the backends limit what they begin.
func TestRetryStormDoesNotBegin(t *testing.T) {
	t.Parallel()
	full := capacity{Workers: 2, Queue: 50, Mean: 20 * time.Millisecond, Stubborn: true}
	guarded := full
	guarded.Admission = &zerohop.AdmissionPolicy{Mode: zerohop.On}
	for _, p := range protocols {
		for _, half := range []struct {
			name   string
			server capacity
			least  float64
		}{{"client half", full, 0.4}, {"both halves", guarded, 0.6}} {
			t.Run(p.name+", "+half.name, func(t *testing.T) {
				t.Parallel()
				list := startBackends(t, 3, half.server)
				m, count := newMeshWith(t, static(p.addrs(list)), zerohop.Policy{
					AttemptTimeout: tryFor, EndpointLimit: zerohop.EndpointLimit{Mode: zerohop.On},
				})
				tr := &trial{protocol: p, backends: list, call: p.meshed(t, m, service), count: count}
				var after result
				promise(t, func() (during result) {
					during, after = tr.spike(t, half.name)
					return during
				}, okAtLeast(half.least), attemptsAtMost(1.1), executionsAtMost(1.1), func(result) string {
					return okAtLeast(0.95)(after)
				})
			})
		}
	}
	t.Run("HTTP, three retries at once", func(t *testing.T) { // shows that the set-up can hurt
		t.Parallel()
		p := protocols[0]
		list := startBackends(t, 3, full)
		tr := &trial{protocol: p, backends: list, call: insistent(p.plain(t, p.addrs(list))), count: &tally{}}
		var after result
		promise(t, func() (during result) {
			during, after = tr.spike(t, "three retries")
			return during
		}, okBelow(0.1), func(result) string { return okBelow(0.1)(after) })
	})
}

// okBelow says that the set-up hurts those who do without what is tested: a backend that could take the load would prove
// nothing.
func okBelow(share float64) bound {
	return func(r result) string {
		if got := r.okShare(); !(got < share) {
			return fmt.Sprintf("share of good answers without a mesh = %v, want less than %v", got, share)
		}
		return ""
	}
}

// insistent repeats three times, at once, what fails.
func insistent(call caller) caller {
	return func(ctx context.Context) (err error) {
		for range 4 {
			attempt, cancel := context.WithTimeout(ctx, tryFor)
			err = call(attempt)
			cancel()
			if err == nil || ctx.Err() != nil {
				return err
			}
		}
		return err
	}
}

// spike puts the backends under a load that has one. It returns what became of the calls of the spike, and of those that
// came later than a second after it.
func (tr *trial) spike(t *testing.T, what string) (during, after result) {
	t.Helper()
	l := startChangingLoad(t, func(at time.Duration) float64 {
		if at >= spikeBegins && at < spikeEnds {
			return spikeRate
		}
		return usualRate
	}, tr.call)
	l.until(spikeBegins)
	began, before := tr.count.snapshot(), tr.arrivals(t)
	l.until(spikeEnds)
	ended, arrived := tr.count.snapshot(), tr.arrivals(t)
	l.until(spikeIsOver)
	r := l.stop()
	still := standstill(t, tr.backends, l.began)
	during, after = r.between(spikeBegins, spikeEnds), r.between(spikeEnds+time.Second, spikeIsOver)
	during.attempts, during.backups = ended.attempts-began.attempts, ended.backups-began.backups
	during.executions = arrived - before
	for _, b := range tr.backends {
		a := tr.protocol.addr(b)
		during.picks = append(during.picks, ended.picks[a]-began.picks[a])
	}
	during.still, after.still = still, still
	during.errors, after.errors = during.reasons(), after.reasons()
	during.log(t, fmt.Sprintf("%s %s, in the spike", tr.protocol.name, what))
	after.log(t, fmt.Sprintf("%s %s, later", tr.protocol.name, what))
	var seconds strings.Builder
	for at := time.Duration(0); at < spikeIsOver; at += time.Second {
		fmt.Fprintf(&seconds, " %.0f", 100*r.between(at, at+time.Second).okShare())
	}
	t.Logf("good answers by the second, in percent:%s", seconds.String())
	return during, after
}

// reasons counts errors by their kind, where texts have times in them.
func (r result) reasons() map[string]int {
	counts := map[string]int{}
	for _, s := range r.samples {
		var e *zerohop.Error
		switch {
		case s.err == nil:
		case errors.As(s.err, &e) && len(e.Attempts) > 0:
			last := e.Attempts[len(e.Attempts)-1]
			counts[fmt.Sprintf("%s (%s), last attempt %s with status %d", e.Reason, e.Detail, last.Outcome, last.Status)]++
		case e != nil:
			counts[string(e.Reason)]++
		default:
			counts[s.err.Error()]++
		}
	}
	return counts
}

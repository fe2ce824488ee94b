package incident

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A watch counts the calls of an objective in bins of time, enough of them for its longest window.
type watch struct {
	SLO
	calls, bad atomic.Uint64 // since the last look

	// What follows belongs to the goroutine of the recorder.
	bin   time.Duration
	bins  []tally // a ring
	at    int64   // the number of the newest bin
	spans [][2]window
}

type tally struct{ calls, bad uint64 }

// A window is a sum of the last so many bins, the newest of which is still being filled.
type window struct {
	bins int
	tally
}

const (
	binsOfShort = 30   // so that a window is at most 3 % off
	maxBins     = 4096 // of 16 bytes
)

func newWatch(s SLO) *watch {
	w := &watch{SLO: s}
	shortest, longest := s.Burns[0].Short, s.Burns[0].Long
	for _, b := range s.Burns {
		shortest, longest = min(shortest, b.Short), max(longest, b.Long)
	}
	if w.MinCalls == 0 {
		w.MinCalls = 100
	}
	w.bin = max(shortest/binsOfShort, longest/maxBins, time.Second)
	bins := func(d time.Duration) int { return max(int((d+w.bin-1)/w.bin), 1) }
	for _, b := range s.Burns {
		w.spans = append(w.spans, [2]window{{bins: bins(b.Long)}, {bins: bins(b.Short)}})
	}
	w.bins = make([]tally, bins(longest))
	return w
}

func (w *watch) count(calls, bad uint64) {
	w.calls.Add(calls)
	w.bad.Add(bad)
}

// look takes over what was counted, and returns the first pair of windows that says that the objective is missed, with the rates.
func (w *watch) look(now time.Duration) (burn Burn, long, short float64, missed bool) {
	for at := int64(now / w.bin); w.at < at; {
		if at-w.at > int64(len(w.bins)) { // nobody has looked for so long that nothing is left
			clear(w.bins)
			for i := range w.spans {
				w.spans[i][0].tally, w.spans[i][1].tally = tally{}, tally{}
			}
			w.at = at
			break
		}
		w.at++
		for i := range w.spans {
			for j := range w.spans[i] {
				s := &w.spans[i][j]
				old := w.bins[((w.at-int64(s.bins))%int64(len(w.bins))+int64(len(w.bins)))%int64(len(w.bins))]
				s.calls, s.bad = s.calls-old.calls, s.bad-old.bad
			}
		}
		w.bins[w.at%int64(len(w.bins))] = tally{}
	}
	t := tally{w.calls.Swap(0), w.bad.Swap(0)}
	b := &w.bins[w.at%int64(len(w.bins))]
	b.calls, b.bad = b.calls+t.calls, b.bad+t.bad
	for i := range w.spans {
		for j := range w.spans[i] {
			s := &w.spans[i][j]
			s.calls, s.bad = s.calls+t.calls, s.bad+t.bad
		}
	}
	for i := range w.spans {
		l, s := w.spans[i][0].tally, w.spans[i][1].tally
		if s.calls < w.MinCalls || l.calls == 0 {
			continue
		}
		long, short = w.rate(l), w.rate(s)
		if b := w.Burns[i]; long >= b.Rate && short >= b.Rate {
			return b, long, short, true
		}
	}
	return Burn{}, 0, 0, false
}

// rate says how many times as often as they may calls failed.
func (w *watch) rate(t tally) float64 {
	return float64(t.bad) / float64(t.calls) / (1 - w.Objective)
}

// run looks at the objectives until Close.
func (r *Recorder) run() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var quiet time.Duration // until then
	for {
		select {
		case <-r.ask:
			return
		case <-tick.C:
		}
		now := r.now()
		r.flush(secondOf(now))
		for _, w := range r.watches {
			burn, long, short, missed := w.look(now)
			if missed && now >= quiet {
				quiet = now + r.cfg.CoolDown
				r.breached(Breach{SLO: w.SLO, Burn: burn, Long: long, Short: short, Time: time.Now()})
			}
		}
	}
}

// breached writes the dump for a missed objective, and tells of it.
func (r *Recorder) breached(b Breach) {
	r.stats.breaches.Add(1)
	r.keep(r.states, &Entry{At: r.now(), Kind: KindBreach, Service: name(b.SLO.Service), Value: b.Short, Bound: b.Burn.Rate, For: b.Burn.Short})
	if r.cfg.Dir != "" {
		b.File, b.Err = r.save("slo")
	}
	if r.cfg.OnBreach != nil {
		r.tell(b)
	}
}

// tell calls OnBreach, which may also panic or end its goroutine: neither ends that of the recorder.
func (r *Recorder) tell(b Breach) {
	var telling sync.WaitGroup
	telling.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				r.stats.panics.Add(1)
				r.Note(fmt.Sprintf("OnBreach panicked: %v", v))
			}
		}()
		r.cfg.OnBreach(b)
	})
	telling.Wait()
}

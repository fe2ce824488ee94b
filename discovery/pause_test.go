package discovery

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// longest and shortest give the ends of the range of a random wait.
func longest() uint64  { return math.MaxUint64 }
func shortest() uint64 { return 0 }

func TestPauseDoublesUpToItsLimit(t *testing.T) {
	refused := &RefusedError{Err: errors.New("429")}
	ms := time.Millisecond
	for _, tt := range []struct {
		name string
		end  ending
		want []time.Duration
	}{
		{"unreachable at start", ending{err: errDown}, []time.Duration{200 * ms, 400 * ms, 800 * ms, 1500 * ms, 1500 * ms}},
		{"unreachable with a set", ending{err: errDown, serving: true}, []time.Duration{200 * ms, 400 * ms, 800 * ms, 1500 * ms, 1500 * ms}},
		{"refused at start", ending{err: refused}, []time.Duration{200 * ms, 400 * ms, 800 * ms, 1500 * ms, 1500 * ms}},
		{"refused with a set", ending{err: refused, serving: true}, []time.Duration{
			200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 12800 * ms, 25600 * ms, 30 * time.Second, 30 * time.Second}},
		{"ended to ask again", ending{answered: true, lasted: time.Minute}, []time.Duration{0, 0, 0, 0, 0}},
		{"works for a while each time", ending{err: errDown, answered: true, lasted: steady, serving: true},
			[]time.Duration{200 * ms, 200 * ms, 200 * ms, 200 * ms, 200 * ms}},
		{"answers and breaks at once", ending{err: errDown, answered: true, serving: true},
			[]time.Duration{200 * ms, 200 * ms, 200 * ms, 1200 * ms, 1400 * ms, 1750 * ms, 1750 * ms}},
	} {
		high, low := pauses{rand: longest}, pauses{rand: shortest}
		for i, want := range tt.want {
			if got := high.next(tt.end); got != want {
				t.Errorf("%s: longest wait %d = %v, want %v", tt.name, i, got, want)
			}
			got, floor := low.next(tt.end), min(want, 1)
			if want > steady && tt.end.answered {
				floor = steady
			} else if want == shortWait {
				floor = shortWait / 2
			}
			if got != floor {
				t.Errorf("%s: shortest wait %d = %v, want %v", tt.name, i, got, floor)
			}
		}
	}
}

func TestPauseAddsWhatTheSourceAsksFor(t *testing.T) {
	for _, tt := range []struct{ after, min, max time.Duration }{
		{-time.Hour, 0, firstWait},
		{0, 0, firstWait},
		{10 * time.Second, 10 * time.Second, 10*time.Second + firstWait},
		{time.Hour, time.Minute, time.Minute + firstWait},
		{math.MaxInt64, time.Minute, time.Minute + firstWait},
	} {
		end := ending{err: &RefusedError{After: tt.after, Err: errDown}}
		low, high := pauses{rand: shortest}, pauses{rand: longest}
		if got := low.next(end); got != tt.min+1 {
			t.Errorf("After = %v: shortest wait %v, want %v", tt.after, got, tt.min+1)
		}
		if got := high.next(end); got != tt.max {
			t.Errorf("After = %v: longest wait %v, want %v", tt.after, got, tt.max)
		}
	}
}

func TestPauseShortensWhenTheSourceGoesFromRefusingToUnreachable(t *testing.T) {
	p := pauses{rand: longest}
	for range 10 {
		p.next(ending{err: &RefusedError{Err: errDown}, serving: true})
	}
	if got := p.next(ending{err: errDown, serving: true}); got != shortWait {
		t.Errorf("wait = %v, want %v", got, shortWait)
	}
}

func TestJitterIsUniform(t *testing.T) {
	const n, buckets = 100_000, 10
	next, window := seeded(4), shortWait
	var count [buckets]int
	for range n {
		d := jitter(next(), window)
		if d <= 0 || d > window {
			t.Fatalf("jitter() = %v, want in (0, %v]", d, window)
		}
		count[(d-1)*buckets/window]++
	}
	for i, got := range count { // 5 % is five standard deviations
		if want := n / buckets; math.Abs(float64(got-want)) > 0.05*float64(want) {
			t.Errorf("bucket %d has %d, want %d ± 5 %%", i, got, want)
		}
	}
}

func TestRunAsksARefusingSourceRarely(t *testing.T) {
	const runs = 50
	watches := 0
	for seed := range uint64(runs) {
		synctest.Test(t, func(t *testing.T) {
			first := func(_ context.Context, update func([]Endpoint)) error {
				update(endpoints("a:1"))
				time.Sleep(steady)
				return errDown
			}
			rec := startRun(t, inTurn(first, func(context.Context, func([]Endpoint)) error {
				watches++
				return &RefusedError{Err: errors.New("429")}
			}), RunOptions{Rand: seeded(seed)})
			passed(time.Minute + steady)
			rec.wantSets(t, "a:1")
		})
	}
	if mean := float64(watches) / runs; mean > 12 {
		t.Errorf("%.1f watches a minute, want at most 12", mean)
	}
}

func TestRunAsksAFailingSourceAtMostOnceASecond(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			watches := 0
			startRun(t, resolverFunc(func(context.Context, func([]Endpoint)) error {
				watches++
				return errDown
			}), RunOptions{Rand: seeded(seed)})
			passed(time.Minute)
			if most := 60 + burst; watches > most {
				t.Errorf("seed %d: %d watches a minute, want at most %d", seed, watches, most)
			}
		})
	}
}

func TestRunDoesNotFloodASourceThatAnswersAndBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		watches := 0
		rec := startRun(t, resolverFunc(func(_ context.Context, update func([]Endpoint)) error {
			watches++
			update(endpoints("a:1"))
			return errDown
		}), RunOptions{Rand: seeded(5)})
		passed(30 * time.Second)
		rec.wantSets(t, "a:1")
		if watches > 30+burst+1 || watches < 15 {
			t.Errorf("%d watches in 30 s, want at most one a second, and to keep trying", watches)
		}
	})
}

// Callers lose their source at the same moment, because it breaks, refuses or says something that they must ask about again,
// and never come back all at once. With the rate of N callers in the shortest window, no tenth of it sees more than 1.5 times
// as many first watches (five standard deviations), and no window more than 1.5 times as many of all.
func TestRunSpreadsTheReturnToALostSource(t *testing.T) {
	const (
		callers = 1000
		lost    = 10 * time.Second // when
		outage  = 30 * time.Second
	)
	ok := endpoints("a:1")
	steadily := func(err error) resolverFunc {
		return func(_ context.Context, update func([]Endpoint)) error {
			update(ok)
			time.Sleep(lost)
			return err
		}
	}
	refused := &RefusedError{After: 5 * time.Second, Err: errDown}
	for _, tt := range []struct {
		name    string
		first   resolverFunc
		outage  error         // of watches meanwhile; nil if there is none
		window  time.Duration // of those that come first
		after   time.Duration // what they wait for before
		longest time.Duration // until all are back, from the end of the outage
	}{
		{"breaks at once", func(_ context.Context, update func([]Endpoint)) error {
			time.Sleep(lost)
			update(ok)
			return errDown
		}, errDown, firstWait, 0, shortWait},
		{"breaks after it has worked", steadily(errDown), errDown, firstWait, 0, shortWait},
		{"restarts", steadily(errDown), nil, firstWait, 0, 0},
		{"refuses", steadily(refused), refused, firstWait, refused.After, refusedWait + refused.After},
		{"is suddenly empty", func(ctx context.Context, update func([]Endpoint)) error {
			update(ok)
			time.Sleep(lost)
			update(nil)
			<-ctx.Done()
			return ctx.Err()
		}, nil, steady, defaultEmptyGrace, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				start := time.Now()
				type trace struct {
					watches []time.Duration // when they began, after the loss
					back    time.Duration   // when one worked, from the end of the outage
				}
				traces := make([]trace, callers)
				done := make(chan error, callers)
				for i := range traces {
					tr := &traces[i]
					next := func(ctx context.Context, update func([]Endpoint)) error {
						since := time.Since(start) - lost
						tr.watches = append(tr.watches, since)
						if since < outage && tt.outage != nil {
							return tt.outage
						}
						tr.back = since - outage
						return answers(ok)(ctx, update)
					}
					go func() {
						done <- Run(ctx, inTurn(tt.first, next), "orders", RunOptions{Rand: seeded(uint64(i))}, func([]Endpoint) {})
					}()
				}
				time.Sleep(lost + outage + tt.longest + 10*time.Second)
				cancel()
				for range callers {
					<-done
				}
				bucket := tt.window / 10
				firsts, all := map[time.Duration]int{}, map[time.Duration]int{}
				for i, tr := range traces {
					if len(tr.watches) == 0 || tr.back > tt.longest {
						t.Fatalf("caller %d: watches at %v, back after %v", i, tr.watches, tr.back)
					}
					if first := tr.watches[0]; first <= tt.after || first > tt.after+tt.window {
						t.Fatalf("caller %d: first watch after %v, want within (%v, %v]", i, first, tt.after, tt.after+tt.window)
					}
					firsts[(tr.watches[0]-1)/bucket]++
					for _, at := range tr.watches {
						for k := range time.Duration(10) { // the windows that it is in
							all[(at-1)/bucket-k]++
						}
					}
				}
				for at, n := range firsts {
					if limit := callers * 15 / 100; n > limit {
						t.Errorf("%d of %d callers begin their first watch within %v, %v after the loss, want at most %d", n, callers, bucket, at*bucket, limit)
					}
				}
				most := 0
				for _, n := range all {
					most = max(most, n)
				}
				if limit := callers * 15 / 10; most > limit {
					t.Errorf("%d watches of %d callers begin within %v, want at most %d", most, callers, tt.window, limit)
				}
				t.Logf("at most %d watches of %d callers within %v", most, callers, tt.window)
			})
		})
	}
}

package discovery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// resolverFunc is a Resolver of one service.
type resolverFunc func(ctx context.Context, update func([]Endpoint)) error

func (f resolverFunc) Watch(ctx context.Context, _ string, update func([]Endpoint)) error {
	return f(ctx, update)
}

// record is what a Run did.
type record struct {
	cancel context.CancelFunc

	// mu guards the fields below.
	mu     sync.Mutex
	sets   []string // "a:1 b:1"
	events []Event
}

// startRun starts a Run in the bubble of the test and ends it with the test.
func startRun(t *testing.T, r Resolver, opts RunOptions) *record {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	rec, done := &record{cancel: cancel}, make(chan error, 1)
	opts.Observe = func(e Event) {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		rec.events = append(rec.events, e)
	}
	go func() {
		done <- Run(ctx, r, "orders", opts, func(set []Endpoint) {
			rec.mu.Lock()
			defer rec.mu.Unlock()
			rec.sets = append(rec.sets, addrs(set))
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v, want %v", err, context.Canceled)
		}
	})
	return rec
}

// passed lets d pass in the bubble.
func passed(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (rec *record) wantSets(t *testing.T, want ...string) {
	t.Helper()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if diff := cmp.Diff(want, rec.sets); diff != "" {
		t.Fatalf("sets (-want +got):\n%s", diff)
	}
}

// log returns the events so far.
func (rec *record) log() []Event {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return slices.Clone(rec.events)
}

// kinds returns the kinds of the events so far, runs of the same kind once.
func (rec *record) kinds() string {
	var kinds []string
	for _, e := range rec.log() {
		kinds = append(kinds, e.Kind.String())
	}
	return strings.Join(slices.Compact(kinds), ", ")
}

func addrs(set []Endpoint) string {
	var list []string
	for _, e := range set {
		list = append(list, e.Addr)
	}
	return strings.Join(list, " ")
}

func endpoints(addrs ...string) []Endpoint {
	set := make([]Endpoint, len(addrs))
	for i, addr := range addrs {
		set[i].Addr = addr
	}
	return set
}

// answers delivers the sets in turn and blocks.
func answers(sets ...[]Endpoint) resolverFunc {
	return func(ctx context.Context, update func([]Endpoint)) error {
		for _, set := range sets {
			update(set)
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

// apart delivers the sets in turn with pauses between them and blocks.
func apart(pause time.Duration, sets ...[]Endpoint) resolverFunc {
	return func(ctx context.Context, update func([]Endpoint)) error {
		for _, set := range sets {
			update(set)
			time.Sleep(pause)
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

// inTurn uses one resolver for each watch, the last one for all that follow.
func inTurn(watches ...resolverFunc) resolverFunc {
	next := 0
	return func(ctx context.Context, update func([]Endpoint)) error {
		watch := watches[next]
		next = min(next+1, len(watches)-1)
		return watch(ctx, update)
	}
}

func failing(err error) resolverFunc {
	return func(context.Context, func([]Endpoint)) error { return err }
}

func seeded(seed uint64) func() uint64 { return rand.New(rand.NewPCG(seed, 0)).Uint64 }

var errDown = errors.New("connection refused")

func TestRunPublishesOnlyChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, apart(updateEvery,
			endpoints("b:1", "a:1"), endpoints("a:1", "b:1", "A:1"), endpoints("a:1", "b:1"),
			[]Endpoint{{Addr: "a:1", Meta: map[string]string{"k": "v"}}, {Addr: "b:1"}},
			endpoints("a:1"),
		), RunOptions{})
		passed(time.Second)
		rec.wantSets(t, "a:1 b:1", "a:1 b:1", "a:1")
		if got, want := rec.kinds(), "published, endpoints dropped, published"; got != want {
			t.Errorf("events: %s, want %s", got, want)
		}
		if got, want := rec.log()[1].Dropped, (Dropped{Duplicate: 1}); got != want {
			t.Errorf("dropped %+v, want %+v", got, want)
		}
	})
}

func TestRunGivesTheSetAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		static := Static{"orders": endpoints("b:1", "a:1")}
		updates := 0
		_ = Run(ctx, inTurn(
			func(ctx context.Context, update func([]Endpoint)) error {
				update(endpoints("b:1", "a:1"))
				return errDown
			},
			func(ctx context.Context, update func([]Endpoint)) error {
				defer cancel()
				short, stop := context.WithTimeout(ctx, time.Second)
				defer stop()
				return static.Watch(short, "orders", update)
			},
		), "orders", RunOptions{}, func(set []Endpoint) {
			updates++
			clear(set)
		})
		if updates != 1 {
			t.Errorf("%d updates, want 1: a callee that changes its slice must not change what Run compares with", updates)
		}
		if got, want := addrs(static["orders"]), "b:1 a:1"; got != want {
			t.Errorf("Static holds %q, want %q", got, want)
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	watched := resolverFunc(func(context.Context, func([]Endpoint)) error {
		t.Error("Run() watches although its context has ended")
		return errDown
	})
	if err := Run(ended, watched, "orders", RunOptions{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Run() = %v, want %v", err, context.Canceled)
	}

	synctest.Test(t, func(t *testing.T) {
		refused := &RefusedError{After: time.Minute, Err: errDown}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		err := Run(ctx, failing(refused), "orders", RunOptions{}, nil)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != 10*time.Second {
			t.Errorf("Run() = %v after %v, want %v after 10s", err, took, context.DeadlineExceeded)
		}
	})
}

func TestRunIgnoresAnswersOfAnEndedWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, resolverFunc(func(ctx context.Context, update func([]Endpoint)) error {
			update(endpoints("a:1"))
			<-ctx.Done()
			update(nil)
			return ctx.Err()
		}), RunOptions{EmptyGrace: -1})
		passed(0)
		rec.cancel()
		passed(0)
		rec.wantSets(t, "a:1")
	})
}

func TestRunKeepsTheLastSetThroughErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		brokenWatch := func(_ context.Context, update func([]Endpoint)) error {
			update(endpoints("a:1", "b:1"))
			time.Sleep(time.Minute)
			return errDown
		}
		back := time.Now().Add(time.Hour)
		rec := startRun(t, inTurn(brokenWatch, func(ctx context.Context, update func([]Endpoint)) error {
			if time.Now().Before(back) {
				return errDown
			}
			return answers(endpoints("b:1", "c:1"))(ctx, update)
		}), RunOptions{Rand: seeded(1)})
		passed(time.Hour)
		rec.wantSets(t, "a:1 b:1")
		for _, e := range rec.log()[1:] {
			if e.Kind != EventWatchFailed || !errors.Is(e.Err, errDown) || e.Endpoints != 2 || e.Wait <= 0 {
				t.Fatalf("event %+v, want a failed watch with 2 endpoints kept", e)
			}
		}
		passed(2 * time.Second)
		rec.wantSets(t, "a:1 b:1", "b:1 c:1")
	})
}

func TestRunRecoversWithin2s(t *testing.T) {
	for name, known := range map[string]bool{"at start": false, "with a set": true} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				synctest.Test(t, func(t *testing.T) {
					back := time.Now().Add(time.Hour)
					down := func(ctx context.Context, update func([]Endpoint)) error {
						if time.Now().Before(back) {
							return errDown
						}
						return answers(endpoints("b:1"))(ctx, update)
					}
					first := resolverFunc(down)
					var want []string
					if known {
						first = func(_ context.Context, update func([]Endpoint)) error {
							update(endpoints("a:1"))
							return errDown
						}
						want = []string{"a:1"}
					}
					rec := startRun(t, inTurn(first, down), RunOptions{Rand: seeded(seed)})
					passed(time.Hour)
					passed(2 * time.Second)
					rec.wantSets(t, append(want, "b:1")...)
				})
			}
		})
	}
}

func TestRunReportsTheFirstFailureBeforeItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, failing(errDown), RunOptions{})
		passed(0)
		events := rec.log()
		if len(events) != 1 || events[0].Kind != EventWatchFailed {
			t.Fatalf("events at once: %+v, want one failed watch", events)
		}
		if wait := events[0].Wait; wait <= 0 || wait > firstWait {
			t.Errorf("first wait = %v, want in (0, %v]", wait, firstWait)
		}
	})
}

func TestRunPublishesAnUnknownServiceAsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, Static{}, RunOptions{})
		passed(0)
		rec.wantSets(t, "")
		// The failure comes first, so that callers learn the reason before they see no endpoints.
		if got, want := rec.kinds(), "watch failed, published"; got != want {
			t.Errorf("events: %s, want %s", got, want)
		}
		if err := rec.log()[0].Err; !errors.Is(err, ErrUnknownService) {
			t.Errorf("reason %v, want %v", err, ErrUnknownService)
		}
		passed(time.Minute)
		rec.wantSets(t, "")
		if got := len(rec.log()); got > 60+burst+2 {
			t.Errorf("%d events in a minute: an unknown service is asked for more than once a second", got)
		}
	})
}

func TestRunRestartsAfterAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		panics := func(context.Context, func([]Endpoint)) error { panic("index out of range") }
		rec := startRun(t, inTurn(panics, failing(nil), answers(endpoints("a:1"))), RunOptions{})
		passed(time.Second)
		rec.wantSets(t, "a:1")
		if err := rec.log()[0].Err; err == nil || !strings.Contains(err.Error(), "index out of range") {
			t.Errorf("reason %v, want one with the value of the panic", err)
		}
		if err := rec.log()[1].Err; err == nil {
			t.Error("a watch that ends without an error gives no reason")
		}
	})
}

func TestRunRejectsUnusableAnswers(t *testing.T) {
	tooMany := make([]Endpoint, maxEndpoints+1)
	for i := range tooMany {
		tooMany[i].Addr = fmt.Sprintf("h%d:1", i)
	}
	for name, answer := range map[string][]Endpoint{
		"too many":    tooMany,
		"all invalid": endpoints("a", "b:0"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := startRun(t, answers(answer, endpoints("a:1"), answer), RunOptions{})
				passed(time.Minute)
				rec.wantSets(t, "a:1")
				if got, want := rec.kinds(), "answer rejected, published, answer rejected"; got != want {
					t.Errorf("events: %s, want %s", got, want)
				}
				if last := rec.log()[2]; last.Err == nil || last.Endpoints != 1 {
					t.Errorf("event %+v, want a reason and 1 endpoint in use", last)
				}
			})
		})
	}

	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, answers(tooMany[:maxEndpoints]), RunOptions{})
		passed(0)
		if got := rec.log()[0]; got.Kind != EventPublished || got.Endpoints != maxEndpoints {
			t.Errorf("event %+v, want %d endpoints published", got, maxEndpoints)
		}
	})
}

// What an answer that is too long costs is what the resolver has made of it, and nothing more.
func TestRunCopiesNothingOfHugeAnswers(t *testing.T) {
	for _, size := range []int{100_000, 1_000_000} {
		answer := make([]Endpoint, size)
		for i := range answer {
			answer[i].Addr = "10.0.0.1:80"
		}
		ctx, cancel := context.WithCancel(t.Context())
		var grown uint64
		_ = Run(ctx, resolverFunc(func(_ context.Context, update func([]Endpoint)) error {
			update(endpoints("a:1"))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range 10 {
				update(answer)
			}
			runtime.ReadMemStats(&after)
			grown = after.TotalAlloc - before.TotalAlloc
			cancel()
			return errDown
		}), "orders", RunOptions{}, func(set []Endpoint) {
			if len(set) != 1 {
				t.Errorf("%d endpoints in use", len(set))
			}
		})
		if grown > 1<<20 {
			t.Errorf("%d bytes for ten answers with %d endpoints", grown, size)
		}
	}
}

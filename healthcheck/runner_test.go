package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

var errSick = errors.New("sick")

// ward is a set of endpoints that are checked, and what has become of that.
type ward struct {
	*Runner
	mu      sync.Mutex
	begun   map[string][]time.Duration // when checks began, by address, after start
	start   time.Time
	sick    map[string]bool
	results map[string][]Result
	now     int // checks under way
	most    int // at a time
	takes   func(ctx context.Context, ep discovery.Endpoint) error
	idle    bool
}

// admit runs the checks until the test is over. It must run in a bubble.
func admit(t *testing.T, cfg Config) *ward {
	w := &ward{begun: map[string][]time.Duration{}, start: time.Now(), sick: map[string]bool{}, results: map[string][]Result{}}
	if cfg.Rand == nil {
		rnd := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		cfg.Rand = func() uint64 {
			mu.Lock()
			defer mu.Unlock()
			return rnd.Uint64()
		}
	}
	w.Runner = New(cfg, w.check, w.report, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.idle
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.now != 0 {
			t.Errorf("checks under way after Run = %d, want none", w.now)
		}
	})
	return w
}

func (w *ward) check(ctx context.Context, ep discovery.Endpoint) error {
	w.mu.Lock()
	w.begun[ep.Addr] = append(w.begun[ep.Addr], time.Since(w.start))
	sick, takes := w.sick[ep.Addr], w.takes
	w.now++
	w.most = max(w.most, w.now)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.now--
	}()
	if takes != nil {
		return takes(ctx, ep)
	}
	if sick {
		return errSick
	}
	return nil
}

func (w *ward) report(r Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.results[r.Endpoint.Addr] = append(w.results[r.Endpoint.Addr], r)
}

func (w *ward) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// times returns when an endpoint was checked, in seconds.
func (w *ward) times(addr string) (list []float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.begun[addr] {
		list = append(list, d.Round(10*time.Millisecond).Seconds())
	}
	return list
}

// all returns when checks began, in order.
func (w *ward) all() (list []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.begun {
		list = append(list, b...)
	}
	slices.Sort(list)
	return list
}

func patients(n int) []discovery.Endpoint {
	eps := make([]discovery.Endpoint, n)
	for i := range eps {
		eps[i].Addr = fmt.Sprintf("10.0.%d.%d:80", i/250, i%250)
	}
	return eps
}

func hang(ctx context.Context, _ discovery.Endpoint) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestChecksKeepToTheirTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := admit(t, Config{Jitter: -1, Spread: -1})
		a := patients(1)[0]
		w.Update(slices.Values([]discovery.Endpoint{a}))
		time.Sleep(25 * time.Second)
		w.set(func() { w.sick[a.Addr] = true })
		time.Sleep(14 * time.Second) // 30, 32, 34: failing; 36, 38
		w.set(func() { w.sick[a.Addr] = false })
		time.Sleep(22 * time.Second) // 40, 42: passing; 52
		w.set(func() { w.sick[a.Addr] = true })
		time.Sleep(2 * time.Second) // 62
		w.set(func() { w.sick[a.Addr] = false })
		time.Sleep(12 * time.Second) // 64: it was nothing; 74
		synctest.Wait()
		want := []float64{0, 10, 20, 30, 32, 34, 36, 38, 40, 42, 52, 62, 64, 74}
		if got := w.times(a.Addr); !slices.Equal(got, want) {
			t.Errorf("checked at %v s, want %v", got, want)
		}
		var passing strings.Builder
		for _, r := range w.results[a.Addr] {
			passing.WriteByte("-+"[map[bool]int{true: 1}[r.Passing]])
			if (r.Err != nil) != errors.Is(r.Err, errSick) {
				t.Errorf("Err = %v, want that of the check", r.Err)
			}
		}
		if got, want := passing.String(), "+++++----+++++"; got != want {
			t.Errorf("passing = %s, want %s", got, want)
		}
	})
}

func TestFirstChecksAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := admit(t, Config{})
		w.Update(slices.Values(patients(1000)))
		time.Sleep(10*time.Second - time.Nanosecond)
		buckets := make([]int, 10)
		for _, at := range w.all() {
			buckets[at/time.Second]++
		}
		for i, n := range buckets { // 100 each; the standard deviation is 9.5
			if n < 60 || n > 140 {
				t.Errorf("checks in second %d = %d, want 100 or so; all: %v", i, n, buckets)
			}
		}
		time.Sleep(50 * time.Second)
		if got := len(w.all()); got < 5400 || got > 6000 {
			t.Errorf("checks of 1000 endpoints in a minute = %d, want one in 10 s to 11 s each", got)
		}
	})
}

func TestJitterDrawsChecksApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := admit(t, Config{Spread: -1, Rate: 100_000})
		w.Update(slices.Values(patients(100)))
		time.Sleep(10*time.Second - time.Millisecond)
		if got := len(w.all()); got != 100 {
			t.Fatalf("checks before the first interval is over = %d, want 100", got)
		}
		time.Sleep(time.Second + 2*time.Millisecond)
		second := w.all()[100:]
		if len(second) != 100 || second[99]-second[0] < 800*time.Millisecond {
			t.Errorf("second checks = %d within %v, want 100 within a second", len(second), second[len(second)-1]-second[0])
		}
	})
}

func TestIdleServicesAreCheckedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := admit(t, Config{Jitter: -1, Spread: -1})
		eps := patients(20)
		a := eps[0].Addr
		w.set(func() { w.idle, w.sick[a] = true, true })
		w.Update(slices.Values(eps))
		time.Sleep(130 * time.Second)
		if got, want := w.times(a), []float64{0, 60, 120}; !slices.Equal(got, want) {
			t.Errorf("checked at %v s, want %v", got, want)
		}
		w.set(func() { w.idle = false })
		before := len(w.all())
		w.Resume()
		time.Sleep(10 * time.Second)
		if got := len(w.all()) - before; got < 20 {
			t.Errorf("checks of 20 endpoints within 10 s after calls came = %d, want one each at least", got)
		}
	})
}

func TestChecksAreBounded(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		hang bool
		rate float64 // checks per second that are to be seen
	}{
		{"by their rate", Config{Spread: -1, Rate: 20}, false, 20},
		{"by their rate, finer than timers are", Config{Spread: -1, Rate: 2500, Interval: 100 * time.Millisecond}, false, 2500},
		{"by the number under way", Config{Spread: -1, InFlight: 7, Timeout: 500 * time.Millisecond}, true, 14},
		{"by their interval", Config{Jitter: -1}, false, 100},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := admit(t, c.cfg)
			if c.hang {
				w.takes = hang
			}
			w.Update(slices.Values(patients(1000)))
			time.Sleep(time.Minute)
			synctest.Wait()
			if limit := w.cfg.InFlight; w.most > limit {
				t.Errorf("%s: checks at a time = %d, want %d at most", c.name, w.most, limit)
			}
			all := w.all()
			if got := float64(len(all)) / 60; got > c.rate*1.02 || got < c.rate*0.95 {
				t.Errorf("%s: checks per second = %.1f, want %v", c.name, got, c.rate)
			}
			// No second has more than its due, wherever it begins.
			for i := range all {
				if k := i + int(w.cfg.Rate*1.02) + 1; k < len(all) && all[k]-all[i] < time.Second {
					t.Fatalf("%s: %d checks within %v, want %v a second", c.name, k-i+1, all[k]-all[i], w.cfg.Rate)
				}
			}
			// Those that wait do so in turn.
			least, most := len(all), 0
			for _, ep := range patients(1000) {
				n := len(w.times(ep.Addr))
				least, most = min(least, n), max(most, n)
			}
			if most-least > 1+most/10 {
				t.Errorf("%s: checks of one endpoint = %d, of another %d, want about as many", c.name, least, most)
			}
		})
	}
}

func TestCheckThatHangsFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := admit(t, Config{Spread: -1, Jitter: -1})
		w.takes = hang
		a := patients(1)[0]
		w.Update(slices.Values([]discovery.Endpoint{a}))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got, want := w.times(a.Addr), []float64{0, 2, 4}; !slices.Equal(got, want) {
			t.Errorf("checked at %v s, want %v: intervals are between starts", got, want)
		}
		for _, r := range w.results[a.Addr] {
			if r.Passing || !errors.Is(r.Err, context.DeadlineExceeded) || !strings.Contains(r.Err.Error(), "within 1s") {
				t.Errorf("result = %+v, want a failure that says how long was waited", r)
			}
		}
	})
}

func TestEndpointThatGoesIsCheckedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := admit(t, Config{Spread: -1, Jitter: -1, Timeout: time.Hour})
		w.takes = hang
		eps := patients(3)
		w.Update(slices.Values(eps))
		time.Sleep(time.Second)
		w.Update(slices.Values(eps[:1]))
		synctest.Wait()
		if w.now != 1 {
			t.Errorf("checks under way after two of three endpoints have gone = %d, want 1", w.now)
		}
		w.Update(slices.Values([]discovery.Endpoint{}))
		w.Update(slices.Values(eps[:1])) // another one at the same address
		w.set(func() { w.takes = nil })
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if got := w.times(eps[1].Addr); len(got) != 1 {
			t.Errorf("checks of one that has gone = %v, want the first only", got)
		}
		if got := w.times(eps[0].Addr); len(got) != 3 || got[1] != 1 || got[2] != 11 {
			t.Errorf("checks of one that came back = %v, want at 0, 1 and 11 s", got)
		}
		if len(w.results) != 1 || len(w.results[eps[0].Addr]) != 2 {
			t.Errorf("results = %v, want two of the endpoint that is there: the other checks were cancelled", w.results)
		}
	})
}

func TestEndpointsChangeUnderTheirChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := admit(t, Config{Spread: -1, Interval: 20 * time.Millisecond, Rate: 100_000})
		for i := range 200 {
			eps := patients(50)[i%40:]
			for k := range eps {
				eps[k].Meta = map[string]string{"turn": fmt.Sprint(i)}
			}
			w.Update(slices.Values(eps))
			w.Resume()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.Runner.mu.Lock()
		defer w.Runner.mu.Unlock()
		if len(w.targets) != 11 || len(w.due)+w.inflight != 11 {
			t.Errorf("endpoints, queued, under way = %d, %d, %d, want 11 in all", len(w.targets), len(w.due), w.inflight)
		}
		last := w.results[patients(50)[49].Addr]
		if got := last[len(last)-1].Endpoint.Meta["turn"]; got != "199" {
			t.Errorf("the last check was of what was said in turn %s, want 199", got)
		}
	})
}

func TestRunWaitsForItsChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := false
		r := New(Config{Spread: -1, Timeout: time.Hour}, func(ctx context.Context, _ discovery.Endpoint) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			ended = true
			return nil
		}, func(Result) { t.Error("a check that was cancelled has a result") }, nil)
		r.Update(slices.Values(patients(1)))
		time.AfterFunc(time.Second, cancel)
		r.Run(ctx)
		if !ended {
			t.Error("Run returned before its last check")
		}
	})
}

package discovery

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeLease is a registry with one entry, which it forgets.
type fakeLease struct {
	mu    sync.Mutex // guards all below
	there bool
	until time.Time // the entry is forgotten
	err   error     // of each call
	hang  bool      // until the context ends
	crash bool
	calls []string
	at    []time.Time // of the calls
}

const fakeTTL = 15 * time.Second

func (f *fakeLease) call(ctx context.Context, name string, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.at = append(f.calls, name), append(f.at, time.Now())
	if f.crash {
		panic("crash")
	}
	if f.hang {
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return ctx.Err()
	}
	if f.err != nil {
		return f.err
	}
	return do()
}

func (f *fakeLease) Put(ctx context.Context) error {
	return f.call(ctx, "put", func() error { f.there, f.until = true, time.Now().Add(fakeTTL); return nil })
}

func (f *fakeLease) Renew(ctx context.Context) error {
	return f.call(ctx, "renew", func() error {
		if !f.there || time.Now().After(f.until) {
			return ErrLeaseLost
		}
		f.until = time.Now().Add(fakeTTL)
		return nil
	})
}

func (f *fakeLease) Remove(ctx context.Context) error {
	return f.call(ctx, "remove", func() error { f.there = false; return nil })
}

func (f *fakeLease) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// count returns how many calls of a name there were since, all for "".
func (f *fakeLease) count(name string, since time.Time) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, call := range f.calls {
		if (name == "" || call == name) && !f.at[i].Before(since) {
			n++
		}
	}
	return n
}

func (f *fakeLease) alive() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.there && !time.Now().After(f.until)
}

// kept runs do with a lease that is kept.
func kept(t *testing.T, opts LeaseOptions, do func(t *testing.T, f *fakeLease, r Registration)) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeLease)
		r, err := KeepLease(t.Context(), f, opts)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			f.change(func() { f.err, f.hang, f.crash = nil, false, false })
			if err := r.Close(context.Background()); err != nil || f.there {
				t.Errorf("Close() = %v, the entry is there: %v", err, f.there)
			}
		}()
		do(t, f, r)
	})
}

func TestKeepLeaseRenewsThriceEachTTL(t *testing.T) {
	kept(t, LeaseOptions{}, func(t *testing.T, f *fakeLease, _ Registration) {
		for range 600 {
			time.Sleep(time.Second)
			if !f.alive() {
				t.Fatalf("the lease ran out")
			}
		}
		// One every 5 s, and up to an eighth sooner.
		if n := f.count("renew", time.Time{}); n < 119 || n > 138 || f.count("put", time.Time{}) != 1 {
			t.Errorf("%d renewals and %d puts in 10 min, want about 128 and 1", n, f.count("put", time.Time{}))
		}
	})
}

func TestKeepLeasePutsAgainWhatIsLost(t *testing.T) {
	var told error
	kept(t, LeaseOptions{OnError: func(err error) { told = err }}, func(t *testing.T, f *fakeLease, _ Registration) {
		for range 20 {
			time.Sleep(20 * time.Second)
			f.change(func() { f.there = false })
			time.Sleep(5 * time.Second)
			if !f.alive() {
				t.Fatal("the entry is not back 5 s after it was lost")
			}
		}
		if !errors.Is(told, ErrLeaseLost) {
			t.Errorf("OnError was told %v, want %v", told, ErrLeaseLost)
		}
	})
}

func TestKeepLeaseWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wake := make(chan struct{}, 1)
		f := new(fakeLease)
		r, err := KeepLease(t.Context(), f, LeaseOptions{Wake: wake})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close(context.Background())
		time.Sleep(time.Minute)
		f.change(func() { f.there = false })
		wake <- struct{}{}
		synctest.Wait()
		if !f.alive() {
			t.Error("the entry is not back although the loop was woken")
		}
		// Who wakes all the time is not believed.
		start := time.Now()
		for time.Since(start) < time.Minute {
			wake <- struct{}{}
		}
		if n := f.count("", start); n > 64 {
			t.Errorf("%d attempts in a minute, want at most one a second", n)
		}
	})
}

// Whatever fails and for however long, the entry is back within 2 s after the cause is gone, and until then the registry
// is asked at most once a second.
func TestKeepLeaseComesBack(t *testing.T) {
	for name, fail := range map[string]func(*fakeLease){
		"unreachable": func(f *fakeLease) { f.err = errors.New("connection refused") },
		"failing":     func(f *fakeLease) { f.err = &RefusedError{Err: errors.New("status 500")} },
		"panicking":   func(f *fakeLease) { f.crash = true },
		"always lost": func(f *fakeLease) { f.err = ErrLeaseLost },
	} {
		for _, outage := range []time.Duration{3 * time.Second, time.Minute, time.Hour} {
			kept(t, LeaseOptions{}, func(t *testing.T, f *fakeLease, _ Registration) {
				time.Sleep(time.Minute)
				start := time.Now()
				f.change(func() { fail(f); f.there = false })
				time.Sleep(outage)
				if n, most := f.count("", start), int(outage/time.Second)+leaseBurst; n > most {
					t.Errorf("%s: %d attempts in %v, want at most %d", name, n, outage, most)
				}
				f.change(func() { f.err, f.crash = nil, false })
				within := 2 * time.Second
				if outage < fakeTTL/3 {
					within = fakeTTL / 3 // nobody has noticed yet
				}
				time.Sleep(within)
				if !f.alive() {
					t.Errorf("%s for %v: the entry is not back after %v", name, outage, within)
				}
			})
		}
	}
}

func TestKeepLeaseOutlivesAFrozenRegistry(t *testing.T) {
	kept(t, LeaseOptions{}, func(t *testing.T, f *fakeLease, _ Registration) {
		f.change(func() { f.hang = true })
		time.Sleep(time.Minute)
		// The last attempt hangs on in the frozen registry, at most a third of the TTL.
		f.change(func() { f.hang = false })
		time.Sleep(fakeTTL/3 + 2*time.Second)
		if !f.alive() {
			t.Error("the entry is not back")
		}
	})
}

func TestKeepLeaseAsksSeldomWhileDenied(t *testing.T) {
	kept(t, LeaseOptions{}, func(t *testing.T, f *fakeLease, _ Registration) {
		f.change(func() { f.err = &RefusedError{Denied: true, Err: errors.New("permission denied")} })
		start := time.Now()
		time.Sleep(10 * time.Minute)
		// 15 s is the mean of the pause; twice the expected number is beyond chance.
		if n := f.count("", start); n < 20 || n > 80 {
			t.Errorf("%d attempts in 10 min, want about 45", n)
		}
		f.change(func() { f.err = &RefusedError{After: time.Hour, Err: errors.New("slow down")} })
		time.Sleep(2 * time.Minute)
		start = time.Now()
		time.Sleep(10 * time.Minute)
		if n := f.count("", start); n < 5 || n > 10 {
			t.Errorf("%d attempts in 10 min, want about 8: a minute and 15 s between two", n)
		}
	})
}

func TestKeepLeaseFailsAtOnce(t *testing.T) {
	down := errors.New("connection refused")
	if _, err := KeepLease(t.Context(), &fakeLease{err: down}, LeaseOptions{}); !errors.Is(err, down) {
		t.Errorf("KeepLease() = %v, want %v", err, down)
	}
	f := new(fakeLease)
	if _, err := KeepLease(t.Context(), f, LeaseOptions{TTL: time.Second}); !errors.Is(err, ErrInvalidInstance) || !strings.Contains(err.Error(), "LeaseOptions.TTL") {
		t.Errorf("KeepLease() = %v, want an error that names the field", err)
	}
	if len(f.calls) > 0 {
		t.Errorf("calls are %v, want none", f.calls)
	}
}

func TestKeepLeaseCloses(t *testing.T) {
	kept(t, LeaseOptions{}, func(t *testing.T, f *fakeLease, r Registration) {
		down := errors.New("connection refused")
		f.change(func() { f.err = down })
		if err := r.Close(t.Context()); !errors.Is(err, down) {
			t.Errorf("Close() = %v, want %v", err, down)
		}
		f.change(func() { f.err, f.hang = nil, true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close() of what hangs = %v, want %v", err, context.DeadlineExceeded)
		}
		f.change(func() { f.hang = false })
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := r.Close(t.Context()); err != nil {
					t.Errorf("Close() = %v", err)
				}
			})
		}
		wg.Wait()
		if n := f.count("remove", time.Time{}); n != 3 {
			t.Errorf("%d removals, want two that failed and one that did not", n)
		}
		start := time.Now()
		time.Sleep(time.Hour)
		if n := f.count("", start.Add(1)); n != 0 {
			t.Errorf("%d calls after Close", n)
		}
	})
}

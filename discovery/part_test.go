package discovery

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// far is a source that others can write to.
type far []Endpoint

func (far) Remote() bool { return true }

func (f far) Watch(ctx context.Context, _ string, update func([]Endpoint)) error {
	update(f)
	<-ctx.Done()
	return ctx.Err()
}

// A combinator that nobody supervises checks no addresses, so those that the default policy refuses are chosen from, too.
func TestPartsOfWhatNobodyChecksAreChosenFromAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := far{{Addr: "10.0.0.1:80"}, {Addr: "127.0.0.1:80"}, {Addr: "127.0.0.2:80"}}
		keep := func(e Endpoint) bool { return e.Addr != "127.0.0.2:80" }
		ctx, cancel := context.WithCancel(t.Context())
		sets := make(chan []Endpoint, 10)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = Merge{Filter{Resolver: source, Keep: keep}}.Watch(ctx, "orders", func(set []Endpoint) { sets <- set })
		}()
		time.Sleep(time.Minute)
		cancel()
		<-done
		if got, want := addrs(<-sets), "10.0.0.1:80 127.0.0.1:80"; got != want {
			t.Errorf("endpoints %s, want %s", got, want)
		}
	})
}

// Rand is called by those that supervise a combinator and its sources, but never by two at a time.
func TestRandOfACombinatorIsCalledOneAtATime(t *testing.T) {
	calls := 0 // the race detector sees who counts at the same time
	s := &supervisor{opts: RunOptions{Rand: func() uint64 { calls++; return 0 }}, cut: func() {}}
	s.guard.doubt.since = time.Now().Add(time.Hour) // no timer is to fire
	opts := s.delegate()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			_ = opts.Rand()
		}
	}()
	for range 1000 {
		s.mu.Lock()
		s.arm()
		s.disarm()
		s.mu.Unlock()
	}
	<-done
	if calls != 2000 {
		t.Errorf("%d calls, want 2000", calls)
	}
}

package loadbalance

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

func TestNodeFillsTwoCacheLines(t *testing.T) {
	// What is allocated is the next size of 112, 128 and 144 bytes; only that of 128 lies on the bounds of lines.
	if got := unsafe.Sizeof(Node{}); unsafe.Sizeof(uintptr(0)) == 8 && (got <= 112 || got > 128) {
		t.Errorf("size of a Node = %d, want 113 to 128", got)
	}
	if got := unsafe.Offsetof(Node{}.health); unsafe.Sizeof(uintptr(0)) == 8 && got != 64 {
		t.Errorf("what a pick reads takes %d bytes, want 64", got)
	}
}

func TestAttachBuildsOnce(t *testing.T) {
	type key struct{ name string }
	b := New(Config{})
	b.Update(endpoints(1))
	n := b.Set().Nodes()[0]
	var built atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for _, name := range []string{"a", "b", "c"} {
				got := n.Attach(key{name}, func() (any, func()) {
					built.Add(1)
					return name, func() {}
				})
				if got != name {
					t.Errorf("Attach(%s) = %v", name, got)
				}
			}
		})
	}
	wg.Wait()
	if got := built.Load(); got != 3 {
		t.Errorf("built %d values, want 3", got)
	}
}

func TestAttachmentsAreReleasedWhenTheNodeLeftAndWhenItsLastAttemptEnded(t *testing.T) {
	b := New(Config{})
	b.Update(endpoints(2))
	n := b.Set().Nodes()[1]
	view := b.View([]*Node{n})
	var released int
	n.Attach("conn", func() (any, func()) { return 1, func() { released++ } })
	now := time.Now()
	first, _ := view.Pick(Info{Now: now})
	second, _ := view.Pick(Info{Now: now})
	earlier, _ := view.Pick(Info{Now: now})
	check := func(when string, want int) {
		t.Helper()
		if released != want {
			t.Errorf("released %d times %s, want %d", released, when, want)
		}
	}
	earlier.Done(Report{Now: now})
	check("while in the set", 0)
	b.Update(endpoints(1))
	check("after it left", 1)
	first.Done(Report{Now: now})
	check("with an attempt left", 1)
	second.Done(Report{Now: now})
	check("after the last attempt", 2)
	late, _ := view.Pick(Info{Now: now}) // by a transport that still holds the old set
	check("during a late attempt", 2)
	late.Done(Report{Now: now})
	check("after a late attempt", 3)

	b.Update(endpoints(2))
	if b.Set().Nodes()[1] == n {
		t.Error("an endpoint that came back got its released node")
	}
}

// However attempts, attachments and the departure fall, what was attached during an attempt is released
// after it.
func TestNothingAttachedOutlivesANode(t *testing.T) {
	for range 100 {
		b := New(Config{})
		b.Update(endpoints(1))
		n := b.Set().Nodes()[0]
		view := b.View([]*Node{n})
		var open atomic.Bool
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 20 {
					p, err := view.Pick(Info{Now: time.Now()})
					if err != nil {
						t.Error(err)
						return
					}
					p.Node().Attach("conn", func() (any, func()) { return nil, func() { open.Store(false) } })
					open.Store(true) // as a connection that goes idle
					p.Done(Report{Now: time.Now()})
				}
			})
		}
		wg.Go(func() { b.Update(nil) })
		wg.Wait()
		if open.Load() {
			t.Fatal("a connection was left open")
		}
		if got := n.InFlight(); got != 0 {
			t.Fatalf("InFlight() = %d, want 0", got)
		}
	}
}

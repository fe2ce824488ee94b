package resilience

import (
	"sync"
	"sync/atomic"
	"time"
)

// tallySlots is how many parts a tally has. The oldest one leaves it at once.
const tallySlots = 10

// tallyCells is between how many cells what is added is spread, so that processors seldom fight for one.
const tallyCells = 8

// tally adds up what came in the last ten slots of time, the present one included.
type tally struct {
	slot  time.Duration
	ends  atomic.Int64 // when the present slot does
	total atomic.Int64 // of past
	cells [tallyCells]tallyCell

	mu    sync.Mutex // guards what follows, and writes of ends and total
	past  [tallySlots - 1]int64
	place int // of the oldest
}

type tallyCell struct {
	n atomic.Int64
	_ [120]byte // two lines: processors fetch the next one, too
}

// add adds n. It reports whether a slot has begun since the last time.
func (y *tally) add(now time.Duration, n int64) bool {
	turned := y.turn(now)
	// The nanosecond is as good as a random number.
	y.cells[uint32(now)*0x9e3779b9>>29].n.Add(n)
	return turned
}

// turn lets slots pass that are over, and reports whether any was.
func (y *tally) turn(now time.Duration) bool {
	if int64(now) < y.ends.Load() {
		return false
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.turnLocked(now)
}

func (y *tally) turnLocked(now time.Duration) bool {
	ends := y.ends.Load()
	if int64(now) < ends {
		return false
	}
	n := int64(0)
	for i := range y.cells {
		n += y.cells[i].n.Swap(0)
	}
	passed := (int64(now)-ends)/int64(y.slot) + 1
	total := y.total.Load()
	for range min(passed, tallySlots) {
		total += n - y.past[y.place]
		y.past[y.place], n = n, 0
		y.place = (y.place + 1) % len(y.past)
	}
	y.total.Store(total)
	y.ends.Store(ends + passed*int64(y.slot))
	return true
}

// sum returns what came in the window as it was when it last turned. More may come meanwhile.
func (y *tally) sum() int64 {
	n := y.total.Load()
	for i := range y.cells {
		n += y.cells[i].n.Load()
	}
	return n
}

// draw takes n out if that much is left above -reserve.
func (y *tally) draw(now time.Duration, n, reserve int64) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.turnLocked(now)
	if y.sum()+reserve < n {
		return false
	}
	y.cells[0].n.Add(-n)
	return true
}

package loadbalance

import (
	"math"
	"sync/atomic"
	"time"
)

// health is what the ejection of a node is decided by.
type health struct {
	run     atomic.Uint64 // failures in a row, and above 32 bits silences
	silent  atomic.Int64  // when the last silence that counts was noticed, 0 if there was none
	latency atomic.Uint32 // float32 bits of the average latency in nanoseconds, 0 if unknown
	// since is when the node was last ejected, spared or returned. What began before tells nothing new.
	since atomic.Int64
	lease atomic.Int64  // how long a probe may keep others away
	cause atomic.Uint32 // why it was, as a Cause
	toll  toll
	// ring counts the responses of the last slots of time. A word holds the slot it is for in its upper 24 bits, and
	// below all responses and the failed ones in 20 bits each, so that it expires by itself.
	ring [slots]atomic.Uint64

	// Guarded by the lock of outliers.
	times int           // ejections without a quiet Window
	back  time.Duration // when the node last returned
}

const (
	slots     = 10
	slotShift = 40
	allShift  = 20
	countMask = 1<<20 - 1
	slotMask  = 1<<24 - 1
)

// count adds a response in the given slot of time. A million in one slot are enough: more are not counted.
func (h *health) count(slot uint32, failed bool) {
	one := uint64(1) << allShift
	if failed {
		one++
	}
	w := &h.ring[slot%slots]
	for {
		old := w.Load()
		if uint32(old>>slotShift) == slot&slotMask {
			if old>>allShift&countMask < countMask-1<<10 { // room for those who add at the same time
				w.Add(one)
			}
			return
		}
		if w.CompareAndSwap(old, uint64(slot&slotMask)<<slotShift|one) {
			return
		}
	}
}

// sum returns the responses within the window that ends with the slot, and how many of them failed.
func (h *health) sum(slot uint32) (all, failed int) {
	for i := range h.ring {
		w := h.ring[i].Load()
		if (slot-uint32(w>>slotShift))&slotMask < slots {
			all += int(w >> allShift & countMask)
			failed += int(w & countMask)
		}
	}
	return all, failed
}

// aSilence is one of health.run.
const aSilence = 1 << 32

// runOf returns how many failures and silences in a row there were.
func runOf(word uint64) int { return int(word>>32 + word&(aSilence-1)) }

// silence is told of an attempt that was given up because no answer came for long, and reports whether that counts. Of all
// attempts that were under way when the last one that counts was given up none does: a node that stops for a moment keeps
// many waiting at once, and one that is slow to refuse calls is taken to be silent until somebody waits for it.
func (h *health) silence(start, now time.Duration) bool {
	last := h.silent.Load()
	return (last == 0 || int64(start) > last) && h.silent.CompareAndSwap(last, max(int64(now), 1))
}

// speak is told that the node answered, though not well: it does not hang.
func (h *health) speak() {
	for word := h.run.Load(); word >= aSilence; word = h.run.Load() {
		if h.run.CompareAndSwap(word, word&(aSilence-1)) {
			return
		}
	}
}

// latencySamples is how many responses the average latency is made of, about. A tenth of it would eject a node for one
// slow call.
const latencySamples = 16

// time takes a latency into the average. Of samples that come at the same time one may get lost.
func (h *health) time(d time.Duration) {
	avg := h.average()
	if avg == 0 {
		avg = float32(d)
	}
	avg += (float32(d) - avg) / latencySamples
	h.latency.Store(math.Float32bits(avg))
}

// bound takes in that an attempt took at least so long, which tells something only if it is more than usual.
func (h *health) bound(d time.Duration) {
	if avg := h.average(); avg > 0 && float32(d) > avg {
		h.time(d)
	}
}

// average returns the average latency in nanoseconds, 0 if unknown.
func (h *health) average() float32 { return math.Float32frombits(h.latency.Load()) }

// toll is how many good answers a node gave, and what time was spent on them and on attempts that failed. One word holds
// both, so that they fit together: microseconds above 20 bits of answers, modulo what there is room for.
type toll struct {
	sum, seen atomic.Uint64
}

const answersShift = 20

func (c *toll) add(d time.Duration, good bool) {
	word := uint64(d/time.Microsecond) << answersShift
	if good {
		word++
	}
	c.sum.Add(word)
}

// since returns what has come since it was last called.
func (c *toll) since() (answers int64, spent time.Duration) {
	sum := c.sum.Load()
	diff := sum - c.seen.Swap(sum)
	return int64(diff & (1<<answersShift - 1)), time.Duration(diff>>answersShift) * time.Microsecond
}

// reset forgets everything but the times of ejection.
func (h *health) reset(now time.Duration) {
	h.since.Store(int64(now))
	h.run.Store(0)
	h.latency.Store(0)
	h.clear()
}

// clear forgets the responses of the last slots of time.
func (h *health) clear() {
	for i := range h.ring {
		h.ring[i].Store(0)
	}
}

package loadbalance

import (
	"math"
	"sync/atomic"
	"time"
)

// decayTime is the time in which an old latency loses all but 1/e of its influence: Finagle's and
// Linkerd's value. A tenth of it would forget a slow endpoint between two calls of a quiet service, ten times
// as much would shun one for minutes after a pause of its garbage collector.
const decayTime = 10 * time.Second

// ewma is a peak-sensitive moving average, as in Finagle's "Peak EWMA" balancer: a sample above the average
// replaces it, one below is averaged in with a weight that grows with the time since the last one. An
// average that gets no samples decays towards zero, so that an avoided node is tried again some day.
//
// The average and its time share a word, so that neither lock nor torn read can occur: the upper half is
// the average in nanoseconds as a float32, the lower half the time in ticks of 1.05 ms, which wraps in 52 days.
type ewma struct{ bits atomic.Uint64 }

const tickShift = 20

func ticks(now time.Duration) uint32 { return uint32(now >> tickShift) }

// pack never returns 0, the word of no sample, since no average is below one nanosecond.
func pack(cost float64, tick uint32) uint64 {
	return uint64(math.Float32bits(float32(cost)))<<32 | uint64(tick)
}

func unpack(word uint64) (cost float64, tick uint32) {
	return float64(math.Float32frombits(uint32(word >> 32))), uint32(word)
}

// decay returns what is left of 1 after so many ticks: e^(-age/decayTime).
func decay(age uint32) float64 {
	if age > maxAge {
		return 0
	}
	return decayed(age)
}

// maxAge is when less is left than matters to anybody: a second has become a picosecond.
const maxAge = 1 << 18

// decayed is decay for ages within maxAge, and those of less than 0, modulo 2^32, which make it grow. Every pick needs one, and
// waits for it: two look-ups take a quarter of the time of the arithmetic. There are no branches, since which of two
// samples is older is anybody's guess, the processor's, too.
func decayed(age uint32) float64 {
	d := min(max(int32(age), -maxAge), maxAge)
	return fine[d&(1<<fineBits-1)] * coarse[(d+maxAge)>>fineBits]
}

const fineBits = 8

// fine is what is left after 0, 1, 2 ... ticks, coarse that after as many times all of these, from -maxAge on.
var fine, coarse = func() (f [1 << fineBits]float64, c [2*maxAge>>fineBits + 1]float64) {
	const tick = -float64(1<<tickShift) / float64(decayTime)
	for i := range f {
		f[i] = math.Exp(tick * float64(i))
	}
	const mid = maxAge >> fineBits
	c[mid] = 1
	for i := range mid {
		c[mid+i+1] = c[mid+i] * f[1<<fineBits-1] * f[1]
		c[mid-i-1] = 1 / c[mid+i+1]
	}
	return f, c
}()

// at returns the average in nanoseconds, and false if there never was a sample.
func (e *ewma) at(now time.Duration) (float64, bool) {
	word := e.bits.Load()
	if word == 0 {
		return 0, false
	}
	cost, tick := unpack(word)
	if age := ticks(now) - tick; int32(age) > 0 { // modulo 2^32; else another writer was ahead of us
		cost *= decay(age)
	}
	return cost, true
}

// observe adds a sample.
func (e *ewma) observe(now, sample time.Duration) {
	tick, s := ticks(now), float64(max(sample, 1))
	for {
		word := e.bits.Load()
		cost, last := unpack(word)
		weight := 0.0 // of the sample
		if age := tick - last; int32(age) > 0 {
			weight = 1 - decay(age)
		} else {
			tick = last
		}
		switch {
		case word == 0:
			cost, tick = s, ticks(now)
		case s > cost:
			cost = s
		case weight == 0:
			return // no time has passed
		default:
			cost += (s - cost) * weight
		}
		if e.bits.CompareAndSwap(word, pack(cost, tick)) {
			return
		}
	}
}

// raise makes sure that the average is at least bound: what is known of an attempt that was given up. A
// bound below what an unknown endpoint is taken to cost teaches nothing about one.
func (e *ewma) raise(now, bound time.Duration) {
	cost, ok := e.at(now)
	if !ok {
		cost = float64(unknownCost)
	}
	if float64(bound) > cost {
		e.observe(now, bound)
	}
}

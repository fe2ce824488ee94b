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

func ticks(now time.Duration) uint32 { return uint32(now>>tickShift) | 1 }

func pack(cost float64, tick uint32) uint64 {
	return uint64(math.Float32bits(float32(cost)))<<32 | uint64(tick)
}

// decayed returns the average at a tick.
func decayed(word uint64, tick uint32) float64 {
	cost := float64(math.Float32frombits(uint32(word >> 32)))
	age := tick - uint32(word) // modulo 2^32
	if int32(age) <= 0 {       // another writer was ahead of us
		return cost
	}
	return cost * math.Exp(-float64(age)*float64(1<<tickShift)/float64(decayTime))
}

// at returns the average in nanoseconds, and false if there never was a sample.
func (e *ewma) at(now time.Duration) (float64, bool) {
	word := e.bits.Load()
	if word == 0 {
		return 0, false
	}
	return decayed(word, ticks(now)), true
}

// observe adds a sample.
func (e *ewma) observe(now, sample time.Duration) {
	tick, s := ticks(now), float64(max(sample, 1))
	for {
		word := e.bits.Load()
		cost := s
		if word != 0 {
			old := float64(math.Float32frombits(uint32(word >> 32)))
			kept := decayed(word, tick)
			if s <= kept {
				cost = kept + s*(1-kept/old)
				if uint32(word) == tick {
					return // no time has passed: the sample has no weight
				}
			}
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

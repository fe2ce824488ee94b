package loadbalance

import "sync/atomic"

// flights counts the attempts in flight on a node, and above them all picks of it, in one word: to count picks costs nothing then.
type flights struct{ word atomic.Int64 }

const (
	// flightBits leave room for four million attempts in flight, whose calls would take gigabytes, and for four million million
	// picks before their number begins anew: a million a second for fifty days.
	flightBits = 22
	flightMask = 1<<flightBits - 1
	onePick    = 1<<flightBits + 1
)

// Load returns how many attempts are in flight.
func (f *flights) Load() int64 { return f.word.Load() & flightMask }

// Add adds to what is in flight, without a pick, and returns what is then.
func (f *flights) Add(d int64) int64 { return f.word.Add(d) & flightMask }

// pick counts a pick, which is in flight.
func (f *flights) pick() { f.word.Add(onePick) }

// below counts a pick unless so many attempts are in flight, and reports whether it did.
func (f *flights) below(most int64) bool {
	for {
		word := f.word.Load()
		if word&flightMask >= most {
			return false
		}
		if f.word.CompareAndSwap(word, word+onePick) {
			return true
		}
	}
}

// unpick takes back a pick that was not to be.
func (f *flights) unpick() int64 { return f.word.Add(-onePick) & flightMask }

// Store sets what is in flight.
func (f *flights) Store(v int64) { f.word.Store(f.word.Load()&^flightMask | v&flightMask) }

// Picks returns how many picks of the node there were since it was first in the set: attempts, with those in flight. It
// begins anew at 2^42.
func (n *Node) Picks() uint64 { return uint64(n.inflight.word.Load()) >> flightBits }

package xds

import (
	"math/rand/v2"
	"time"
)

const (
	// firstWait, shortWait and refusedWait are the largest waits before a new stream: after the first failure, while
	// nobody answers, and while the control plane answers with refusals and there are endpoints to work with. They are
	// those of discovery.Run, which waits at the same time and not one after the other.
	firstWait   = 200 * time.Millisecond
	shortWait   = 1500 * time.Millisecond
	refusedWait = 30 * time.Second
	// steady is how long a stream must last to count as one that works, and the least wait before the next one
	// once more than burst streams in a row were answered and did not last.
	steady = time.Second
	burst  = 3
)

// gate says when the next stream may begin. Each discovery.Run waits by itself before it watches again, so many of them
// together would try again all the time: those who come early wait here for one stream.
type gate struct {
	opens time.Time
	// urgent is the same for who has no endpoints to work with.
	urgent time.Time
	window time.Duration
	brief  int
}

// ending is what is known of a stream that ended.
type ending struct {
	at       time.Time
	answered bool // by the control plane, with at least one answer
	garbled  bool // by an answer that could not be decoded
	lasted   time.Duration
	refused  bool
	after    time.Duration // what the control plane asked us to wait
	serving  bool          // there are endpoints to work with
}

// ended notes how a stream ended: exponential backoff with full jitter.
func (g *gate) ended(e ending) {
	if e.answered && !e.garbled {
		g.brief++
		if e.lasted >= steady {
			g.brief = 0
		}
		if g.brief <= burst {
			g.window = 0
		}
	}
	limit := shortWait
	if e.refused && e.serving {
		limit = refusedWait
	}
	g.window = min(max(2*g.window, firstWait), limit)
	wait := rand.N(g.window) + 1
	urgent := min(wait, rand.N(shortWait)+1)
	switch {
	case g.brief > burst:
		wait, urgent = steady+wait/2, steady+urgent/2
	case e.garbled && g.window == shortWait:
		// Half of it is certain, for 1.1 s on average, as in discovery.Run: each such stream costs a request.
		wait, urgent = shortWait/2+wait/2, shortWait/2+urgent/2
	}
	g.opens = e.at.Add(wait + e.after)
	g.urgent = e.at.Add(urgent + e.after)
}

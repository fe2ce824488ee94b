package discovery

import (
	"errors"
	"math/bits"
	"time"

	"github.com/cenkalti/backoff/v4"
)

const (
	// firstWait is the window of the first wait. Ten times less would bring all callers back within the
	// time a registry needs to accept a connection, ten times more would show in recovery.
	firstWait = 200 * time.Millisecond
	// shortWait is the largest window while calls may depend on the next answer. It leaves half a second
	// for the answer itself if calls are to work 2 s after the cause of a failure went away.
	shortWait = 1500 * time.Millisecond
	// refusedWait is the largest window for a source that answers with refusals: asking costs it, and there
	// is a set to work with.
	refusedWait = 30 * time.Second
	// longestAfter limits what a source may ask us to wait.
	longestAfter = time.Minute
	// steady is how long a watch must last to count as one that works, and the least wait before each
	// next try once more than burst watches in a row answered and did not last: one restart a second.
	steady = time.Second
	burst  = 3
)

// ending is what is known of a watch that ended.
type ending struct {
	// err is why it ended; nil if it was ended to ask again.
	err error
	// answered is set if the source said what it has.
	answered bool
	lasted   time.Duration
	// serving is set if there are endpoints to make calls with.
	serving bool
}

// pauses finds the waits between watches: exponential with full jitter
// (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), because the callers of a registry
// lose it at the same moment and must not come back at the same moment.
type pauses struct {
	rand func() uint64
	// window is nil until a watch has failed.
	window *backoff.ExponentialBackOff
	// brief counts the watches in a row that answered and did not last.
	brief int
}

// next returns the wait before the watch that follows one that ended as e.
func (p *pauses) next(e ending) time.Duration {
	if e.answered {
		p.brief++
		if e.lasted >= steady {
			p.brief = 0
		}
		if p.brief <= burst {
			p.window = nil
		}
	}
	flood := e.answered && p.brief > burst
	if e.err == nil && !flood {
		return 0
	}

	limit := shortWait
	refused, ok := errors.AsType[*RefusedError](e.err)
	if ok && e.serving {
		limit = refusedWait
	}
	window := p.grow(limit)
	wait := jitter(p.rand(), window)
	switch {
	case flood:
		// At most 1.75 s while nothing is refused, so that recovery keeps its bound.
		wait = steady + wait/2
	case window == shortWait:
		// Half of it is certain, for 1.1 s on average: a source that answers with what is of no use is asked less than once a
		// second. Callers have spread in the windows before.
		wait = window/2 + wait/2
	}
	if ok {
		// Added, not the larger of both: else all who were told the same time come back at that time.
		wait += min(max(refused.After, 0), longestAfter)
	}
	return wait
}

// grow returns the present window, at most limit, and doubles it for the next time.
func (p *pauses) grow(limit time.Duration) time.Duration {
	if p.window == nil {
		p.window = &backoff.ExponentialBackOff{InitialInterval: firstWait, Multiplier: 2, Clock: backoff.SystemClock}
		p.window.Reset()
	}
	p.window.MaxInterval = limit
	return min(p.window.NextBackOff(), limit)
}

// jitter maps the random word r to (0, window].
func jitter(r uint64, window time.Duration) time.Duration {
	hi, _ := bits.Mul64(r, uint64(window))
	return time.Duration(hi) + 1
}

package resilience

import (
	"math"
	"time"
)

// gradient is a limit that follows from latency: calls that take longer than they do when nothing waits wait somewhere, and
// so there are too many of them. Each window it is multiplied with (tolerance * base / latency) and gets its square root on
// top, to look for more: Envoy's gradient controller
// (https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/adaptive_concurrency_filter), with the
// smoothing of Netflix's Gradient2. The base is the latency without queue. It is learned
//   - from windows in which the limit was hardly in use, which move it slowly, either way;
//   - from windows that take less than a third of it, at once: nothing that was queued is faster than what was not;
//   - from probes: for a moment only half as many calls are let in. If that helps, something waits, and the base is not
//     raised; if not, nothing does. There is one each minute while the limit is in use, and one when it has fallen by half,
//     so that it does not fall on where everything takes longer whatever the load is. Envoy probes by letting in three calls,
//     which is an outage where hundreds are needed.
//
// At first the limit doubles each window while it is in use, as TCP does in its slow start: by roots it would take a big
// server many seconds to let in what it can do. A window that shows a queue takes back what the one before it has doubled. The
// third one ends the start: those before may be chance, or the base too low, since the first calls to come back are the quickest.
// Windows that take long to fill do not double anything: a service of few workers has a queue before it has a base.
//
// Latencies are averaged by their logarithms: a mean would follow a few slow calls, and a median would jump where half of
// the calls take a hundred times as long as the others, as cached and uncached ones do. Calls that fail count if they took
// longer than they should: where all callers leave before their answers come, there are no others. Calls that came in before
// probing last began do not count: they tell what another load did.
type gradient struct {
	limit, min, max float64
	base            float64 // ns, 0 if it is not known
	probing         bool
	probe           time.Duration // when to begin with it
	before          float64       // latency when it began
	mark            float64       // half of the largest limit since it ended
	former          float64       // limit before it fell, to which it comes back even if it is not in use; 0 if it is there
	tries           int           // how many windows must still show a queue before the limit does not double any more
	doubled         bool          // after the last window
	random          func() uint64

	began time.Duration // of the window: its first sample
	peak  int           // calls in flight in the window
	n     int64         // samples of the window
	asked int64         // calls that a probe goes by
	logs  int64         // their sum
}

const (
	// tolerance is how much longer calls may take than without queue before the limit falls: Netflix's default for
	// Gradient2. With 1 noise would bring the limit down; with 3 a queue could stand for twice as long as the work takes.
	tolerance = 1.5
	// smoothing is the part of the way that a window moves the limit: Netflix's default. With all of it a limit would swing
	// as much as the latency of few samples does.
	smoothing = 0.2
	// maxGradient bounds what one window can do, as in Envoy; its inverse does the other way.
	maxGradient = 2.0
	// gradientWindow is the least time between changes of the limit, in Envoy's examples as here. Slow services need longer,
	// until calls that came after the last change have come back.
	gradientWindow = 100 * time.Millisecond
	// gradientSamples are the least samples of a window, and those of a probe: Envoy's number for the latter. With exponential
	// times of service they miss by 18 %; with ten it would be 40, and the base would fall to a third by chance.
	gradientSamples = 50
	// baseDrift is the part of the way that a window moves a base which is not far off.
	baseDrift = 0.1
	// probeEvery is the time between probes, give or take probeJitter of it, so that clients and servers that started
	// together do not probe together: with 15 % as in Envoy.
	probeEvery  = time.Minute
	probeJitter = 0.15
	// baseStep is the part of the way that a probe moves the base. The rest is what chance may have in its latency.
	baseStep = 0.7
	// helped is the part of the latency before a probe that it must stay below to show a queue. If one stands that takes
	// longer than the work, with half as many calls it takes less than three quarters.
	helped = 0.75
	// A probe is over when its calls are back, of which the last ones are the slowest: without them everything would seem
	// faster than it is. It is over in any case after longestProbe or so many times the latency before: where little comes
	// in, half of it should not be kept out for long. Then fewestSamples must do, which is Netflix's number.
	longestProbe  = 2 * time.Second
	rounds        = 10
	fewestSamples = 10
	// startTries is how many windows must show a queue to end the start, and startTolerance how much longer calls must take
	// in them: what the base is too low and what chance does together is hardly ever as much.
	startTries     = 3
	startTolerance = 2.0
)

// allowed returns how many calls may be in flight now.
func (g *gradient) allowed() float64 {
	if g.probing {
		return max(g.min, g.limit/2)
	}
	return g.limit
}

// admit notes that a call is let in, and reports whether it is one of those that the probe under way goes by.
func (g *gradient) admit() bool {
	if !g.probing || g.asked == gradientSamples {
		return false
	}
	g.asked++
	return true
}

// observe takes a sample of a call that came in since it last returned true: those that are in flight then do not count.
func (g *gradient) observe(s *sample) (anew bool) {
	g.peak = max(g.peak, s.inflight)
	switch {
	case g.probing && !s.probe:
	case s.latency > 0 && (s.outcome == Success || g.base > 0 && float64(s.latency) > tolerance*g.base):
		if g.n == 0 && !g.probing {
			g.began = s.now
		}
		g.logs += logOf(float64(s.latency))
		g.n++
	case g.probing:
		g.asked-- // another one takes its place
	}
	took := s.now - g.began
	if g.probing {
		g.probed(s.now, took)
		return false
	}
	if g.n < gradientSamples || took < max(gradientWindow, time.Duration(2*g.base)) {
		return false
	}
	latency := g.latency()
	used := float64(g.peak)*2 >= g.limit
	switch {
	case g.base == 0, latency < g.base/3:
		g.base = latency
	case !used:
		g.base += baseDrift * (latency - g.base)
	}
	queued := latency > tolerance*g.base
	grow := g.tries > 0 && used && took <= max(3*gradientWindow, time.Duration(3*g.base))
	if grow && latency > startTolerance*g.base {
		grow = false
		if g.tries--; g.doubled {
			g.doubled = false
			g.limit = max(g.limit/2, g.min)
			g.mark = g.limit / 2
			g.clear()
			return true
		}
	}
	g.doubled = grow
	switch {
	case grow:
		g.limit = min(2*g.limit, g.max)
	case used || g.limit < g.former && !queued:
		slope := min(max(tolerance*g.base/latency, 1/maxGradient), maxGradient)
		target := g.limit*slope + math.Sqrt(g.limit)
		g.limit = min(max(g.limit+smoothing*(target-g.limit), g.min), g.max)
	}
	if g.probe == 0 || !used { // there is no need
		g.probe, g.mark = s.now+g.untilProbe(), g.limit/2
	}
	g.mark = max(g.mark, g.limit/2)
	if g.limit >= g.former {
		g.former = 0
	}
	if s.now >= g.probe || g.limit < g.mark {
		if g.limit < g.mark {
			g.former = max(g.former, 2*g.mark)
		}
		g.before = latency
		g.turn(s.now, true)
		return true
	}
	g.clear()
	return false
}

// probed ends a probe that has gone on for long enough.
func (g *gradient) probed(now, took time.Duration) {
	if g.n < gradientSamples && took < max(longestProbe, time.Duration(rounds*g.before)) {
		return
	}
	if latency := g.latency(); g.n >= fewestSamples && (latency < g.base || latency > helped*g.before) {
		g.base += (latency - g.base) * baseStep
	}
	g.turn(now, false)
}

// turn begins or ends a probe.
func (g *gradient) turn(now time.Duration, probing bool) {
	g.probing, g.mark, g.began = probing, g.limit/2, now
	g.probe = now + g.untilProbe()
	g.clear()
}

// clear begins a window.
func (g *gradient) clear() { g.n, g.asked, g.logs, g.peak = 0, 0, 0, 0 }

func (g *gradient) untilProbe() time.Duration {
	return time.Duration(float64(probeEvery) * (1 - probeJitter + 2*probeJitter*unit(g.random())))
}

// latency returns the average of the window.
func (g *gradient) latency() float64 { return ofLog(g.logs / max(g.n, 1)) }

// logOf returns the logarithm to base 2 of x, in units that leave room for a billion of them: its whole part and, for the
// rest, how far x is on the way to the next power of two, which is less than 0.09 too low. That is what the bits of a
// float are, and takes a tenth of the time of math.Log2.
func logOf(x float64) int64 {
	return int64(math.Float64bits(max(x, 1))-math.Float64bits(1)) >> logShift
}

// ofLog is the inverse of logOf.
func ofLog(l int64) float64 { return math.Float64frombits(uint64(l)<<logShift + math.Float64bits(1)) }

const logShift = 24

package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// Law draws durations. It must use no other chance than rnd.
type Law func(rnd *rand.Rand) time.Duration

// Constant is always d.
func Constant(d time.Duration) Law { return func(*rand.Rand) time.Duration { return d } }

// Exponential has the given mean, and no memory.
func Exponential(mean time.Duration) Law {
	return func(rnd *rand.Rand) time.Duration { return scaled(mean, rnd.ExpFloat64()) }
}

// Lognormal has the given median, and sigma as the standard deviation of its logarithm: with 0.5, one in a hundred is more
// than three times the median.
func Lognormal(median time.Duration, sigma float64) Law {
	return func(rnd *rand.Rand) time.Duration { return scaled(median, math.Exp(sigma*rnd.NormFloat64())) }
}

// Pareto is at least least, and more than x times that with probability x^-alpha. Below 2 its tail is heavy, below 1 it has
// no mean.
func Pareto(least time.Duration, alpha float64) Law {
	return func(rnd *rand.Rand) time.Duration { return scaled(least, math.Pow(1-rnd.Float64(), -1/alpha)) }
}

// Mix is now and then, for a share of all draws, rare, and usual else: most answers come in a few milliseconds, and one in
// a hundred stalls.
func Mix(usual Law, share float64, rare Law) Law {
	return func(rnd *rand.Rand) time.Duration {
		if rnd.Float64() < share {
			return rare(rnd)
		}
		return usual(rnd)
	}
}

// longest is what takes longer than any simulation.
const longest = 1000 * time.Hour

func scaled(d time.Duration, factor float64) time.Duration {
	return time.Duration(min(float64(d)*factor, float64(longest)))
}

// draw returns a duration of a law, that of otherwise if there is none.
func (l Law) draw(rnd *rand.Rand, otherwise time.Duration) time.Duration {
	if l == nil {
		return otherwise
	}
	return min(max(l(rnd), 0), longest)
}

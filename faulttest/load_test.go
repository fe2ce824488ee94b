//go:build unix

package faulttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// callTimeout is the deadline of every call.
const callTimeout = time.Second

// caller makes one call and returns nil if it got a good answer.
type caller func(context.Context) error

// load sends calls at random times that no answer influences (a Poisson process), so that the calls that would have
// come while a backend stood still do come.
type load struct {
	began time.Time
	quit  chan struct{}
	stop  func() result
}

// sample is one call.
type sample struct {
	due     time.Duration // since the load began
	lag     time.Duration // from the time it was due to the time it was sent
	latency time.Duration // from the time it was due to its end
	err     error
}

// startLoad makes calls at the given mean rate per second until stop is called, at the latest at the end of the test.
func startLoad(t *testing.T, rate float64, call caller) *load {
	return startChangingLoad(t, func(time.Duration) float64 { return rate }, call)
}

// startChangingLoad is startLoad at a rate that depends on how long the load has lasted.
func startChangingLoad(t *testing.T, rate func(time.Duration) float64, call caller) *load {
	l := &load{began: time.Now(), quit: make(chan struct{})}
	var samples []*sample
	done := make(chan struct{})
	go func() { // ended and awaited by stop
		defer close(done)
		var calls sync.WaitGroup
		defer calls.Wait()
		random := rand.New(rand.NewPCG(1, 2))
		for due := l.began; ; {
			due = due.Add(time.Duration(random.ExpFloat64() / rate(due.Sub(l.began)) * float64(time.Second)))
			select {
			case <-time.After(time.Until(due)):
			case <-l.quit:
				return
			}
			s := &sample{due: due.Sub(l.began), lag: time.Since(due)}
			samples = append(samples, s)
			calls.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
				defer cancel()
				s.err = call(ctx)
				s.latency = time.Since(due)
			})
		}
	}()
	l.stop = sync.OnceValue(func() result {
		close(l.quit)
		sending := time.Since(l.began)
		<-done
		return evaluate(samples, sending)
	})
	t.Cleanup(func() { l.stop() })
	return l
}

// until waits until the load has gone on for d.
func (l *load) until(d time.Duration) { <-time.After(time.Until(l.began.Add(d))) }

// result is what callers saw of a load.
type result struct {
	calls, ok                     int
	rate                          float64 // calls sent per second
	lag                           time.Duration
	p50, p99, p999, max           time.Duration
	errors                        map[string]int
	attempts, backups, executions int
	picks                         []int // by backend; nil if nobody counted these
	samples                       []*sample
	sending                       time.Duration
	still                         time.Duration // see standstill; 0 if nobody looked
}

func evaluate(samples []*sample, sending time.Duration) result {
	r := result{calls: len(samples), rate: float64(len(samples)) / sending.Seconds(), errors: map[string]int{}, samples: samples, sending: sending}
	if r.calls == 0 {
		return r
	}
	lags, latencies := make([]time.Duration, r.calls), make([]time.Duration, r.calls)
	for i, s := range samples {
		lags[i], latencies[i] = s.lag, s.latency
		if s.err == nil {
			r.ok++
		} else {
			r.errors[s.err.Error()]++
		}
	}
	slices.Sort(lags)
	slices.Sort(latencies)
	r.lag = quantile(lags, 0.999)
	r.p50, r.p99, r.p999 = quantile(latencies, 0.5), quantile(latencies, 0.99), quantile(latencies, 0.999)
	r.max = latencies[r.calls-1]
	return r
}

// and returns the result of both loads together.
func (r result) and(other result) result {
	sum := evaluate(append(r.samples, other.samples...), r.sending+other.sending)
	sum.still = max(r.still, other.still)
	sum.attempts, sum.backups, sum.executions = r.attempts+other.attempts, r.backups+other.backups, r.executions+other.executions
	return sum
}

// between returns the result of the calls that were due from one time of the load up to another.
func (r result) between(from, to time.Duration) result {
	var part []*sample
	for _, s := range r.samples {
		if s.due >= from && s.due < to {
			part = append(part, s)
		}
	}
	return evaluate(part, to-from)
}

// quantile returns the smallest value that at least a share q of the sorted values does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	i := int(q*float64(len(sorted)) + 0.999999)
	return sorted[min(max(i, 1), len(sorted))-1]
}

func (r result) okShare() float64      { return float64(r.ok) / float64(r.calls) }
func (r result) perCall(n int) float64 { return float64(n) / float64(r.calls) }
func ms(d time.Duration) string        { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }
func (r result) share(backend int) float64 {
	sum := 0
	for _, n := range r.picks {
		sum += n
	}
	return float64(r.picks[backend]) / float64(sum)
}

// log shows the result in one line, and the errors, if any, below.
func (r result) log(t *testing.T, what string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d calls at %.0f/s (p99.9 sent %s ms late): ok %.3f %%, p50 %s p99 %s p99.9 %s max %s ms",
		what, r.calls, r.rate, ms(r.lag), 100*r.okShare(), ms(r.p50), ms(r.p99), ms(r.p999), ms(r.max))
	if r.picks != nil {
		fmt.Fprintf(&b, "; a call: %.3f attempts (%d backups in all), %.3f executions; picks %v",
			r.perCall(r.attempts), r.backups, r.perCall(r.executions), r.picks)
	}
	if r.still > 0 {
		fmt.Fprintf(&b, "; two backends stood still for %s ms", ms(r.still))
	}
	shown := 0
	for text, n := range r.errors {
		if shown++; shown > 10 {
			fmt.Fprintf(&b, "\n  ... of %d kinds", len(r.errors))
			break
		}
		fmt.Fprintf(&b, "\n  %d x %s", n, text)
	}
	t.Log(b.String())
}

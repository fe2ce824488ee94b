package resilience

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// meter returns a new one.
func (c *BreakerConfig) meter() meter {
	if c.Calls > 0 {
		return &lastCalls{cfg: c, ring: make([]byte, c.Calls)}
	}
	m := &rolling{}
	m.failed.init(c, c.Consecutive, c.Ratio)
	if c.measures() {
		m.slow = &counter{}
		m.slow.init(c, math.MaxUint32, c.SlowRatio)
	}
	return m
}

// rolling counts over a window of time.
type rolling struct {
	failed counter
	slow   *counter // nil if it does not matter how long answers take
}

func (m *rolling) add(failed, slow bool) bool {
	trip := m.failed.add(failed)
	return m.slow != nil && m.slow.add(slow) || trip
}

// counter is a gobreaker that is closed, of which only the window and the decision to open are of use. It is told of calls
// when they are over, by functions that are made once: so it costs no allocation.
type counter struct {
	cb   *gobreaker.CircuitBreaker[struct{}]
	open atomic.Bool
}

func (n *counter) init(c *BreakerConfig, consecutive uint32, ratio float64) {
	n.cb = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Interval:     c.Window,
		BucketPeriod: c.Window / 10,
		Timeout:      math.MaxInt64,
		ReadyToTrip: func(k gobreaker.Counts) bool {
			valid := k.TotalSuccesses + k.TotalFailures
			if k.ConsecutiveFailures >= consecutive ||
				valid >= c.MinRequests && float64(k.TotalFailures)/float64(valid) >= ratio {
				n.open.Store(true)
			}
			return n.open.Load()
		},
	})
}

var errBad = errors.New("bad")

func good() (struct{}, error) { return struct{}{}, nil }
func bad() (struct{}, error)  { return struct{}{}, errBad }

func (n *counter) add(isBad bool) bool {
	if !isBad {
		_, _ = n.cb.Execute(good) // the error is that of good, or that it has opened
		return false
	}
	_, _ = n.cb.Execute(bad)
	return n.open.Load()
}

// lastCalls counts over the last calls.
type lastCalls struct {
	cfg *BreakerConfig

	mu                     sync.Mutex // guards what follows
	ring                   []byte     // bits of results
	next                   int
	all, failed, slow, run uint32
}

const (
	failedBit = 1
	slowBit   = 2
)

func (m *lastCalls) add(failed, slow bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	place := &m.ring[m.next]
	if m.next++; m.next == len(m.ring) {
		m.next = 0
	}
	if m.all < uint32(len(m.ring)) {
		m.all++
	}
	m.failed -= uint32(*place & failedBit)
	m.slow -= uint32(*place & slowBit / slowBit)
	*place = 0
	m.run++
	if failed {
		*place |= failedBit
		m.failed++
	} else {
		m.run = 0
	}
	if slow {
		*place |= slowBit
		m.slow++
	}
	return m.run >= m.cfg.Consecutive || m.all >= min(m.cfg.MinRequests, m.cfg.Calls) && m.cfg.tooMany(m.failed, m.slow, m.all)
}

// usual learns how long answers usually take. What it goes by is a window older than the last one, so that a service that
// becomes slow has been so for at least 10 s before that is usual.
type usual struct {
	factor  float64
	latency Latency
	renewal atomic.Int64 // when that is due
	limit   atomic.Int64 // 0 while it is not known
	next    atomic.Int64 // what is the limit after the renewal
}

// exceeded takes in how long an answer took, and reports whether that is too long.
func (u *usual) exceeded(now, latency time.Duration, o Outcome) bool {
	if u == nil || latency <= 0 {
		return false
	}
	if o == Success {
		u.latency.Observe(now, latency)
	}
	if due := u.renewal.Load(); int64(now) >= due && u.renewal.CompareAndSwap(due, int64(now+latencyWindow)) {
		u.limit.Store(u.next.Load())
		if _, tail, ok := u.latency.Quantiles(); ok {
			u.next.Store(int64(u.factor * float64(tail)))
		}
	}
	limit := u.limit.Load()
	return limit > 0 && int64(latency) > limit
}

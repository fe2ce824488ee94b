package orca

import (
	"math"
	"math/bits"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// Meter measures the load of a server for its reports: how long recent requests took, by how many there were in flight when
// they began, and how many come and fail in a second. It is made by NewMeter. All methods are safe for concurrent use and
// take no lock.
type Meter struct {
	base   time.Time
	cells  [cells]cell
	served atomic.Int64
	failed atomic.Int64
	window atomic.Pointer[window]
	due    atomic.Int64 // when the next window begins, in nanoseconds after base
}

const (
	// recent is how long what a request took counts. A tenth of it would leave servers of a few requests a second without
	// anything to say, ten times as much would tell of neighbours that have left the machine long ago.
	recent = 10 * time.Second
	// depth is how many requests are remembered of each cell, and enough how many make a median: one alone is chance.
	depth  = 8
	enough = 4
	// exact numbers in flight have a cell each, and those above an eighth of a power of two, up to 2^16.
	exact = 16
	cells = exact + 12*8
	// windowTime is how long rates are counted.
	windowTime = time.Second
)

// cell holds what requests took that began with about the same number in flight: float32 bits of nanoseconds above the
// milliseconds after base at which they ended.
type cell struct {
	count   atomic.Uint32
	samples [depth]atomic.Uint64
}

// window is a time that is over, and the counts at its end.
type window struct {
	end            time.Duration
	served, failed int64
	cpu            time.Duration
	rates          Rates
}

// Rates are those of a second that is over. 0 means unknown or none.
type Rates struct {
	Requests, Errors float64 // per second
	// CPU is the part that this process uses of the processors it may use.
	CPU float64
}

// NewMeter returns a Meter that knows nothing yet.
func NewMeter() *Meter {
	m := &Meter{base: time.Now()}
	m.window.Store(&window{cpu: cpuTime()})
	m.due.Store(int64(windowTime))
	return m
}

// Observe takes in a request that was answered, which began when there were so many in flight. What a failure took says
// nothing: a server that fails at once is not a fast one. 0 says that it tells nothing in any case.
func (m *Meter) Observe(now time.Time, inflight int, took time.Duration, failed bool) {
	m.served.Add(1)
	if failed {
		m.failed.Add(1)
	}
	if failed || took <= 0 {
		return
	}
	c := &m.cells[cellOf(inflight)]
	c.samples[c.count.Add(1)%depth].Store(uint64(math.Float32bits(float32(took)))<<32 | uint64(m.milliseconds(now)))
}

func (m *Meter) milliseconds(now time.Time) uint32 {
	return uint32(now.Sub(m.base) / time.Millisecond)
}

func cellOf(inflight int) int {
	n := uint(min(max(inflight, 0), 1<<16-1))
	if n < exact {
		return int(n)
	}
	power := bits.Len(n) - 1 // at least 4
	return exact + (power-4)*8 + int(n>>(power-3)&7)
}

// Latency returns the median of what recent requests took that began with about so many in flight, 0 if there is none.
// Those that began with the nearest number count, as in the paper on Prequal.
func (m *Meter) Latency(now time.Time, inflight int) time.Duration {
	var list [enough + 2*depth]float32
	n, tick := 0, m.milliseconds(now)
	for k, off := cellOf(inflight), 0; off < cells && n < enough; off++ {
		if k+off < cells {
			n = m.cells[k+off].append(&list, n, tick)
		}
		if off > 0 && k-off >= 0 {
			n = m.cells[k-off].append(&list, n, tick)
		}
	}
	if n == 0 {
		return 0
	}
	slices.Sort(list[:n])
	return time.Duration(list[n/2])
}

// append adds what is recent to a list of n and returns how many there are then.
func (c *cell) append(list *[enough + 2*depth]float32, n int, tick uint32) int {
	if c.count.Load() == 0 {
		return n
	}
	for i := range c.samples {
		if s := c.samples[i].Load(); s != 0 && int32(tick-uint32(s)) <= int32(recent/time.Millisecond) {
			list[n] = math.Float32frombits(uint32(s >> 32))
			n++
		}
	}
	return n
}

// Rates returns those of the last second in which somebody asked for them, or longer if nobody did.
func (m *Meter) Rates(now time.Time) Rates {
	at := now.Sub(m.base)
	if due := m.due.Load(); int64(at) >= due && m.due.CompareAndSwap(due, int64(at+windowTime)) {
		old := m.window.Load()
		w := &window{end: at, served: m.served.Load(), failed: m.failed.Load(), cpu: cpuTime()}
		passed := (w.end - old.end).Seconds()
		w.rates = Rates{
			Requests: float64(w.served-old.served) / passed,
			Errors:   float64(w.failed-old.failed) / passed,
			CPU:      (w.cpu - old.cpu).Seconds() / passed / float64(runtime.GOMAXPROCS(0)),
		}
		m.window.Store(w)
	}
	return m.window.Load().rates
}

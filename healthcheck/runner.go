package healthcheck

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// Result is what a check has found.
type Result struct {
	Endpoint discovery.Endpoint
	// Err is why the check failed, nil if it passed.
	Err error
	// Passing is what the checks so far come to; see Config.Healthy.
	Passing bool
}

// Runner checks the endpoints of a service. It is made by New. All methods are safe for concurrent use.
type Runner struct {
	cfg    Config
	gap    time.Duration // between the starts of two checks
	check  func(context.Context, discovery.Endpoint) error
	report func(Result)
	idle   func() bool
	kick   chan struct{} // there may be something to do for Run
	probes sync.WaitGroup

	mu       sync.Mutex // guards what follows
	targets  map[string]*target
	due      queue     // those that are not being checked
	free     time.Time // when the next check may begin
	inflight int
	round    uint64 // of Update
}

// target is an endpoint that is checked. What its state is, is known to its check alone, of which there is one at a time.
type target struct {
	state  state
	ep     discovery.Endpoint // guarded by the lock of the Runner, as is the rest
	at     time.Time          // when it is due
	index  int                // in the queue, -1 if it is being checked
	round  uint64             // the last one that named it
	cancel context.CancelFunc // ends its check
	gone   bool
}

// New returns a Runner. check is called for each check, with a context that ends with Config.Timeout, and report for each
// result, before the same endpoint is checked again and not for one that has gone. Both may be called for several
// endpoints at a time. idle reports whether nobody uses the service; nil means that somebody always does.
func New(cfg Config, check func(context.Context, discovery.Endpoint) error, report func(Result), idle func() bool) *Runner {
	cfg = cfg.withDefaults()
	if idle == nil {
		idle = func() bool { return false }
	}
	return &Runner{
		cfg: cfg, gap: time.Duration(float64(time.Second) / cfg.Rate), check: check, report: report, idle: idle,
		kick: make(chan struct{}, 1), targets: map[string]*target{},
	}
}

// Update replaces the set of endpoints. Addresses that stay keep their state; the check of one that goes is cancelled.
func (r *Runner) Update(endpoints iter.Seq[discovery.Endpoint]) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.round++
	for ep := range endpoints {
		t := r.targets[ep.Addr]
		if t == nil {
			t = &target{state: state{passing: !r.cfg.Unproven}, at: now.Add(part(r.cfg.Spread, r.cfg.Rand()))}
			r.targets[ep.Addr] = t
			heap.Push(&r.due, t)
		}
		t.ep, t.round = ep, r.round
	}
	for addr, t := range r.targets {
		if t.round == r.round {
			continue
		}
		delete(r.targets, addr)
		if t.gone = true; t.index >= 0 {
			heap.Remove(&r.due, t.index)
		} else {
			t.cancel()
		}
	}
	r.wake()
}

// Resume says that the service is used again. Endpoints that are not due for longer than Interval are checked within it.
func (r *Runner) Resume() {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.due {
		if t.at.Sub(now) > r.cfg.Interval {
			t.at = now.Add(part(r.cfg.Interval, r.cfg.Rand()))
		}
	}
	heap.Init(&r.due)
	r.wake()
}

func (r *Runner) wake() {
	select {
	case r.kick <- struct{}{}:
	default: // it was kicked
	}
}

// Run makes the checks until the context ends. It returns when the last one has.
func (r *Runner) Run(ctx context.Context) {
	defer r.probes.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(r.launch(ctx, time.Now()))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.kick:
		}
	}
}

// behind is how much of the time in which no check was begun may be made good: a timer is late by about a millisecond,
// which would halve a rate of a thousand.
const behind = 10 * time.Millisecond

// launch begins the checks that are due and may begin, and returns when there may be more.
func (r *Runner) launch(ctx context.Context, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.due) > 0 && r.inflight < r.cfg.InFlight {
		t := r.due[0]
		at := t.at
		if r.free.After(at) {
			at = r.free
		}
		if at.After(now) {
			return at.Sub(now)
		}
		if oldest := now.Add(-behind); r.free.Before(oldest) {
			r.free = oldest
		}
		r.free = r.free.Add(r.gap)
		heap.Pop(&r.due)
		r.inflight++
		ep := t.ep
		check, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
		t.cancel = cancel
		r.probes.Go(func() { // it ends with its context
			defer cancel()
			r.probe(ctx, check, t, ep, now)
		})
	}
	return time.Hour // a change comes with a kick
}

// probe checks an endpoint.
func (r *Runner) probe(run, ctx context.Context, t *target, ep discovery.Endpoint, begun time.Time) {
	err := r.check(ctx, ep)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("healthcheck: no answer within %v: %w", r.cfg.Timeout, err)
	}
	if run.Err() == nil && r.has(t) {
		t.state.take(&r.cfg, err == nil)
		r.report(Result{Endpoint: ep, Err: err, Passing: t.state.passing})
	}
	next := begun.Add(t.state.wait(&r.cfg, r.idle(), r.cfg.Rand()))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inflight--
	if !t.gone {
		t.at = next
		heap.Push(&r.due, t)
	}
	r.wake()
}

func (r *Runner) has(t *target) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !t.gone
}

// queue is a heap of targets, the one that is due first on top.
type queue []*target

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	t := x.(*target)
	t.index = len(*q)
	*q = append(*q, t)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	t.index = -1
	return t
}

package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// rate is how many calls per second each client makes.
	rate = 150
	// deadline is how long a caller waits for an answer.
	deadline = time.Second
)

// openLoop calls do for each moment a call is due, so many a second from start to end. It never waits for an answer, and
// makes up for it when it was late itself: a caller's users do not stop coming while a server is slow.
func openLoop(ctx context.Context, start, end time.Time, perSecond int, do func(due time.Time)) {
	timer := time.NewTimer(time.Until(start))
	defer timer.Stop()
	for n := 0; ; n++ {
		due := start.Add(time.Duration(n) * time.Second / time.Duration(perSecond))
		if !due.Before(end) {
			return
		}
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
			do(due)
		case <-ctx.Done():
			return
		}
	}
}

// results are what became of the calls of all clients in one phase, in the order of their columns.
type results [columns]tally

// tally is what became of the calls of one client.
type tally struct {
	mu         sync.Mutex
	begun      int
	late       time.Duration   // how long after it was due a call began, at worst
	latencies  []time.Duration // of the calls that succeeded, since they were due
	failed     int
	failure    error         // the first one
	executions [backends]int // calls that reached a backend, counted by the backend
}

// run drives all clients from start to end and returns when the last call is over.
func (r *results) run(ctx context.Context, phase int, calls [columns]call, start, end time.Time) {
	var running sync.WaitGroup
	defer running.Wait()
	for i, call := range calls {
		shift := time.Second / rate * time.Duration(i) / columns // so that the clients do not call at the same moments
		running.Go(func() {
			openLoop(ctx, start.Add(shift), end, rate, func(due time.Time) {
				r[i].begin(time.Since(due))
				running.Go(func() {
					one, cancel := context.WithDeadline(ctx, due.Add(deadline))
					defer cancel()
					err := call(one, tag(phase, i))
					if ctx.Err() == nil { // else the program is about to end, which says nothing of the call
						r[i].record(time.Since(due), err)
					}
				})
			})
		})
	}
}

func (t *tally) begin(late time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begun++
	t.late = max(t.late, late)
}

func (t *tally) record(latency time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.latencies = append(t.latencies, latency)
		return
	}
	if t.failed++; t.failure == nil {
		t.failure = err
	}
}

func (t *tally) execute(backend int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.executions[backend]++
}

// tag marks the calls of a client in a phase, and untag tells which they are.
func tag(phase, column int) string { return fmt.Sprintf("%d.%d", phase, column) }

func untag(s string) (phase, column int, err error) {
	_, err = fmt.Sscanf(s, "%d.%d", &phase, &column)
	return phase, column, err
}

// stats sum up a tally.
type stats struct {
	begun, calls, failed int           // calls are those that are over
	p50, p99             time.Duration // of the calls that succeeded
	late                 time.Duration
	executions           [backends]int
	failure              error
}

func (r *results) stats() (all [columns]stats) {
	for i := range r {
		all[i] = r[i].stats()
	}
	return all
}

func (t *tally) stats() stats {
	t.mu.Lock()
	latencies := slices.Clone(t.latencies)
	s := stats{
		begun: t.begun, calls: len(latencies) + t.failed, failed: t.failed,
		late: t.late, executions: t.executions, failure: t.failure,
	}
	t.mu.Unlock()
	slices.Sort(latencies)
	s.p50, s.p99 = percentile(latencies, 50), percentile(latencies, 99)
	return s
}

// executed is how many executions there were, on all backends.
func (s stats) executed() (n int) {
	for _, e := range s.executions {
		n += e
	}
	return n
}

// percentile returns the smallest latency that p percent of the sorted ones do not exceed, 0 if there are none.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}

package zerohop

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Report lists the calls made with a context: which endpoints were tried, why, and how long each took. It holds on to
// the last 100 calls. Its methods are safe for concurrent use, also while calls are under way.
type Report struct {
	mu    sync.Mutex // guards calls
	calls []*Call
}

const maxReported = 100

// CallRecord is what became of a call, or what has so far.
type CallRecord struct {
	// Service is the service the call went to, Route the name of the route that matched, empty if none did.
	Service, Route string
	// Start is when the call began.
	Start time.Time
	// Detail says what ended the attempts. It means nothing while the call has neither an answer nor an error.
	Detail resilience.Reason
	// Attempts are those made, in the order in which they began.
	Attempts []AttemptRecord
}

// WithReport returns a context that reports on the calls made with it. One http.Client.Do may make several, if it
// follows redirects.
func WithReport(ctx context.Context) (context.Context, *Report) {
	s := said(ctx)
	s.report = &Report{}
	return context.WithValue(ctx, saidKey{}, &s), s.report
}

// Calls returns the calls in the order in which they began.
func (r *Report) Calls() []CallRecord {
	r.mu.Lock()
	calls := slices.Clone(r.calls)
	r.mu.Unlock()
	list := make([]CallRecord, len(calls))
	for i, c := range calls {
		c.mu.Lock()
		why := c.next.Reason
		c.mu.Unlock()
		list[i] = CallRecord{Service: c.target.service.name, Route: c.target.route, Start: c.start, Detail: why}
		list[i].Attempts, _ = c.records()
	}
	return list
}

// add lists a call.
func (r *Report) add(c *Call) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.calls) == maxReported {
		r.calls = slices.Delete(r.calls, 0, 1)
	}
	r.calls = append(r.calls, c)
}

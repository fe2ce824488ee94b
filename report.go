package zerohop

import (
	"context"
	"slices"
	"sync"

	"github.com/zerohop/zerohop/resilience"
)

// Report lists the calls made with a context: which endpoints were tried, why, and how long each took. It holds on to
// the last 100 calls and to what their transports keep of them. Its methods are safe for concurrent use, also while calls are under way.
type Report struct {
	mu    sync.Mutex // guards calls
	calls []*Call
}

const maxReported = 100

// CallRecord is what became of a call, or what has so far.
type CallRecord struct {
	// CallInfo says what was called, how and when.
	CallInfo
	// Running says that the call has neither an answer nor an error yet.
	Running bool
	// Detail says what ended the attempts. It means nothing while the call is running.
	Detail resilience.Reason
	// Attempts are those made, in the order in which they began.
	Attempts []AttemptRecord
	// Explanation is the record of the decisions about the call, nil while it is running and if it is not explained.
	Explanation *Explanation
}

// WithReport returns a context that reports on the calls made with it, and no more to a Report that ctx had. One
// http.Client.Do may make several, if it follows redirects.
func WithReport(ctx context.Context) (context.Context, *Report) {
	s := said(ctx)
	s.report = &Report{}
	return &saying{ctx, s}, s.report
}

// Calls returns the calls in the order in which they began.
func (r *Report) Calls() []CallRecord {
	r.mu.Lock()
	calls := slices.Clone(r.calls)
	r.mu.Unlock()
	list := make([]CallRecord, len(calls))
	for i, c := range calls {
		list[i] = c.report()
	}
	return list
}

func (c *Call) report() CallRecord {
	e := c.Explanation()
	c.mu.Lock()
	defer c.mu.Unlock()
	r := CallRecord{CallInfo: c.info(), Running: !c.over, Explanation: e}
	if c.over {
		r.Detail = c.next.reason
	}
	r.Attempts, _ = c.recordsLocked()
	return r
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

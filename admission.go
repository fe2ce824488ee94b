package zerohop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Admission decides which requests a server begins to work on: not those whose caller would be gone before the answer comes,
// and not more at once than the server can finish in time. What finds no place waits in a bounded queue. Who has to wait and
// who is refused first is decided by criticality. It is made by NewAdmission, and used by httpmesh.HandlerOptions and
// grpcmesh.Server, which may share one if they share the process. All methods are safe for concurrent use.
//
// Servers of other protocols call Admit for each request, Visit.Leave when it is done, and between them, if the answer goes
// on for longer than the work, Visit.Answered. Enter, Wake and Tick are for drivers that do not block, such as
// simulators: like a resilience.Limit, an Admission is a state machine that never reads a clock there.
type Admission struct {
	policy  AdmissionPolicy
	refused func(context.Context, AdmissionRefusal)
	limit   *resilience.Limit
	clock   func() time.Duration
	others  operation // beyond maxOperations

	operations      atomic.Pointer[map[string]*operation]
	mu              sync.Mutex // guards writes of operations
	noTime, noPlace atomic.Int64
}

// AdmissionConfig is what NewAdmission needs. The zero value is good: it observes and refuses nothing.
type AdmissionConfig struct {
	Policy AdmissionPolicy
	// Refused is told of every request that is refused, or would be if Policy.Mode were On. It gets the context of the
	// request, runs in its goroutine, and must neither block nor panic. nil means that nobody is told.
	Refused func(ctx context.Context, r AdmissionRefusal)
	// Rand is the source of random words; it must be safe for concurrent use. nil means math/rand/v2.
	Rand func() uint64
}

// AdmissionRefusal tells of a request that was refused.
type AdmissionRefusal struct {
	// Arrival is what was known of the request.
	Arrival Arrival
	// Enforced is false if the Admission only observes: the request is worked on.
	Enforced bool
	// Err says why.
	Err *AdmissionError
}

// AdmissionError is why a request was refused. errors.Is finds resilience.ErrLimited.
type AdmissionError struct {
	// Admission says why.
	Admission resilience.Admission
	// NoTime says that the caller has too little time left for any server: it is not this one that has too much to do.
	NoTime bool
	// Final says that the caller should not repeat the request elsewhere: he has no time for that, the request is Sheddable or
	// SheddablePlus, or it is a repetition already, so that other servers have too much to do as well. The first two would
	// take the budget from calls that need it, the last one is how clients learn that the whole service is overloaded.
	Final bool
	// After is when a place is likely to be free; 0 if that is not known.
	After time.Duration
}

// Error returns the reason in words.
func (e *AdmissionError) Error() string { return "zerohop: request refused: " + e.Admission.String() }

// Is reports whether target is resilience.ErrLimited.
func (e *AdmissionError) Is(target error) bool { return target == resilience.ErrLimited }

// Arrival is what a server knows of a request when it comes.
type Arrival struct {
	// Operation names what is asked for, such as the pattern of a route or the full method of an RPC. How long requests
	// usually take is learned for each of the first 100 that succeed; the others share what they learn.
	Operation string
	// Criticality decides who gives way. It is for the server to judge whether it believes what the caller says.
	Criticality resilience.Criticality
	// Attempt is how often the request was sent before.
	Attempt int
	// Left is the time to the deadline of the caller. 0 means that there is none.
	Left time.Duration
	// AttemptLeft is how long the caller waits for this attempt, after which he may make another one. 0 means no bound.
	AttemptLeft time.Duration
	// Stream says that how long the request takes tells nothing.
	Stream bool
}

// NewAdmission returns an Admission without any request in it, or an error that names every field that makes no sense.
func NewAdmission(c AdmissionConfig) (*Admission, error) {
	if err := c.Policy.Validate(); err != nil {
		return nil, fmt.Errorf("zerohop: admission: %w", err)
	}
	p, base := c.Policy.withDefaults(), time.Now()
	return &Admission{policy: p, refused: c.Refused, limit: resilience.NewLimit(p.config(), c.Rand), clock: func() time.Duration { return time.Since(base) }}, nil
}

// AdmissionState is what an Admission is at one moment.
type AdmissionState struct {
	resilience.LimitState
	// NoTime and NoPlace count the requests that were refused, or would have been, because their callers had too little
	// time and because the server had too much to do.
	NoTime, NoPlace int64
}

// State returns the present state.
func (a *Admission) State() AdmissionState {
	return AdmissionState{LimitState: a.limit.State(), NoTime: a.noTime.Load(), NoPlace: a.noPlace.Load()}
}

// Admit blocks until the request may be worked on. nil means that the visit owes a Leave. Otherwise nothing is owed, and the
// error is an *AdmissionError or, if that ends first, that of ctx. The Arrival of v must not change before the end of the visit.
func (a *Admission) Admit(ctx context.Context, v *Visit) error {
	if a.policy.Mode == Off {
		return nil
	}
	now := a.clock()
	v.prepare(now, a)
	err := a.limit.Acquire(ctx, a.clock, &v.ticket)
	if err == nil {
		v.admit(now + v.ticket.Waited())
		return nil
	}
	limited := (*resilience.LimitedError)(nil)
	if !errors.As(err, &limited) {
		return err
	}
	now = a.clock()
	e := v.error(now, limited.Admission)
	e.After = limited.After
	enforced := a.policy.Mode == On
	if a.refused != nil {
		a.refused(ctx, AdmissionRefusal{Arrival: v.Arrival, Enforced: enforced, Err: e})
	}
	if enforced {
		return e
	}
	v.admit(now)
	return nil
}

// Enter is Admit for drivers that do not block. Times are readings of one clock that does not go back. A request that waits is
// told what becomes of it once, by whoever makes room or by Tick; told must not block. A request without an error that does
// not wait, or not any more, is worked on and owes a LeaveAt. AdmissionConfig.Refused is not called.
func (a *Admission) Enter(now time.Duration, v *Visit, told func(now time.Duration, err *AdmissionError)) (waits bool, err *AdmissionError) {
	if a.policy.Mode == Off {
		return false, nil
	}
	v.prepare(now, a)
	v.ticket.Told = func(now time.Duration, s resilience.Admission) { told(now, v.settle(now, s)) }
	s := a.limit.Enter(now, &v.ticket)
	if s == resilience.Queued {
		return true, nil
	}
	return false, v.settle(now, s)
}

// Cancel takes a request out of the queue whose caller went away. If it returns false, told has been called or is about to
// be.
func (a *Admission) Cancel(now time.Duration, v *Visit) bool { return a.limit.Cancel(now, &v.ticket) }

// Wake returns when Tick is due, 0 if it is not. Every other method may change it.
func (a *Admission) Wake() time.Duration { return a.limit.Wake() }

// Tick refuses the requests that have waited for too long.
func (a *Admission) Tick(now time.Duration) { a.limit.Tick(now) }

// known returns where the service time of an operation is learned, nil if nothing is known of it yet.
func (a *Admission) known(name string) *operation {
	m := a.operations.Load()
	if m == nil {
		return nil
	}
	if o := (*m)[name]; o != nil {
		return o
	}
	if len(*m) >= maxOperations {
		return &a.others
	}
	return nil
}

// learn returns where the service time of an operation is learned from now on.
func (a *Admission) learn(name string) *operation {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o := a.known(name); o != nil {
		return o
	}
	next := map[string]*operation{}
	if m := a.operations.Load(); m != nil {
		next = maps.Clone(*m)
	}
	o := &operation{}
	next[name] = o
	a.operations.Store(&next)
	return o
}

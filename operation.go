package zerohop

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// Operation is what an operator does to a service or an endpoint by hand, for a while: nothing of it lasts until somebody remembers it.
type Operation struct {
	// Service is the name of the service, which the mesh must know. Required.
	Service string
	// Addr is the address of the endpoint, for those actions that are about one, and empty for the others.
	Addr string
	// For is how long it lasts, at most MaxOperation. Required, but for Release.
	For time.Duration
	// By says who does it, at most 256 bytes, and Why the reason, at most 1024. They are for StateEvents and for State, and empty if
	// nobody says.
	By, Why string
	// Action is what Release ends. Empty means all there is on Addr, or on the service if that is empty. The methods that do something
	// do not look at it.
	Action Action
}

// MaxOperation is the longest that an Operation lasts. What is to last longer belongs into the Spec.
const MaxOperation = 24 * time.Hour

const (
	maxBy, maxWhy = 256, 1024
	// maxStanding bounds those in force on one service: endpoints come and go within a day, and so may their addresses.
	maxStanding = 1000
)

var (
	// ErrNoOperation says that there is nothing to release.
	ErrNoOperation = errors.New("zerohop: no such operation is in force")
	// ErrLastEndpoint says that an endpoint cannot be taken out of service because all others of the service are.
	ErrLastEndpoint = errors.New("zerohop: all other endpoints are taken out")
)

// Eject takes an endpoint out of service for the time that the Operation says: it gets no calls, not even those of sessions that are
// bound to it, and no probes. Attempts in flight go on to their end. However few endpoints are left, it does not come back for that; but
// one is always left: that one cannot be taken out, and Eject returns ErrLastEndpoint.
//
// As all operations it ends by itself, and is told to Hooks.State when it begins and when it ends. It goes on through Update, and if the
// source loses the endpoint and finds it again; other processes do not know of it. A service that the Spec does not name is not forgotten
// meanwhile, unless Update takes its name away and that is one of a host: this ends the operation. So does Close, which is not told.
// Another one on the same endpoint, be it Drain, takes its place. Errors name the field that is wrong; errors.Is finds discovery.ErrUnknownService where
// there is no such service, and loadbalance.ErrNoNode where it has no such endpoint in use. It returns ErrClosed if the mesh is closed.
func (m *Mesh) Eject(op Operation) error { return m.operate(op, ActionEject, "") }

// Drain keeps new calls away from an endpoint for a while, as Eject does, but not those of sessions that are bound to it: see
// Policy.Sticky and CallOptions.Node.
func (m *Mesh) Drain(op Operation) error { return m.operate(op, ActionDrain, "") }

// PauseRetries stops the retries and backups of a service for a while: its calls have their first attempt and no other one, also those
// under way. Failures that would have been repeated end their calls with resilience.Paused. Limits, breakers and ejections go on.
// Operation.Addr must be empty. For the rest it is as Eject is.
func (m *Mesh) PauseRetries(op Operation) error { return m.operate(op, ActionPauseRetries, "") }

// ForceBreakerFor is ForceBreaker for a while: state is resilience.BreakerForcedOpen, BreakerDisabled or BreakerMetricsOnly. After that
// the breaker is what ForceBreaker has made of it before, if that lasts, or else what its policy says, with nothing counted. A call of
// ForceBreaker ends it. Operation.Addr must be empty. For the rest it is as Eject is.
func (m *Mesh) ForceBreakerFor(op Operation, state resilience.BreakerState) error {
	if !lasting(state) {
		return fmt.Errorf("zerohop: operation: state: must be %q, %q or %q, got %q",
			resilience.BreakerForcedOpen, resilience.BreakerDisabled, resilience.BreakerMetricsOnly, string(state))
	}
	return m.operate(op, ActionForceBreaker, state)
}

// Release ends what operators did before its time is up: what is in force on the endpoint, or on the service as a whole if Operation.Addr
// is empty. Of the Operation it needs the Service only. It returns ErrNoOperation if there is nothing to end.
func (m *Mesh) Release(op Operation) error {
	u, err := m.operated(&op)
	if err != nil {
		return err
	}
	if !u.end(time.Now(), &op, func(o *OperationState) bool {
		return o.Addr == op.Addr && (op.Action == "" || o.Action == op.Action)
	}) {
		return fmt.Errorf("%w: on %q of %q", ErrNoOperation, op.Addr, op.Service)
	}
	return nil
}

// lasting reports whether a state that a breaker was forced to lasts until it is forced to another.
func lasting(s resilience.BreakerState) bool {
	return s == resilience.BreakerForcedOpen || s == resilience.BreakerDisabled || s == resilience.BreakerMetricsOnly
}

// operations are those in force on a service.
type operations struct {
	paused atomic.Bool  // retries are
	count  atomic.Int32 // of list

	mu     sync.Mutex // guards what follows, and lets one change what they do at a time; taken before locks of the service and its balancer
	list   []OperationState
	forced resilience.BreakerState // by ForceBreaker, if that lasts
}

// validate reports what is wrong with all of the operation but what its action asks for.
func (op *Operation) validate() error {
	var errs []error
	if op.Service == "" {
		errs = append(errs, errors.New("service: must be set"))
	}
	if len(op.By) > maxBy {
		errs = append(errs, fmt.Errorf("by: must have at most %d bytes, got %d", maxBy, len(op.By)))
	}
	if len(op.Why) > maxWhy {
		errs = append(errs, fmt.Errorf("why: must have at most %d bytes, got %d", maxWhy, len(op.Why)))
	}
	return errors.Join(errs...)
}

// validateFor reports what is wrong with an operation that does something.
func (op *Operation) validateFor(a Action) error {
	errs := []error{op.validate()}
	if op.For <= 0 || op.For > MaxOperation {
		errs = append(errs, fmt.Errorf("for: must be more than 0 and at most %v, got %v", MaxOperation, op.For))
	}
	switch on := a == ActionEject || a == ActionDrain; {
	case on && op.Addr == "":
		errs = append(errs, errors.New("addr: must be set"))
	case !on && op.Addr != "":
		errs = append(errs, fmt.Errorf("addr: must be empty, as it is about the service, got %q", op.Addr))
	}
	return errors.Join(errs...)
}

// operated returns the service that an operation is about.
func (m *Mesh) operated(op *Operation) (*upstream, error) {
	if err := op.validate(); err != nil {
		return nil, fmt.Errorf("zerohop: operation: %w", err)
	}
	if m.ctx.Err() != nil {
		return nil, ErrClosed
	}
	s := m.known()[strings.ToLower(op.Service)]
	if s == nil {
		return nil, fmt.Errorf("zerohop: operation: service: %w: %q", discovery.ErrUnknownService, op.Service)
	}
	return s.upstream, nil
}

// operate puts an operation in force.
func (m *Mesh) operate(op Operation, a Action, to resilience.BreakerState) error {
	if err := op.validateFor(a); err != nil {
		return fmt.Errorf("zerohop: operation: %w", err)
	}
	u, err := m.operated(&op)
	if err != nil {
		return err
	}
	now := time.Now()
	o := OperationState{Action: a, To: to, Addr: op.Addr, Since: now, Until: now.Add(op.For), By: op.By, Why: op.Why}
	u.hold()
	defer u.release()
	ops := &u.operations
	ops.mu.Lock()
	defer ops.mu.Unlock()
	same := func(x OperationState) bool {
		return x.Addr == o.Addr && (o.Addr != "" || x.Action == a) // an endpoint is either ejected or drained
	}
	at := slices.IndexFunc(ops.list, same)
	switch {
	case op.Addr != "" && !u.has(op.Addr):
		return fmt.Errorf("zerohop: operation: addr: %w: %q of %q", loadbalance.ErrNoNode, op.Addr, op.Service)
	case at < 0 && len(ops.list) >= maxStanding:
		return fmt.Errorf("zerohop: operation: there are %d in force on %q, and no more are allowed", len(ops.list), op.Service)
	case u.ctx.Err() != nil && u.mesh.ctx.Err() == nil: // it has just been forgotten
		return fmt.Errorf("zerohop: operation: service: %w: %q", discovery.ErrUnknownService, op.Service)
	case !u.attend():
		return ErrClosed
	}
	if op.Addr != "" && !u.takeOut(&o) {
		return fmt.Errorf("zerohop: operation: addr: %w: %q of %q", ErrLastEndpoint, op.Addr, op.Service)
	}
	if at >= 0 {
		if old := ops.list[at]; old.Action != a { // it has ended, then; what is renewed goes on
			old.By, old.Why = o.By, o.Why
			u.tellOf(StateOperatorEnded, &old, now)
		}
		ops.list[at] = o
	} else {
		ops.list = append(ops.list, o)
		ops.count.Store(int32(len(ops.list)))
	}
	u.tellOf(StateOperator, &o, now)
	switch a {
	case ActionPauseRetries:
		ops.paused.Store(true)
	case ActionForceBreaker:
		_ = u.setBreaker(to) // which is a state that there is
	}
	return nil
}

// takeOut takes an endpoint out of service, unless it is the last one. operations.mu is held, and news wait.
func (u *upstream) takeOut(o *OperationState) bool {
	if !u.balancer.TakeOut(o.Addr, o.Until, o.Action == ActionDrain) {
		return !time.Now().Before(o.Until) // it is over already
	}
	u.change(func() {}) // who holds connections looks at the nodes again
	return true
}

// has reports whether an endpoint is in use.
func (u *upstream) has(addr string) bool { return u.zoneOf(addr) != nil }

// zoneOf returns the zone of an endpoint in use, nil if there is none with the address.
func (u *upstream) zoneOf(addr string) *string {
	for _, n := range u.balancer.Set().Nodes() {
		if n.Addr() == addr {
			return new(n.Endpoint().Zone)
		}
	}
	return nil
}

// tellOf tells of an operation.
func (u *upstream) tellOf(kind StateKind, o *OperationState, now time.Time) {
	if !u.mesh.told() {
		return
	}
	ev := StateEvent{Kind: kind, Addr: o.Addr, Cause: string(o.Action), To: o.To, Time: now, By: o.By, Why: o.Why}
	if kind == StateOperator {
		ev.Until = o.Until
	}
	if zone := u.zoneOf(o.Addr); zone != nil {
		ev.Zone = *zone
	}
	ev.Out, ev.Endpoints = u.count()
	u.tell(ev)
}

// lift undoes what an operation did. operations.mu is held, and news wait.
func (u *upstream) lift(o *OperationState) {
	switch o.Action {
	case ActionEject, ActionDrain:
		u.balancer.PutBack(o.Addr)
		u.change(func() {})
	case ActionPauseRetries:
		u.operations.paused.Store(false)
	case ActionForceBreaker:
		_ = u.setBreaker(pick(u.operations.forced, resilience.BreakerClosed))
	}
}

// expire ends the operations whose time is up, and returns when the next one's is, zero if there is none.
func (u *upstream) expire(now time.Time) (next time.Time) {
	u.end(now, nil, func(o *OperationState) bool {
		over := !now.Before(o.Until)
		if !over {
			next = earlier(next, o.Until)
		}
		return over
	})
	return next
}

// end ends the operations that over returns true for, and reports whether there was one. by says who does, nil if it is the clock.
func (u *upstream) end(now time.Time, by *Operation, over func(*OperationState) bool) (any bool) {
	u.hold()
	defer u.release()
	ops := &u.operations
	ops.mu.Lock()
	defer ops.mu.Unlock()
	var ended []OperationState
	ops.list = slices.DeleteFunc(ops.list, func(o OperationState) bool {
		if !over(&o) {
			return false
		}
		ended = append(ended, o)
		return true
	})
	ops.count.Store(int32(len(ops.list)))
	for i := range ended {
		o := &ended[i]
		u.lift(o)
		if by != nil {
			o.By, o.Why = by.By, by.Why
		}
		u.tellOf(StateOperatorEnded, o, now)
	}
	return len(ended) > 0
}

// drop forgets an operation that something else has taken the place of. operations.mu is held, and news wait.
func (u *upstream) drop(now time.Time, a Action) {
	ops := &u.operations
	i := slices.IndexFunc(ops.list, func(o OperationState) bool { return o.Action == a })
	if i < 0 {
		return
	}
	o := ops.list[i]
	ops.list = slices.Delete(ops.list, i, i+1)
	ops.count.Store(int32(len(ops.list)))
	u.tellOf(StateOperatorEnded, &o, now)
}

// readOperations puts those in force into st, and into its endpoints.
func (u *upstream) readOperations(st *ServiceState) {
	ops := &u.operations
	ops.mu.Lock()
	st.Operations = append(st.Operations, ops.list...)
	ops.mu.Unlock()
	for i := range st.Operations {
		switch o := &st.Operations[i]; o.Action {
		case ActionPauseRetries:
			st.RetriesPaused = o.Until
		case ActionForceBreaker:
			st.BreakerForced = o.Until
		default:
			at, ok := slices.BinarySearchFunc(st.Endpoints, o.Addr, func(ep EndpointState, addr string) int { return cmp.Compare(ep.Addr, addr) })
			if ok {
				st.Endpoints[at].OutUntil, st.Endpoints[at].Draining = o.Until, o.Action == ActionDrain
			}
		}
	}
	slices.SortFunc(st.Operations, func(a, b OperationState) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.Addr, b.Addr))
	})
}

package zerohop

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// The defaults of routing.Mirror.
const (
	defaultMaxCopied  = 64 << 10
	defaultMaxCopies  = 64
	defaultCopyPeriod = 15 * time.Second
)

// mirror is a service that gets copies of the calls of a rule.
type mirror struct {
	*routing.Mirror
	target   *target
	inFlight *atomic.Int64
}

// newMirror returns that of a rule. What bounds or repeats calls is not for copies, which have a bound of their own: they
// neither take the place or the budget of a call, nor tell breakers that all calls share how they went.
func newMirror(s *service, r *routing.Rule, c *routing.Mirror) *mirror {
	p := s.policy
	p.RateLimit, p.Limit, p.Sticky, p.Fallback, p.Timeout = RateLimit{}, Limit{}, Sticky{}, Substitute{}, 0
	p.Criticality, p.Retry.Attempts = resilience.Sheddable, 1
	if len(c.Select) > 0 {
		p.Select = Select{Mode: On, Match: c.Select, Fallback: FallbackNone}
	}
	t := newTarget(s, r, nil, p)
	t.inherit(nil, nil, "", nil)
	t.limits.Budget, t.copies = nil, true
	return &mirror{Mirror: c, target: t, inFlight: &atomic.Int64{}}
}

// Copy is a copy of a call that its route wants sent to another service, and a place among those that may be under way. It owes
// one call of Send or Drop. Its methods are safe for concurrent use.
type Copy struct {
	mirror *mirror
	done   atomic.Bool
}

// Copies returns the copies of the call that are to be made: it draws lots where a mirror wants some of the calls, and takes the
// places. crowded is how many were wanted but have no place. It is for transports, and to be called once, when the first
// attempt is made: a call that is refused or answered by its route is not copied, and a copy is not either.
func (c *Call) Copies() (copies []*Copy, crowded int) {
	a := c.target.actions
	if a == nil {
		return nil, 0
	}
	for _, m := range a.mirrors {
		if !among(m.Percent, c.mesh().cfg.Rand) {
			continue
		}
		if m.inFlight.Add(1) > int64(pick(m.MaxInFlight, defaultMaxCopies)) {
			m.inFlight.Add(-1)
			crowded++
			continue
		}
		copies = append(copies, &Copy{mirror: m})
	}
	return copies, crowded
}

// Service returns the name of the service that gets the copy.
func (y *Copy) Service() string { return y.mirror.target.service.name }

// MaxBody returns the size in bytes of the largest body that is copied.
func (y *Copy) MaxBody() int { return pick(y.mirror.MaxBody, defaultMaxCopied) }

// Credentials reports whether the copy keeps what the caller proves himself with.
func (y *Copy) Credentials() bool { return y.mirror.Mirror.Credentials }

// Drop gives the place back if Send was not called.
func (y *Copy) Drop() {
	if !y.done.Swap(true) {
		y.mirror.inFlight.Add(-1)
	}
}

// Send has send run in the background, which makes a call whose Request.Copy is y, and throws the answer away. The context of
// send has the values of ctx, but not what that says about calls (WithCall, WithReport) save their lane, and ends with the time of
// the copy or with the mesh. Close of the mesh waits for send. Send does not block. It returns false if nothing was begun: the
// mesh is closed, or Send or Drop was called before.
func (y *Copy) Send(ctx context.Context, send func(ctx context.Context)) bool {
	if y.done.Swap(true) {
		return false
	}
	m := y.mirror.target.service.mesh
	said := copied
	if lane, ok := heard(ctx).inLane(); ok {
		said.lane = &lane
	}
	begun := m.task(func() {
		defer y.mirror.inFlight.Add(-1)
		own, cancel := context.WithTimeout(&detached{m.ctx, ctx, said}, pick(y.mirror.Timeout, defaultCopyPeriod))
		defer cancel()
		// A panic of user code would end the process, without the caller having a chance to catch it. A copy that panics is
		// one that failed.
		defer func() { _ = recover() }()
		send(own)
	})
	if !begun {
		y.mirror.inFlight.Add(-1)
	}
	return begun
}

// detached is a context with the values of another one, such as the trace that a copy belongs to.
type detached struct {
	context.Context
	values context.Context
	said   sayings
}

func (c *detached) Value(key any) any {
	if key == (saidKey{}) {
		return &c.said
	}
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// copied is what is said about copies: they give way to everything.
var copied = sayings{options: CallOptions{Attempts: 1, Backup: Off, Criticality: resilience.Sheddable}}

package zerohop

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// shedding is what a service refuses, or cannot pay for, for the time being.
type shedding struct {
	stages [len(stages)]struct {
		going atomic.Bool  // it was told that the stage refuses
		last  atomic.Int64 // when it did last, on the clock of the mesh
	}
	mu   sync.Mutex           // guards what follows; taken before that of news
	poor []*resilience.Budget // that were told to be empty; those of policies that have been replaced are dropped
}

const (
	// shedEnd is for how long a stage must have refused nothing. A tenth of that, and one that refuses a call now and then would be news
	// all the time.
	shedEnd = 10 * time.Second
	// poorPause is how often budgets that were empty are looked at, which refill within seconds.
	poorPause = 500 * time.Millisecond
	// recovered is what such a budget must pay for again, as a part of what a full one pays for. With less it would be empty again at
	// the next failure.
	recovered = 0.5
)

// stages are all that refuse calls or attempts.
var stages = [...]Stage{StageRateLimit, StageLimit, StageThrottle, StageEndpointLimit, StageBreaker}

// sheds is told that a stage refused a call or an attempt.
func (u *upstream) sheds(stage Stage) {
	if !u.mesh.told() {
		return
	}
	now := time.Now()
	s := &u.shedding.stages[slices.Index(stages[:], stage)]
	s.last.Store(int64(now.Sub(u.mesh.base)))
	if s.going.Load() || !s.going.CompareAndSwap(false, true) {
		return
	}
	out, all := u.count()
	u.tell(StateEvent{Kind: StateShedding, Cause: string(stage), Time: now, Out: out, Endpoints: all})
	u.attend()
}

// lacks is told that a budget refused a retry.
func (u *upstream) lacks(b *resilience.Budget) {
	if !u.mesh.told() || b == nil {
		return
	}
	s := &u.shedding
	s.mu.Lock()
	known := slices.Contains(s.poor, b)
	if !known {
		s.poor = append(s.poor, b)
	}
	s.mu.Unlock()
	if !known {
		out, all := u.count()
		u.tell(StateEvent{Kind: StateBudgetEmpty, Time: time.Now(), Value: b.Level(), Out: out, Endpoints: all})
		u.attend()
	}
}

// relent tells what refuses no more, and returns when to look again, 0 if nothing refuses.
func (u *upstream) relent(now time.Time) (next time.Time) {
	at := now.Sub(u.mesh.base)
	for i := range u.shedding.stages {
		s := &u.shedding.stages[i]
		if !s.going.Load() {
			continue
		}
		if end := time.Duration(s.last.Load()) + shedEnd; at < end {
			next = earlier(next, u.mesh.at(end))
			continue
		}
		s.going.Store(false)
		out, all := u.count()
		u.tell(StateEvent{Kind: StateShedEnded, Cause: string(stages[i]), Time: now, Out: out, Endpoints: all})
	}
	s := &u.shedding
	var rich []*resilience.Budget
	s.mu.Lock()
	s.poor = slices.DeleteFunc(s.poor, func(b *resilience.Budget) bool {
		ok := b.Spare(at) >= recovered || !u.charges(b)
		if ok {
			rich = append(rich, b)
		}
		return ok
	})
	if len(s.poor) > 0 {
		next = earlier(next, now.Add(poorPause))
	}
	s.mu.Unlock()
	for _, b := range rich {
		out, all := u.count()
		u.tell(StateEvent{Kind: StateBudgetRestored, Time: now, Value: b.Level(), Bound: recovered, Out: out, Endpoints: all})
	}
	return next
}

// charges reports whether calls of the service still have the budget, and not another one since an Update.
func (u *upstream) charges(b *resilience.Budget) bool {
	g := u.mesh.present.Load()
	s := g.known()[u.key]
	if s == nil || s.upstream != u {
		return false
	}
	if s.budget == b || s.direct.budget == b {
		return true
	}
	has := func(t *target) bool { return t != nil && t.service.upstream == u && t.budget == b }
	for _, list := range g.backends {
		if slices.ContainsFunc(list, has) {
			return true
		}
	}
	if list := s.byRule.Load(); list != nil {
		for i := range *list {
			if has((*list)[i].Load()) {
				return true
			}
		}
	}
	return false
}

// earlier returns the earlier one of two times, of which the first may be zero.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// attendance runs as long as something of a service ends by itself: shedding, an empty budget, what an operator did.
type attendance struct {
	mu      sync.Mutex // guards what follows
	running bool
	sooner  chan struct{} // has it look again; nil before the first
}

// attend has somebody look after what ends by itself. It returns false if the mesh is closed.
func (u *upstream) attend() bool {
	a := &u.attendance
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sooner == nil {
		a.sooner = make(chan struct{}, 1)
	}
	select {
	case a.sooner <- struct{}{}:
	default:
	}
	if !a.running {
		a.running = u.mesh.task(u.lookAfter)
	}
	return a.running
}

// lookAfter ends what is over, until there is nothing left or the service is gone.
func (u *upstream) lookAfter() {
	a := &u.attendance
	for {
		now := time.Now()
		next := u.relent(now)
		if t := u.expire(now); !t.IsZero() {
			next = earlier(next, t)
		}
		if next.IsZero() {
			a.mu.Lock()
			select {
			case <-a.sooner: // something new came up meanwhile
				a.mu.Unlock()
				continue
			default:
			}
			a.running = false
			a.mu.Unlock()
			return
		}
		t := time.NewTimer(time.Until(next))
		select {
		case <-t.C:
		case <-a.sooner:
		case <-u.ctx.Done():
			t.Stop()
			if u.mesh.ctx.Err() == nil { // the service is forgotten, and what was done to it with it
				u.end(time.Now(), nil, func(*OperationState) bool { return true })
			}
			return
		}
		t.Stop()
	}
}

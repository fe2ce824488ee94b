package resilience

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// shares are the parts of the limit that each level may fill, from the least critical on. What is left is kept for those
// above: their calls find a place at once even if all others is taken by those that can wait. Levels above Sheddable-
// Plus share the whole, or a service whose calls are all Critical, as they are by default, would never reach its limit. At
// least one place is open to everybody.
var shares = [levels]float64{0.75, 0.9, 1, 1}

// Limit bounds how many calls are in flight at once, on either side: a client that keeps from sending more than a service can
// take, or a server from beginning more than it can finish in time. Calls that find no place wait in a queue that is bounded,
// ordered by criticality, and aware of deadlines: nobody gets a place who has too little time left for it, and nobody takes
// one in the queue who will probably not get out of it in time.
//
// It is a state machine over (now, event): it reads no clock and starts no goroutine and no timer. Times are readings of one
// clock that does not go back, such as what has passed since some moment; none is negative. What waits is told when it
// is let in by Ticket.Told, and its driver calls Tick at the time of Wake; Acquire is both for callers that may block. All
// methods are safe for concurrent use.
type Limit struct {
	cfg LimitConfig

	mu       sync.Mutex // guards what follows
	inflight int
	allowed  int // the present limit
	rooms    [levels]int
	held     time.Duration // how long a call keeps its place, averaged
	epoch    uint32        // samples of others do not count
	queue    queue
	aimd     *aimd     // nil unless that is the algorithm
	gradient *gradient // nil unless that is the algorithm
}

// NewLimit returns a Limit with nothing in flight. Fields that make no sense are brought into range; see Validate. random is the
// source of random words, nil means math/rand/v2; it is called with the lock of the Limit held.
func NewLimit(c LimitConfig, random func() uint64) *Limit {
	c = c.withDefaults()
	l := &Limit{cfg: c}
	l.queue.patience = c.Patience
	if random == nil {
		random = rand.Uint64
	}
	low, high, start := float64(c.Min), float64(c.Max), float64(c.Initial)
	switch c.Algorithm {
	case "aimd":
		l.aimd = &aimd{limit: start, min: low, max: high, timeout: c.Timeout}
		l.allow(start)
	case "gradient":
		l.gradient = &gradient{limit: start, min: low, max: high, tries: startTries, random: random}
		l.allow(start)
	default:
		l.allow(high)
	}
	return l
}

// allow sets the limit.
func (l *Limit) allow(limit float64) {
	n := int(limit)
	if n == l.allowed {
		return
	}
	l.allowed = n
	for i := range l.rooms {
		l.rooms[i] = int(math.Ceil(shares[i] * float64(n)))
	}
}

// Enter asks for a place. If it returns Admitted, the ticket is in flight and owes Leave. If it returns Queued, Told is
// called later, or is to be waited for with Wait. Otherwise the ticket was refused, and is done with. A ticket that is in
// flight or waits already stays where it is, and Enter says so.
func (l *Limit) Enter(now time.Duration, t *Ticket) Admission {
	l.mu.Lock()
	if t.state != outside {
		defer l.mu.Unlock()
		if t.state == waiting {
			return Queued
		}
		return Admitted
	}
	t.level, t.entered = levelOf(t.Criticality), now
	if l.inflight < l.rooms[t.level] && !t.late(now, 0) {
		l.admit(now, t)
		l.mu.Unlock()
		return Admitted
	}
	a, evicted := l.crowded(now, t)
	l.mu.Unlock()
	if evicted.ticket != nil {
		evicted.tell(now)
	}
	return a
}

func (l *Limit) admit(now time.Duration, t *Ticket) {
	l.inflight++
	t.state, t.admitted, t.epoch = inside, now, l.epoch
	t.probe = l.gradient != nil && l.gradient.admit()
}

// crowded is Enter for tickets that find no place. It also returns what to tell the one that gives way.
func (l *Limit) crowded(now time.Duration, t *Ticket) (a Admission, evicted notice) {
	a = Queued
	var victim *Ticket
	switch {
	case t.late(now, 0):
		a = Late
	case l.cfg.Queue == 0:
		a = Full
	case t.late(now, l.wait(l.queue.ahead(now, t.level))):
		a = Late
	case l.queue.n >= l.cfg.Queue:
		if victim = l.queue.victim(now, t.level); victim == nil {
			a = Full
		}
	}
	if l.cfg.Observe {
		if a == Queued && l.inflight >= l.allowed+l.cfg.Queue {
			a = Full
		}
		if l.admit(now, t); a == Queued {
			a = Admitted
		}
		return a, evicted
	}
	if a != Queued {
		return a, evicted
	}
	if victim != nil {
		evicted = notice{victim, l.dismiss(victim), Evicted}
	}
	t.state, t.reason, t.expiry = waiting, Expired, math.MaxInt64
	if l.cfg.MaxWait > 0 {
		t.expiry = after(now, l.cfg.MaxWait)
	}
	if last := t.Deadline - t.Expected; t.Deadline != 0 && last < t.expiry {
		t.reason, t.expiry = Late, last+1 // at last itself it is still worth it
	}
	if t.signal = nil; t.Told == nil {
		t.signal = make(chan Admission, 1)
	}
	l.queue.add(now, t)
	return a, evicted
}

// dismiss takes a ticket out of the queue.
func (l *Limit) dismiss(t *Ticket) (signal chan Admission) {
	l.queue.remove(t)
	t.state = outside
	return t.signal
}

// wait returns how long a ticket has to wait that has n others before it, by Little's law: as many leave in the time that
// a call keeps its place as there are places.
func (l *Limit) wait(n int) time.Duration {
	return time.Duration(float64(l.held) * float64(n+1) / float64(max(l.allowed, 1)))
}

// Leave gives the place of a ticket back, and says how its call went: whether it succeeded, and how long it took; 0 if that
// tells nothing. Tickets that are not in flight are none of its business: a second Leave does nothing.
func (l *Limit) Leave(now time.Duration, t *Ticket, o Outcome, latency time.Duration) {
	l.mu.Lock()
	if t.state != inside {
		l.mu.Unlock()
		return
	}
	t.state = outside
	if l.held == 0 {
		l.held = now - t.admitted
	} else {
		l.held += (now - t.admitted - l.held) / 16
	}
	if l.aimd != nil || l.gradient != nil {
		l.adapt(&sample{now, latency, l.inflight, o, t.probe}, t.epoch)
	}
	l.inflight--
	if l.queue.n == 0 {
		l.mu.Unlock()
		return
	}
	l.release(now)
}

func (l *Limit) adapt(s *sample, epoch uint32) {
	if l.aimd != nil {
		l.aimd.observe(s)
		l.allow(l.aimd.limit)
		return
	}
	if epoch != l.epoch {
		return
	}
	if l.gradient.observe(s) {
		l.epoch++
	}
	l.allow(l.gradient.allowed())
}

// Cancel takes a ticket out of the queue whose caller went away. If it returns false, the ticket was not waiting any more: Told
// has been called or is about to be, and if that says Admitted, Leave is owed.
func (l *Limit) Cancel(now time.Duration, t *Ticket) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.state != waiting {
		return false
	}
	l.dismiss(t)
	return true
}

// Wake returns when the next ticket has waited for too long, so that Tick is due, 0 if none waits. Every other method
// may change it. A late Tick lets nobody in who should not be, but leaves those waiting whose time is up.
func (l *Limit) Wake() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.queue.soonest(); t != nil && t.expiry < math.MaxInt64 {
		return max(t.expiry, 1)
	}
	return 0
}

// Tick refuses the tickets that have waited for too long. It does no harm if none has.
func (l *Limit) Tick(now time.Duration) {
	l.mu.Lock()
	l.release(now)
}

// release refuses those in the queue whose time is up, lets in those for whom there is room, and unlocks.
func (l *Limit) release(now time.Duration) {
	var room [4]notice // most often one
	told := room[:0]
	for t := l.queue.soonest(); t != nil && t.expiry <= now; t = l.queue.soonest() {
		told = append(told, notice{t, l.dismiss(t), t.reason})
	}
	for t := l.queue.first(now); t != nil && l.inflight < l.rooms[t.level]; t = l.queue.first(now) {
		signal := l.dismiss(t)
		l.admit(now, t)
		told = append(told, notice{t, signal, Admitted})
	}
	l.mu.Unlock()
	for _, n := range told {
		n.tell(now)
	}
}

// notice is what a ticket is to be told when the lock is given back. The ticket may be in use again by then if it has a signal.
type notice struct {
	ticket    *Ticket
	signal    chan Admission
	admission Admission
}

func (n notice) tell(now time.Duration) {
	if n.signal != nil {
		n.signal <- n.admission
	} else if n.ticket.Told != nil {
		n.ticket.Told(now, n.admission)
	}
}

// LimitState is what a Limit is at one moment.
type LimitState struct {
	// Limit is how many calls may be in flight, InFlight how many are, and Queued how many wait.
	Limit    int `json:"limit"`
	InFlight int `json:"inFlight"`
	Queued   int `json:"queued,omitempty"`
	// Wait is how long a call that comes now would probably have to wait if it were the least critical one; 0 if there is
	// room, or if that is not known.
	Wait time.Duration `json:"wait,omitempty"`
}

// State returns the present state.
func (l *Limit) State() LimitState {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := LimitState{Limit: l.allowed, InFlight: l.inflight, Queued: l.queue.n}
	if l.inflight >= l.rooms[0] {
		s.Wait = l.wait(l.queue.n)
	}
	return s
}

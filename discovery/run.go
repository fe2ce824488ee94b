package discovery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// RunOptions are the options of Run. The zero value is ready to use.
type RunOptions struct {
	// Rand is the source of the jitter between watches. Only Run calls it, one call at a time. nil means
	// math/rand/v2.
	Rand func() uint64
	// EmptyGrace is the time between the first answer that lacks all endpoints, or more than MaxRemoval of them, and the
	// start of the watch that must confirm it. 0 means 5 s, negative means that nothing needs confirmation.
	EmptyGrace time.Duration
	// MaxRemoval is the share of the endpoints, of four or more, that may vanish in one answer without confirmation. A single
	// one always may, and the last one never. 0 or less means 0.5; with 1 or more only answers without endpoints are
	// held.
	MaxRemoval float64
	// Addresses says which addresses a remote source may name, so it counts for a Resolver that IsRemote. The zero value
	// refuses loopback, link-local and others.
	Addresses AddressPolicy
	// Snapshot is where to find the set to use at the start if the source fails, or does not answer within half a second. It
	// is checked as an answer is, and the first answer takes its place. Run does not save it. The zero value means none.
	Snapshot Snapshot
	// Observe is told what Run does. Its calls and those of update are sequential and none comes after Run
	// returned; it must not block. nil means nobody.
	Observe func(Event)
}

// Run watches service through r until ctx ends and calls update with each new set of endpoints. It returns
// ctx.Err().
//
// It restarts the watch whenever it ends, a panic of the resolver included, after a random wait that grows from
// 0.2 s to 1.5 s, and to 30 s with a source that answers with *RefusedError while there are endpoints to work
// with. The wait that such an error asks for is added, up to a minute. A source whose watches end at once is asked at most
// once a second.
//
// Sets are sorted by Addr, without duplicates, and hold only valid endpoints in canonical form. Update is
// called only if a set differs from the one before, sequentially, and the watch goes on when it returns. It owns
// the slice, but not the Meta in it. The last set stays in use while the source fails, answers with more
// than 10,000 endpoints or with invalid ones only.
//
// A change of the set is told at once, but those that follow within 100 ms as one. That a service lost all its endpoints (an empty
// answer or ErrUnknownService), or more than RunOptions.MaxRemoval of them, is believed when a watch started
// RunOptions.EmptyGrace later, and up to a second more, says the same; until then those that are missing stay in the set,
// beside those that are new. The first answer of all is believed at once.
func Run(ctx context.Context, r Resolver, service string, opts RunOptions, update func([]Endpoint)) error {
	return run(ctx, r, service, opts, false, update)
}

// run is Run, by which all addresses may be left unchecked: who supervises a combinator knows the policy.
func run(ctx context.Context, r Resolver, service string, opts RunOptions, unchecked bool, update func([]Endpoint)) error {
	if opts.Rand == nil {
		opts.Rand = rand.Uint64
	}
	if opts.EmptyGrace == 0 {
		opts.EmptyGrace = defaultEmptyGrace
	}
	if !(opts.MaxRemoval > 0) {
		opts.MaxRemoval = defaultMaxRemoval
	}
	if opts.Observe == nil {
		opts.Observe = func(Event) {}
	}
	s := &supervisor{
		resolver: r, service: service, opts: opts, update: update, unchecked: unchecked, pauses: pauses{rand: opts.Rand},
		guard: guard{grace: opts.EmptyGrace, share: opts.MaxRemoval}, lost: time.Now(),
	}
	defer s.end()
	s.sow()
	for ctx.Err() == nil {
		err := s.watch(ctx)
		if ctx.Err() != nil {
			break
		}
		sleep(ctx, s.pause(err))
	}
	return ctx.Err()
}

// supervisor is the state of one Run.
type supervisor struct {
	resolver Resolver
	service  string
	opts     RunOptions
	update   func([]Endpoint)
	// unchecked says that addresses are checked by somebody else.
	unchecked bool

	// mu guards what follows. It is held while update and Observe are called, which makes these calls sequential: those of
	// the watch, of Run itself and of timers.
	mu     sync.Mutex
	pauses pauses
	guard  guard
	flap   flap
	ended  bool

	// last is the set in use, if published; lost is when the source was last heard, zero while it is.
	last      []Endpoint
	published bool
	lost      time.Time
	seed      seed

	// started, answered, failure and cut belong to the present watch: when it began, whether it brought an answer,
	// what went wrong outside of it, and how to end it.
	started  time.Time
	answered bool
	failure  error
	cut      context.CancelFunc

	// recheck cuts a watch that began too early to end a doubt.
	recheck *time.Timer
}

// watch runs one watch and returns why it ended, or nil if ctx ended or it was cut.
func (s *supervisor) watch(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(context.WithValue(ctx, supervisorKey{}, s))
	defer cancel()
	s.begin(cancel)
	defer func() {
		if v := recover(); v != nil {
			err = s.panicked(v)
		}
	}()
	err = s.resolver.Watch(ctx, s.service, func(answer []Endpoint) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if ctx.Err() == nil { // what a resolver says while it is told to end is no news
			s.accept(answer)
		}
	})
	switch {
	case ctx.Err() != nil:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.failure
	case err == nil:
		return fmt.Errorf("discovery: watch of %q ended without an error", s.service)
	}
	return err
}

// begin notes that a watch begins.
func (s *supervisor) begin(cut context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started, s.answered, s.failure, s.cut = time.Now(), false, nil, cut
	if s.guard.doubting() && s.guard.early(s.started) {
		s.arm()
	}
}

// pause notes that a watch ended because of err, nil if it was cut, and returns the wait before the next one.
func (s *supervisor) pause(err error) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	unknown := errors.Is(err, ErrUnknownService)
	s.answered = s.answered || unknown
	wait := s.pauses.next(ending{
		err:      err,
		answered: s.answered,
		lasted:   time.Since(s.started),
		serving:  len(s.last) > 0,
	})
	if !unknown {
		s.lose()
		s.hasten()
	}
	if err != nil {
		s.observe(Event{Kind: EventWatchFailed, Err: err, Wait: wait})
	}
	if unknown {
		s.accept(nil)
	}
	return wait
}

// end stops what may still happen.
func (s *supervisor) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.flap.cancel()
	s.disarm()
	if s.seed.timer != nil {
		s.seed.timer.Stop()
	}
	s.observe(Event{Kind: EventEnded})
}

// accept takes one answer of the source.
func (s *supervisor) accept(answer []Endpoint) {
	if len(answer) > maxEndpoints {
		err := fmt.Errorf("discovery: %d endpoints of %q are more than %d", len(answer), s.service, maxEndpoints)
		s.reject(Event{Err: err})
		return
	}
	set, dropped, bad := normalize(answer, s.policy())
	if len(answer) > 0 && len(set) == 0 {
		s.reject(Event{Err: fmt.Errorf("discovery: no usable endpoint of %q: %w", s.service, bad), Dropped: dropped})
		return
	}
	s.answered = true
	news := !s.lost.IsZero() // that the source is heard
	s.lost = time.Time{}
	held := len(s.guard.held())
	if s.guard.answer(time.Now(), s.started, set) {
		s.arm()
		kind := EventRemovalHeld
		if len(set) == 0 {
			kind = EventEmptyHeld
		}
		s.observe(Event{Kind: kind})
	}
	s.grown()
	if !s.guard.doubting() {
		s.disarm()
		news = news || held > 0
	}
	if dropped != (Dropped{}) {
		s.observe(Event{Kind: EventEndpointsDropped, Err: bad, Dropped: dropped})
	}
	if !s.publish() && news {
		s.observe(Event{Kind: EventConfirmed})
	}
}

// reject reports an answer that is of no use.
func (s *supervisor) reject(e Event) {
	s.lose()
	if s.guard.reject(time.Now()) {
		s.arm()
	}
	e.Kind = EventAnswerRejected
	s.observe(e)
}

// publish brings what callers use up to date, now or as soon as it may change again. It reports whether there is anything
// to do.
func (s *supervisor) publish() bool {
	set := s.guard.set()
	if s.published && slices.EqualFunc(s.last, set, Endpoint.Equal) {
		s.flap.cancel()
		return false
	}
	now := time.Now()
	if d := s.flap.delay(now); d > 0 {
		s.flap.postpone(d, s.flush)
		return true
	}
	s.flap.cancel()
	if s.published { // the first set is no change
		s.flap.last = now
	}
	s.update(slices.Clone(set))
	s.last, s.published = set, true
	s.observe(Event{Kind: EventPublished})
	return true
}

// flush publishes what was put off. It runs in a goroutine of its own, which a panic of update must not end the program
// from: the watch fails instead.
func (s *supervisor) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if v := recover(); v != nil {
			s.failure = s.panicked(v)
			s.cut()
		}
	}()
	if !s.ended {
		s.publish()
	}
}

func (s *supervisor) panicked(v any) error {
	return fmt.Errorf("discovery: watch of %q panicked: %v", s.service, v)
}

// lose notes that the source is not heard any more.
func (s *supervisor) lose() {
	if s.lost.IsZero() {
		s.lost = time.Now()
	}
}

// arm makes the present watch end when one that starts then ends the doubt, and up to a second later: all callers of the
// registry have seen the same answer at the same moment.
func (s *supervisor) arm() {
	s.disarm()
	s.recheck = time.AfterFunc(time.Until(s.guard.recheck())+jitter(s.opts.Rand(), steady), s.cut)
}

func (s *supervisor) disarm() {
	if s.recheck != nil {
		s.recheck.Stop()
		s.recheck = nil
	}
}

func (s *supervisor) observe(e Event) {
	e.Endpoints, e.Held, e.Lost = len(s.last), len(s.guard.held()), s.lost
	s.opts.Observe(e)
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

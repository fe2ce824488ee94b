package discovery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// defaultEmptyGrace is long enough for a registry to finish a restart or an election, the usual reasons for
// an empty answer that is wrong; callers of a service that is really gone fail no sooner without it.
const defaultEmptyGrace = 5 * time.Second

// RunOptions are the options of Run. The zero value is ready to use.
type RunOptions struct {
	// Rand is the source of the jitter between watches. Only Run calls it, one call at a time. nil means
	// math/rand/v2.
	Rand func() uint64
	// EmptyGrace is the time between the first empty answer after a set with endpoints and the start of the
	// watch that must confirm it. 0 means 5 s, negative means that empty answers need no confirmation.
	EmptyGrace time.Duration
	// Observe is told what Run does. Its calls and those of update are sequential and none comes after Run
	// returned; it must not block. nil means nobody.
	Observe func(Event)
}

// Run watches service through r until ctx ends and calls update with each new set of endpoints. It returns
// ctx.Err().
//
// It restarts the watch whenever it ends, a panic of the resolver included, after a random wait that grows from
// 0.2 s to 1.5 s, and to 30 s with a source that answers with *RefusedError while there are endpoints to work
// with. The wait that such an error asks for is added, up to a minute. A source whose watches answer and break at
// once is asked at most once a second.
//
// Sets are sorted by Addr, without duplicates, and hold only valid endpoints in canonical form. Update is
// called only if a set differs from the one before, sequentially, and the watch goes on when it returns. It owns
// the slice, but not the Meta in it. The last set stays in use while the source fails, answers with more
// than 10,000 endpoints or with invalid ones only. That a service lost all its endpoints (an empty answer or
// ErrUnknownService) is believed when a watch started RunOptions.EmptyGrace later says the same; the first
// answer of all is believed at once.
func Run(ctx context.Context, r Resolver, service string, opts RunOptions, update func([]Endpoint)) error {
	if opts.Rand == nil {
		opts.Rand = rand.Uint64
	}
	if opts.EmptyGrace == 0 {
		opts.EmptyGrace = defaultEmptyGrace
	}
	if opts.Observe == nil {
		opts.Observe = func(Event) {}
	}
	s := &supervisor{resolver: r, service: service, opts: opts, update: update, pauses: pauses{rand: opts.Rand}}
	defer s.disarm()
	for ctx.Err() == nil {
		err := s.watch(ctx)
		if ctx.Err() != nil {
			break
		}
		wait := s.pauses.next(ending{
			err:      err,
			answered: s.answered,
			lasted:   time.Since(s.started),
			serving:  len(s.last) > 0,
		})
		if err != nil {
			s.observe(Event{Kind: EventWatchFailed, Err: err, Wait: wait})
		}
		if errors.Is(err, ErrUnknownService) {
			s.accept(nil)
		}
		sleep(ctx, wait)
	}
	return ctx.Err()
}

// supervisor is the state of one Run. It needs no lock: its methods are called by Run, or by the resolver
// while Run waits in Watch, and Watch makes its calls one after the other.
type supervisor struct {
	resolver Resolver
	service  string
	opts     RunOptions
	update   func([]Endpoint)
	pauses   pauses

	// last is the set in use, if published.
	last      []Endpoint
	published bool

	// started, answered and cut belong to the present watch: when it began, whether it brought an answer,
	// and how to end it.
	started  time.Time
	answered bool
	cut      context.CancelFunc

	// suspect is when the first empty answer came that is not believed yet; zero if there is none. recheck
	// cuts a watch that began too early to confirm it.
	suspect time.Time
	recheck *time.Timer
}

// watch runs one watch and returns why it ended, or nil if ctx ended or it was cut.
func (s *supervisor) watch(ctx context.Context) (err error) {
	ctx, s.cut = context.WithCancel(ctx)
	defer s.cut()
	s.started, s.answered = time.Now(), false
	if !s.suspect.IsZero() && !s.fresh() {
		s.arm()
	}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("discovery: watch of %q panicked: %v", s.service, v)
		}
	}()
	err = s.resolver.Watch(ctx, s.service, func(answer []Endpoint) {
		if ctx.Err() == nil { // what a resolver says while it is told to end is no news
			s.accept(answer)
		}
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		return fmt.Errorf("discovery: watch of %q ended without an error", s.service)
	case errors.Is(err, ErrUnknownService):
		s.answered = true
	}
	return err
}

// accept takes one answer of the source.
func (s *supervisor) accept(answer []Endpoint) {
	if len(answer) > 0 {
		s.trust()
	}
	if len(answer) > maxEndpoints {
		err := fmt.Errorf("discovery: %d endpoints of %q are more than %d", len(answer), s.service, maxEndpoints)
		s.observe(Event{Kind: EventAnswerRejected, Err: err})
		return
	}
	set, dropped, bad := normalize(answer)
	if len(answer) > 0 && len(set) == 0 {
		err := fmt.Errorf("discovery: no valid endpoint of %q: %w", s.service, bad)
		s.observe(Event{Kind: EventAnswerRejected, Err: err, Dropped: dropped})
		return
	}
	s.answered = true
	if len(set) == 0 && s.hold() {
		return
	}
	s.trust()
	if dropped != (Dropped{}) {
		s.observe(Event{Kind: EventEndpointsDropped, Err: bad, Dropped: dropped})
	}
	if s.published && slices.EqualFunc(s.last, set, Endpoint.Equal) {
		return
	}
	s.update(slices.Clone(set))
	s.last, s.published = set, true
	s.observe(Event{Kind: EventPublished})
}

// hold reports whether an empty answer is not to be believed yet.
func (s *supervisor) hold() bool {
	if len(s.last) == 0 || s.opts.EmptyGrace < 0 {
		return false
	}
	if s.suspect.IsZero() {
		s.suspect = time.Now()
		s.arm()
		s.observe(Event{Kind: EventEmptyHeld})
		return true
	}
	return !s.fresh()
}

// trust ends a suspicion.
func (s *supervisor) trust() {
	s.suspect = time.Time{}
	s.disarm()
}

// fresh reports whether the present watch began late enough to confirm that the service is empty.
func (s *supervisor) fresh() bool { return s.started.Sub(s.suspect) >= s.opts.EmptyGrace }

// arm makes the present watch end when one that starts then is fresh.
func (s *supervisor) arm() {
	s.disarm()
	s.recheck = time.AfterFunc(time.Until(s.suspect.Add(s.opts.EmptyGrace)), s.cut)
}

func (s *supervisor) disarm() {
	if s.recheck != nil {
		s.recheck.Stop()
	}
}

func (s *supervisor) observe(e Event) {
	e.Endpoints = len(s.last)
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

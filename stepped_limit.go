package zerohop

import (
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// place is what a stepped call that waits for Policy.Limit knows of it.
type place struct {
	queued    bool
	told      bool
	admission resilience.Admission
}

// enter asks for a place of the call, and goes on if there is one.
func (s *Stepped) enter(now time.Duration) {
	if s.call.target.flight == nil {
		s.proceed(now)
		return
	}
	queued, err := s.call.limitFlight(now, func(_ time.Duration, a resilience.Admission) {
		s.place.told, s.place.admission = true, a
		if s.Ready != nil {
			s.Ready()
		}
	})
	switch {
	case err != nil:
		s.over, s.err = true, s.call.turnedAway(err)
	case queued:
		s.place.queued = true
	default:
		s.proceed(now)
	}
}

// placeWake returns when a call that waits for a place is to be ticked, 0 if only its deadline bounds that.
func (s *Stepped) placeWake() time.Duration {
	if s.place.told {
		return s.call.mesh().now()
	}
	return s.call.details.ticket.Expiry()
}

// take goes on with a call that waited for a place, if it has one or gets none any more.
func (s *Stepped) take(now time.Duration) {
	c := &s.call
	gone := c.ctx.Err()
	switch {
	case s.place.told:
	case gone != nil:
		c.target.flight.Cancel(now, c.details.ticket)
	default:
		c.target.flight.Tick(now)
		if !s.place.told {
			return
		}
	}
	s.place.queued = false
	switch {
	case gone != nil:
		s.over, s.err = true, c.unready(c.ctx, withCause(c.ctx, gone))
	case s.place.admission.Refused():
		s.over, s.err = true, c.turnedAway(c.crowdedOut(s.place.admission))
	default:
		s.proceed(now)
	}
}

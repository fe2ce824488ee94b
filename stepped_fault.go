package zerohop

import "time"

// act is Call.act without the waiting.
func (s *Stepped) act(now time.Duration) {
	if s.fault = s.call.inject(s.request); s.fault.delay > 0 {
		s.call.boundByCaller(s.request)
		s.held = now + s.fault.delay
		return
	}
	s.obey(now)
}

// resume goes on with a call that is held up, if it is time.
func (s *Stepped) resume(now time.Duration) {
	c := &s.call
	gone := c.ctx.Err()
	if gone == nil && now < s.held {
		return
	}
	s.held = 0
	c.release(c.start)
	if gone != nil {
		s.over, s.err = true, c.unready(c.ctx, withCause(c.ctx, gone))
		return
	}
	s.obey(now)
}

// obey goes on with the call unless its route answers it.
func (s *Stepped) obey(now time.Duration) {
	err := s.call.obey(s.fault, s.request)
	if err == nil {
		err = s.call.bound(s.request)
	}
	if err != nil {
		s.over, s.err = true, err
		return
	}
	s.admit(now)
}

package discovery

// What a supervisor does for a combinator that it watches; see family.

// delegate leaves the guard against answers that lack endpoints to the supervisors of the sources, and returns the options for
// them: how they are combined can remove endpoints for good reason.
func (s *supervisor) delegate() RunOptions {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guard.grace, s.seed.delegated = -1, true
	opts := s.opts
	opts.Snapshot = Snapshot{}  // it is of all sources together
	opts.Rand = func() uint64 { // which is promised one call at a time
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.opts.Rand()
	}
	return opts
}

// pass tells what happened to a source of the combinator; lost says that none is heard.
func (s *supervisor) pass(e Event, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if lost {
		s.lose()
	}
	s.observe(e)
}

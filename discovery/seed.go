package discovery

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// seed is the use that a supervisor makes of a snapshot: in place of the first answer, while there is none.
type seed struct {
	timer     *time.Timer // nil if there are no snapshots
	used      bool        // the set in use is the snapshot's
	delegated bool        // the guard was left to others
}

// sow has the snapshot used unless the source answers soon.
func (s *supervisor) sow() {
	if s.opts.Snapshot.Dir != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seed.timer = time.AfterFunc(snapshotAfter, s.germinate)
	}
}

// hasten uses the snapshot now, as the source fails. s.mu is held.
func (s *supervisor) hasten() {
	if t := s.seed.timer; t != nil && t.Stop() {
		t.Reset(0)
	}
}

// germinate runs in a goroutine of its own: the disk may be slow, and nobody waits for it but Run when it ends.
func (s *supervisor) germinate() {
	answer, heard, err := s.opts.Snapshot.Load(s.service)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.published {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			s.failure = s.panicked(v)
			s.cut()
		}
	}()
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var dropped Dropped
	var set []Endpoint
	if err == nil && len(answer) > maxEndpoints {
		err = fmt.Errorf("discovery: snapshot of %q has %d endpoints, more than %d", s.service, len(answer), maxEndpoints)
	}
	if err == nil {
		var bad error
		if set, dropped, bad = normalize(answer, s.policy()); len(set) == 0 {
			err = fmt.Errorf("discovery: snapshot of %q has no usable endpoint: %w", s.service, errors.Join(bad))
			if bad == nil {
				return // the service had none
			}
		}
	}
	if err != nil {
		s.observe(Event{Kind: EventSnapshotRejected, Err: err, Dropped: dropped})
		return
	}
	s.seed.used = true
	s.guard.grace = s.opts.EmptyGrace // what is in use is not what the sources of a combinator compare with
	s.guard.said = set
	if heard.Before(s.lost) {
		s.lost = heard
	}
	s.update(append([]Endpoint(nil), set...))
	s.last, s.published = set, true
	s.observe(Event{Kind: EventSnapshotUsed, Dropped: dropped})
}

// grown notes that the source has answered: the snapshot is not needed any more. s.mu is held.
func (s *supervisor) grown() {
	if s.seed.timer != nil {
		s.seed.timer.Stop()
	}
	if s.seed.used && s.seed.delegated && !s.guard.doubting() {
		s.guard.grace = -1
	}
}

// policy returns that for addresses of the source, nil if none counts.
func (s *supervisor) policy() *AddressPolicy {
	if !s.unchecked && s.opts.Addresses.appliesTo(s.resolver) {
		return &s.opts.Addresses
	}
	return nil
}

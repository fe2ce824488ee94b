//go:build unix

package faulttest

import (
	"fmt"
	"testing"
	"time"
)

// span is a time of the machine's clock.
type span struct{ from, to time.Time }

// overlap returns how long both lasted at once.
func (s span) overlap(other span) time.Duration {
	from, to := s.from, s.to
	if other.from.After(from) {
		from = other.from
	}
	if other.to.Before(to) {
		to = other.to
	}
	return max(to.Sub(from), 0)
}

// heartbeat is how often a backend looks whether it is running, and by how much it may be late for that.
const heartbeat = 10 * time.Millisecond

// watchItself logs when the process did not run.
func (s *server) watchItself() error {
	for {
		from := time.Now()
		time.Sleep(heartbeat)
		if to := time.Now(); to.Sub(from) > 2*heartbeat {
			if err := s.note(stoodStill, fmt.Sprint(from.UnixNano(), to.UnixNano())); err != nil {
				return err
			}
		}
	}
}

// standstills returns when the backend did not run, but for when it was told to stop.
func (b *backend) standstills(t *testing.T) (list []span) {
	t.Helper()
entries:
	for _, text := range b.logged(t, stoodStill) {
		var from, to int64
		if _, err := fmt.Sscan(text, &from, &to); err != nil {
			t.Fatal(err)
		}
		s := span{time.Unix(0, from), time.Unix(0, to)}
		for _, stop := range b.stops {
			if s.overlap(stop) > 0 {
				continue entries
			}
		}
		list = append(list, s)
	}
	return list
}

// maxStandstill is for how long two backends may stand still at once. That one does is what clients are to make up for. If
// several do it is the machine that does not run them, and there is nobody who could answer instead.
const maxStandstill = 50 * time.Millisecond

// standstill returns for how long at a stretch two of the backends stood still at once, since the given time.
func standstill(t *testing.T, list []*backend, since time.Time) (longest time.Duration) {
	t.Helper()
	var others []span
	for _, b := range list {
		own := b.standstills(t)
		for _, s := range own {
			for _, o := range others {
				if s.to.After(since) {
					longest = max(longest, s.overlap(o))
				}
			}
		}
		others = append(others, own...)
	}
	return longest
}

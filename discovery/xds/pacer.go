package xds

import (
	"time"
)

// pacer is a token bucket in the form of one time: when the next event would be due if all came evenly. Its zero value is
// a full bucket.
type pacer struct {
	due time.Time
}

// wait returns how long the next event has to wait if the bucket holds the given time.
func (p *pacer) wait(now time.Time, holds time.Duration) time.Duration {
	if full := now.Add(-holds); p.due.Before(full) {
		p.due = full
	}
	return max(p.due.Sub(now), 0)
}

// spend takes the cost of one event out of the bucket.
func (p *pacer) spend(cost time.Duration) { p.due = p.due.Add(cost) }

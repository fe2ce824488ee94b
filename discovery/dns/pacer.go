package dns

import (
	"time"
)

const (
	// paceInterval is the mean pause between two questions for the name of a service.
	paceInterval = time.Second
	// paceBurst lets the usual short series (both families of addresses, one change) pass without a pause.
	paceBurst = 3
)

// pacer is a token bucket in the form of one time: when the next question would be due if all came evenly. Its zero
// value is a full bucket.
type pacer struct {
	next time.Time
}

// take takes a token, one that is still to come if need be.
func (p *pacer) take(now time.Time) {
	if full := now.Add(-(paceBurst - 1) * paceInterval); p.next.Before(full) {
		p.next = full
	}
	p.next = p.next.Add(paceInterval)
}

// due returns how long it takes until the taken tokens are there and one more.
func (p *pacer) due(now time.Time) time.Duration { return max(p.next.Sub(now), 0) }

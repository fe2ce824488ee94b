package consul

import (
	"context"
	"time"
)

const (
	// paceInterval is the mean pause between two requests of one watch. Ten times shorter, a server that
	// answers blocking queries at once costs every client ten requests a second; ten times longer, a
	// rolling update is seen late.
	paceInterval = time.Second
	// paceBurst lets the usual short series (first answer, its index, one change) pass without a pause.
	paceBurst = 3
)

// pacer is a token bucket in the form of one time: when the next request would be due if all came evenly.
// Its zero value is a full bucket.
type pacer struct {
	due time.Time
}

// take takes a token and returns how long to wait before using it.
func (p *pacer) take(now time.Time) time.Duration {
	if full := now.Add(-(paceBurst - 1) * paceInterval); p.due.Before(full) {
		p.due = full
	}
	wait := p.due.Sub(now)
	p.due = p.due.Add(paceInterval)
	return max(wait, 0)
}

// sleep waits for d or until ctx ends, and returns the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

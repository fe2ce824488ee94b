package kubernetes

import (
	"context"
	"time"
)

const (
	// paceInterval is the mean pause between two requests of one watch. Ten times shorter, a server that
	// ends watches at once costs every client ten requests a second; ten times longer, what such a server has
	// changed is seen late.
	paceInterval = time.Second
	// paceBurst lets the usual short series (a list, a watch, a list because history is gone) pass without a pause.
	paceBurst = 3
)

// pacer is a token bucket in the form of one time: when the next request would be due if all came evenly.
// Its zero value is a full bucket.
type pacer struct {
	due time.Time
}

// take takes a token and waits until it may be used. It returns the error of ctx if that ends first.
func (p *pacer) take(ctx context.Context) error {
	now := time.Now()
	if full := now.Add(-(paceBurst - 1) * paceInterval); p.due.Before(full) {
		p.due = full
	}
	wait := p.due.Sub(now)
	p.due = p.due.Add(paceInterval)
	if wait <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

package etcd

import (
	"context"
	"time"
)

const (
	// paceInterval is the mean pause between two requests of one watch. Ten times shorter, a server that ends every
	// watch at once costs ten requests a second for each service of each client; ten times longer, a change after a
	// compaction is seen late.
	paceInterval = time.Second
	// paceBurst lets a list, its watch and one more request pass without a pause.
	paceBurst = 3
)

// pacer is a token bucket in the form of one time: when the next request would be due if all came evenly.
// Its zero value is a full bucket.
type pacer struct {
	due time.Time
}

// wait takes a token and waits until it may be used, or until ctx ends, and returns the error of ctx.
func (p *pacer) wait(ctx context.Context) error {
	now := time.Now()
	if full := now.Add(-(paceBurst - 1) * paceInterval); p.due.Before(full) {
		p.due = full
	}
	d := p.due.Sub(now)
	p.due = p.due.Add(paceInterval)
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

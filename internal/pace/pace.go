// Package pace bounds how often a watch asks a server: once a second, and three times in a row, whatever the server does.
package pace

import (
	"context"
	"time"
)

const (
	// Interval is the mean pause between two requests of one watch. Ten times shorter, a server that answers blocking
	// queries or ends watches at once costs every client ten requests a second; ten times longer, what such a server
	// has changed is seen late.
	Interval = time.Second
	// Burst lets the usual short series (a list, a watch, a list because history is gone) pass without a pause.
	Burst = 3
)

// Pacer is a token bucket in the form of one time: when the next request would be due if all came evenly. Its zero value is a
// full bucket. It is not safe for concurrent use.
type Pacer struct {
	due time.Time
}

// Take takes a token and returns how long to wait before using it.
func (p *Pacer) Take(now time.Time) time.Duration {
	if full := now.Add(-(Burst - 1) * Interval); p.due.Before(full) {
		p.due = full
	}
	wait := p.due.Sub(now)
	p.due = p.due.Add(Interval)
	return max(wait, 0)
}

// Wait takes a token and waits until it may be used, or until ctx ends, and returns the error of ctx.
func (p *Pacer) Wait(ctx context.Context) error { return Sleep(ctx, p.Take(time.Now())) }

// Sleep waits for d or until ctx ends, and returns the error of ctx.
func Sleep(ctx context.Context, d time.Duration) error {
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

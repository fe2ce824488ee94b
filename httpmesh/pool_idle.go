package httpmesh

import (
	"slices"
	"time"
)

// sweepTime is the longest time after which idle connections are looked at: what the server has closed keeps a few KiB
// until then.
const sweepTime = 30 * time.Second

func (c *conn) expired(now time.Time) bool { return !c.expires.IsZero() && !now.Before(c.expires) }

// overdue reports whether an idle connection must not be used any more. Times are those of the wall clock: while
// a machine sleeps, the other one stands still.
func (p *pool) overdue(c *conn, now time.Time) bool {
	return c.expired(now) || p.idleTimeout > 0 && now.Round(0).Sub(c.idleAt) >= p.idleTimeout || c.cc.Err() != nil
}

// deadline returns when an idle connection is to be looked at.
func (p *pool) deadline(c *conn, now time.Time) time.Time {
	at := now.Add(sweepTime)
	if d := p.idleTimeout - now.Round(0).Sub(c.idleAt); p.idleTimeout > 0 && d < sweepTime {
		at = now.Add(d)
	}
	if !c.expires.IsZero() && c.expires.Before(at) {
		at = c.expires
	}
	return at
}

// arm makes sweep run at the given time, if not before. p.mu is held.
func (p *pool) arm(at, now time.Time) {
	if p.released || !p.wake.IsZero() && !at.Before(p.wake) {
		return
	}
	p.wake = at
	d := max(at.Sub(now), time.Millisecond)
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.sweep)
	} else {
		p.timer.Reset(d)
	}
}

// sweep closes idle connections that are too old or dead. One timer per pool runs it.
func (p *pool) sweep() {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake = time.Time{}
	p.closeIdle(func(c *conn) bool { return p.overdue(c, now) })
	for _, list := range [][]*conn{p.idle, p.shared} {
		for _, c := range list {
			if c.streams == 0 {
				p.arm(p.deadline(c, now), now)
			}
		}
	}
	p.warmUp(now)
}

// closeIdle closes the idle connections of which f is true. p.mu is held.
func (p *pool) closeIdle(f func(*conn) bool) {
	p.idle = slices.DeleteFunc(p.idle, func(c *conn) bool {
		if !f(c) {
			return false
		}
		p.drop(c)
		return true
	})
	for _, c := range slices.Clone(p.shared) {
		if c.streams == 0 && f(c) {
			p.retireLocked(c)
		}
	}
}

// CloseIdleConnections closes the connections that carry no request, and gives up dials that nobody waits for.
func (p *pool) CloseIdleConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeIdle(func(*conn) bool { return true })
	if len(p.waiters) == 0 {
		p.hangUp()
	}
}

// release is called when the endpoint has left. Requests that are under way and those that have picked it already go
// on, but nothing is kept after them.
func (p *pool) release() {
	p.mu.Lock()
	p.released = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.CloseIdleConnections()
}

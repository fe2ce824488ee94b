package kubernetes

import (
	"fmt"
	"sync"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// publishGap is the least time between two updates. The first change is told at once, those that follow it, such as the
// slices of a large service in a rollout, together.
const publishGap = 50 * time.Millisecond

// publisher tells the changes of merged slices. It starts no goroutine that lasts: what is due later is told by a timer.
type publisher struct {
	update func([]discovery.Endpoint)
	fail   func(error) // ends the watch

	// mu guards all below, and is held during update: its calls come from the watch and from the timer, and must be one
	// after the other. Nothing that update may call takes it.
	mu     sync.Mutex
	merged merged
	timer  *time.Timer
	next   time.Time // of the next update, at the earliest
	closed bool
}

// change applies f to the slices and tells the outcome.
func (p *publisher) change(f func(*merged) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := f(&p.merged); err != nil {
		return err
	}
	return p.flush(time.Now())
}

// flush tells the set, or arms the timer to do so. Needs mu.
func (p *publisher) flush(now time.Time) error {
	if p.closed {
		return nil
	}
	if p.next.After(now) {
		p.arm(p.next.Sub(now))
		return nil
	}
	set, again, err := p.merged.set(now)
	if err != nil {
		return err
	}
	p.next = now.Add(publishGap)
	if !again.IsZero() {
		p.arm(again.Sub(now))
	}
	p.update(set)
	return nil
}

// arm makes due be called after wait at the latest. Needs mu.
func (p *publisher) arm(wait time.Duration) {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.timer = time.AfterFunc(wait, p.due)
}

// due tells what had to wait.
func (p *publisher) due() {
	defer func() {
		if v := recover(); v != nil { // Run can only recover on its own goroutine
			p.fail(fmt.Errorf("kubernetes: update panicked: %v", v))
		}
	}()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.flush(time.Now()); err != nil {
		p.fail(err)
	}
}

// close makes sure that update is not called any more.
func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

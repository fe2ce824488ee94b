package sim

import (
	"context"
	"time"
)

// deadline is a context that ends at a time of the simulation, by an event and not by a timer, or when it is told to. It
// has a parent for its values only.
type deadline struct {
	context.Context
	world *world
	at    time.Duration // 0 if there is none
	err   error
	done  chan struct{} // made when it is first asked for
	after []*func()     // run at the end
}

func (d *deadline) Deadline() (time.Time, bool) {
	if d.at == 0 {
		return time.Time{}, false
	}
	return d.world.start.Add(d.at), true
}

func (d *deadline) Err() error { return d.err }

// Done returns a channel that is closed at the end.
func (d *deadline) Done() <-chan struct{} {
	if d.done == nil {
		d.done = make(chan struct{})
		if d.err != nil {
			close(d.done)
		}
	}
	return d.done
}

// AfterFunc is how package context attaches children.
func (d *deadline) AfterFunc(f func()) (stop func() bool) {
	place := &f
	if d.err != nil {
		f()
		return func() bool { return false }
	}
	d.after = append(d.after, place)
	return func() bool {
		for i, p := range d.after {
			if p == place {
				d.after[i] = nil
				return true
			}
		}
		return false
	}
}

// end ends the context.
func (d *deadline) end(err error) {
	if d.err != nil {
		return
	}
	d.err = err
	if d.done != nil {
		close(d.done)
	}
	for _, f := range take(&d.after) {
		if f != nil {
			(*f)()
		}
	}
}

// expire ends the context if its time has come.
func (d *deadline) expire() {
	if d.at > 0 && d.world.now >= d.at {
		d.end(context.DeadlineExceeded)
	}
}

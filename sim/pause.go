package sim

import (
	"math/rand/v2"
	"time"
)

// process is what a mesh runs in, which may stop, and whose timers may be late.
//
// What it cannot do is to step the wall clock, since the clock of testing/synctest goes on evenly. That nothing is decided by
// the wall clock is held by a test of package zerohop that looks at the source.
type process struct {
	world   *world
	rnd     *rand.Rand
	stopped int           // pauses under way
	resumed time.Duration // when the last one was over
	late    time.Duration // of timers
	arrived []func()      // while it was stopped
	fired   []func()      // timers
}

// arrive does something now, or when the process goes on.
func (p *process) arrive(do func()) {
	if p.stopped > 0 {
		p.arrived = append(p.arrived, do)
		return
	}
	do()
}

// timer does something at a time, or later.
func (p *process) timer(at time.Duration, do func()) {
	if p.late > 0 {
		at += time.Duration(p.rnd.Int64N(int64(p.late)))
	}
	p.world.at(at, func() {
		if p.stopped > 0 {
			p.fired = append(p.fired, do)
			return
		}
		do()
	})
}

// pause stops the process, once more if it is stopped.
func (p *process) pause() { p.stopped++ }

// resume takes a pause back. An answer that is there wins against the timer that says that it has not come.
func (p *process) resume() {
	p.stopped--
	p.resumed = p.world.now
	for p.stopped == 0 && len(p.arrived)+len(p.fired) > 0 {
		list := &p.arrived
		if len(*list) == 0 {
			list = &p.fired
		}
		for _, do := range take(list) {
			do()
		}
	}
}

// steady reports whether the process has neither been stopped for so long, nor is.
func (p *process) steady(d time.Duration) bool {
	return p.stopped == 0 && (p.resumed == 0 || p.world.now-p.resumed >= d)
}

// disturb brings the clients of the service into the state that its present faults make.
func (s *service) disturb() {
	stopped, late := 0, time.Duration(0)
	for _, f := range s.faults {
		late = max(late, f.Late)
		if f.Pause {
			stopped = 1
		}
	}
	for _, m := range s.clients {
		m.late = late
		switch {
		case stopped > m.stopped:
			m.pause()
		case stopped < m.stopped:
			m.resume()
		}
	}
}

package sim

import (
	"math/rand/v2"
	"time"
)

// served is a request that an endpoint calls other services for.
type served struct {
	request *request
	next    int     // of Service.Calls
	open    []*call // under way
	failed  bool
}

// serve goes on with a request when its worker has done its part.
func (e *endpoint) serve(r *request) {
	if len(e.service.Calls) == 0 {
		e.reply(r, answer{status: 200})
		return
	}
	r.calls = &served{request: r}
	r.calls.proceed()
}

// proceed makes the next calls, or answers.
func (s *served) proceed() {
	r, e := s.request, s.request.endpoint
	list := e.service.Calls
	switch {
	case s.failed:
		e.reply(r, answer{status: 503})
		return
	case s.next == len(list):
		e.reply(r, answer{status: 200})
		return
	}
	step := &list[s.next]
	s.next++
	end := r.deadline
	if step.Timeout > 0 && (end == 0 || e.world.now+step.Timeout < end) {
		end = e.world.now + step.Timeout
	}
	s.open = s.open[:0]
	for range max(step.Times, 1) {
		c := &call{world: e.world, mesh: e.mesh, inbound: &r.inbound, series: e.made}
		c.done = func(ok bool) { s.ended(c, ok) }
		s.open = append(s.open, c)
	}
	for _, c := range append([]*call(nil), s.open...) {
		c.begin(step.Service, false, end)
	}
}

// ended is told that a call is over.
func (s *served) ended(c *call, ok bool) {
	for i := range s.open {
		if s.open[i] == c {
			s.open = append(s.open[:i], s.open[i+1:]...)
			break
		}
	}
	s.failed = s.failed || !ok
	if len(s.open) == 0 && !s.request.gone {
		// Not in the middle of what the call does.
		s.request.endpoint.world.after(0, func() {
			if !s.request.gone {
				s.whenRunning()
			}
		})
	}
}

func (s *served) whenRunning() { s.request.endpoint.whenRunning(s.proceed) }

// abandon gives the calls up that are under way.
func (s *served) abandon() {
	if s == nil {
		return
	}
	for _, c := range append([]*call(nil), s.open...) {
		if !c.stepped.Over() {
			c.ctx.end(errOver)
			c.wake()
		}
	}
}

// arrivals lets the calls of a client begin, each at its time.
func (w *world) arrivals(c *Client, meshes []*mesh, series *Series, part string) {
	rnd := w.random(part)
	s := w.services[c.Service]
	var next func()
	next = func() {
		// A rate that changes between two calls is that at the time of the first, or calls would come from the past.
		gap := scaled(time.Duration(float64(time.Second)/(c.Rate*s.load())), rnd.ExpFloat64())
		w.after(gap, func() {
			if m := meshes[rnd.IntN(len(meshes))]; m.stopped == 0 {
				w.call(c, m, series, rnd)
			}
			next()
		})
	}
	next()
}

// call makes a call of a client.
func (w *world) call(c *Client, m *mesh, series *Series, rnd *rand.Rand) {
	end := time.Duration(0)
	if c.Timeout > 0 {
		end = w.now + c.Timeout
	}
	one := &call{world: w, mesh: m, series: series}
	if l := c.Criticality; len(l) > 0 {
		one.level = l[rnd.IntN(len(l))]
	}
	one.begin(c.Service, c.Unsafe, end)
	if c.Patience != nil {
		m.timer(w.now+c.Patience.draw(rnd, 0), one.leave)
	}
}

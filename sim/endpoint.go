package sim

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// service is one of a Scenario.
type service struct {
	Service
	world     *world
	name      string
	endpoints []*endpoint
	faults    []*Fault // at present
	registry  registry
	clients   []*mesh // those of Scenario.Clients
}

// state is what faults make of an endpoint.
type state struct {
	workers                     int
	slow, fail, shed            float64
	latency, after              time.Duration
	hung, killed, cut, unlisted bool
}

// stateOf sums up the present faults of an endpoint.
func (s *service) stateOf(number int) state {
	st := state{slow: 1}
	capacity := 1.0
	for _, f := range s.faults {
		if f.Endpoints != nil && !slices.Contains(f.Endpoints, number) {
			continue
		}
		if f.Capacity > 0 {
			capacity *= f.Capacity
		}
		if f.Slow > 0 {
			st.slow *= f.Slow
		}
		st.fail = 1 - (1-st.fail)*(1-f.Fail)
		st.shed = 1 - (1-st.shed)*(1-f.Shed)
		st.after = max(st.after, f.After)
		st.latency += f.Latency
		st.hung, st.killed = st.hung || f.Hang, st.killed || f.Kill
		st.cut, st.unlisted = st.cut || f.Partition, st.unlisted || f.Leave
	}
	st.workers = int(math.Round(float64(s.Workers) * capacity))
	return st
}

// load is what the present faults multiply the rate of calls with.
func (s *service) load() float64 {
	load := 1.0
	for _, f := range s.faults {
		if f.Load > 0 {
			load *= f.Load
		}
	}
	return load
}

// endpoint is a server.
type endpoint struct {
	state
	world     *world
	service   *service
	number    int
	addr      string
	rnd       *rand.Rand
	mesh      *mesh      // nil if it calls nobody
	admission *admission // nil if it refuses nothing
	inside    []*request
	queue     []*request // begins at head
	head      int
	busy      int          // workers
	stopped   []func()     // what is to go on when it does not hang any more
	held      []func()     // messages that are to arrive when they can
	series    *Series      // of the attempts that it gets
	made      *Series      // of the calls that it makes
	checked   atomic.Int32 // its condition, for health checks
}

// request is what an endpoint got of an attempt.
type request struct {
	endpoint *endpoint
	attempt  *attempt
	came     time.Duration
	deadline time.Duration // 0 if there is none
	inbound  zerohop.Inbound
	patience time.Duration // for how long the caller waits for the attempt, 0 if that has no bound
	visit    zerohop.Visit // in the admission, once it was asked
	asked    bool
	at       int // in endpoint.inside
	inside   bool
	working  bool // a worker has it
	gone     bool // answered, or lost
	calls    *served
}

// answer is what an endpoint sends back.
type answer struct {
	status  int
	err     error // there is no status, but this
	unsent  bool  // the request never got there
	noRetry bool
	after   time.Duration      // Retry-After
	verdict resilience.Verdict // instead of that of the status, if not zero
}

// message lets something arrive at the other side of the network, which is one hop for both directions.
func (e *endpoint) message(do func()) {
	d := e.service.Latency.draw(e.rnd, 500*time.Microsecond) + e.latency
	e.world.after(d, func() {
		if e.cut {
			e.held = append(e.held, do)
			return
		}
		do()
	})
}

// receive takes a request.
func (e *endpoint) receive(r *request) {
	e.world.note(requestCame, uint64(e.number))
	if e.killed {
		e.reply(r, answer{err: errRefused, unsent: true})
		return
	}
	r.came, r.inside, r.at = e.world.now, true, len(e.inside)
	e.inside = append(e.inside, r)
	if e.admission == nil {
		r.attempt.call.executed(r.attempt)
	}
	if e.service.Bare {
		r.deadline, r.inbound.Attempt, r.inbound.Criticality = 0, 0, 0
	}
	switch {
	case r.deadline > 0 && e.world.now >= r.deadline:
		e.whenRunning(func() { e.reply(r, answer{status: 504, noRetry: true}) })
	case e.fail > 0 && e.rnd.Float64() < e.fail:
		e.whenRunning(func() { e.reply(r, answer{status: 503, after: e.after}) })
	case e.shed > 0 && e.rnd.Float64() < e.shed:
		e.whenRunning(func() { e.reply(r, answer{status: 429, after: e.after}) })
	case e.full():
		e.whenRunning(func() { e.reply(r, answer{status: 503}) })
	default:
		e.admit(r)
	}
}

// enqueue lets a request wait for a worker.
func (e *endpoint) enqueue(r *request) {
	e.queue = append(e.queue, r)
	e.work()
}

// full reports whether another request would have to wait, but must not.
func (e *endpoint) full() bool {
	limit := e.service.Queue
	return limit > 0 && len(e.queue)-e.head >= limit && e.busy >= e.workers
}

// whenRunning does something, once the endpoint does not hang.
func (e *endpoint) whenRunning(do func()) {
	if e.hung {
		e.stopped = append(e.stopped, do)
		return
	}
	do()
}

// next takes a request from the queue, nil if there is none.
func (e *endpoint) next() (r *request) {
	if e.head == len(e.queue) {
		return nil
	}
	if e.service.LIFO {
		last := len(e.queue) - 1
		r, e.queue[last] = e.queue[last], nil
		e.queue = e.queue[:last]
	} else {
		r, e.queue[e.head] = e.queue[e.head], nil
		e.head++
	}
	if e.head == len(e.queue) || e.head > 1000 && e.head > len(e.queue)/2 {
		e.queue = append(e.queue[:0], e.queue[e.head:]...)
		e.head = 0
	}
	return r
}

// work gives requests to free workers.
func (e *endpoint) work() {
	for !e.hung && e.busy < e.workers {
		r := e.next()
		if r == nil {
			return
		}
		now := e.world.now
		switch {
		case r.gone:
			continue
		case e.service.DropLeft && r.attempt.left:
			e.leave(r, resilience.Neutral)
			continue
		case e.service.MinTime > 0 && r.deadline > 0 && r.deadline-now < e.service.MinTime:
			e.reply(r, answer{status: 503, noRetry: true})
			continue
		}
		d := time.Duration(min(float64(e.service.Time.draw(e.rnd, 0))*e.slow, float64(longest)))
		e.busy++
		r.working = true
		e.world.after(d, func() {
			if !r.gone {
				e.whenRunning(func() { e.worked(r) })
			}
		})
	}
}

// worked is the end of what a worker does for a request.
func (e *endpoint) worked(r *request) {
	if r.gone { // it was killed while it hung
		return
	}
	r.working = false
	e.busy--
	e.serve(r)
	e.work()
}

// leave takes a request off the list of those inside.
func (e *endpoint) leave(r *request, o resilience.Outcome) {
	if r.gone {
		return
	}
	r.gone, r.inside = true, false
	last := len(e.inside) - 1
	moved := e.inside[last]
	e.inside[r.at], e.inside[last] = moved, nil
	moved.at = r.at
	e.inside = e.inside[:last]
	if r.working {
		e.busy--
	}
	r.calls.abandon()
	e.depart(r, o)
}

// reply answers a request.
func (e *endpoint) reply(r *request, a answer) {
	if r.gone {
		return
	}
	if r.inside {
		o := resilience.Failure
		if a.err == nil {
			o = resilience.HTTPStatus(a.status, 0).Outcome
		}
		e.leave(r, o)
		e.series.finish(e.world.now, a.status == 200, e.world.now-r.came)
	}
	r.gone = true
	e.world.note(requestDone, uint64(a.status))
	if (a.status == 429 || a.status >= 500) && r.inbound.Spent() && !e.service.Bare {
		a.noRetry = true
	}
	e.message(func() { r.attempt.call.mesh.arrive(func() { r.attempt.arrive(a) }) })
}

// become changes what is wrong with the endpoint.
func (e *endpoint) become(st state) {
	was := e.state
	e.state = st
	e.checked.Store(int32(st.condition()))
	if st.killed && !was.killed {
		e.queue, e.head = nil, 0
		for len(e.inside) > 0 {
			e.reply(e.inside[0], answer{err: errReset})
		}
		e.stopped = nil
		e.admission, _ = e.newAdmission() // what comes next is another process
	}
	if e.mesh != nil && st.hung != was.hung {
		if st.hung {
			e.mesh.pause()
		} else {
			e.mesh.resume()
		}
	}
	if !st.hung {
		for _, do := range take(&e.stopped) {
			do()
		}
	}
	if !st.cut {
		for _, do := range take(&e.held) {
			do()
		}
	}
	e.work()
}

func take[T any](list *[]T) []T {
	old := *list
	*list = nil
	return old
}

var (
	errRefused = errors.New("sim: connection refused")
	errReset   = errors.New("sim: connection reset")
)

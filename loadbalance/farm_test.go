package loadbalance

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// farm is a simulation of servers that share their machines with others, after section 5 of the paper: each is granted
// some processors and uses more while its neighbours do not. Queries share what there is, one processor each at most.
type farm struct {
	rnd     *rand.Rand
	now     time.Duration
	servers []*farmServer
	clients []*Balancer
	at      map[string]*farmServer
	events  farmEvents
	cost    float64 // mean, in seconds of a processor

	latencies []float64 // in seconds
	errors    int
}

const (
	farmGrant    = 4               // processors
	farmDeadline = 5 * time.Second // of queries
)

type farmServer struct {
	processors float64
	work       float64       // that a query has got that was there from the start, in seconds
	last       time.Duration // when work was right
	version    int           // of the event that is valid
	active     farmQueries
	oldest     []*farmQuery
	recent     []recent // latencies of queries, by how many there were with them
}

type farmQuery struct {
	until float64 // its work is done
	from  time.Duration
	rif   int
	pick  Pick
	ended bool
}

// recent are the last few latencies.
type recent struct {
	list  [7]float64
	count int
}

type farmQueries []*farmQuery

func (q farmQueries) Len() int           { return len(q) }
func (q farmQueries) Less(i, j int) bool { return q[i].until < q[j].until }
func (q farmQueries) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *farmQueries) Push(x any)        { *q = append(*q, x.(*farmQuery)) }
func (q *farmQueries) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

type farmEvent struct {
	at      time.Duration
	server  *farmServer
	version int
}

type farmEvents []farmEvent

func (e farmEvents) Len() int           { return len(e) }
func (e farmEvents) Less(i, j int) bool { return e[i].at < e[j].at }
func (e farmEvents) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *farmEvents) Push(x any)        { *e = append(*e, x.(farmEvent)) }
func (e *farmEvents) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// newFarm has as many clients as servers. cost is the mean of a normal distribution of the same deviation, without what
// is below 0.
func newFarm(build Builder, size int, cost float64) *farm {
	f := &farm{rnd: rand.New(rand.NewPCG(7, 11)), at: map[string]*farmServer{}, cost: cost}
	eps := endpoints(size)
	for range size {
		b := New(Config{Builder: build, Rand: f.rnd.Uint64})
		b.Update(eps)
		f.clients = append(f.clients, b)
	}
	for i, ep := range eps {
		s := &farmServer{}
		f.neighbours(s, i%10 == 3)
		f.servers = append(f.servers, s)
		f.at[ep.Addr] = s
	}
	return f
}

// neighbours sets what they leave to the server.
func (f *farm) neighbours(s *farmServer, busy bool) {
	f.advance(s)
	s.processors = farmGrant * 0.92 // caches and memory are shared, too
	if !busy {
		s.processors = farmGrant * (1.5 + 2.5*f.rnd.Float64())
	}
	f.schedule(s)
}

func (s *farmServer) rif() int { return len(s.active) }

func (s *farmServer) rate() float64 { return min(1, s.processors/float64(max(s.rif(), 1))) }

func (f *farm) advance(s *farmServer) {
	s.work += (f.now - s.last).Seconds() * s.rate()
	s.last = f.now
}

// schedule announces the next end of a query.
func (f *farm) schedule(s *farmServer) {
	s.version++
	if s.rif() > 0 {
		in := max(s.active[0].until-s.work, 0) / s.rate()
		heap.Push(&f.events, farmEvent{f.now + time.Duration(in*1e9) + 1, s, s.version})
	}
}

// run makes queries for a while at a load that is a part of what is granted.
func (f *farm) run(load float64, d time.Duration) {
	f.latencies, f.errors = f.latencies[:0], 0
	// The mean of the truncated normal distribution is 1.288 times that of the whole.
	rate := load * farmGrant * float64(len(f.servers)) / (f.cost * 1.288)
	stop := f.now + d
	next := f.now
	for {
		for len(f.events) > 0 && f.events[0].at <= next {
			e := heap.Pop(&f.events).(farmEvent)
			if e.version == e.server.version {
				f.now = e.at
				f.complete(e.server)
			}
		}
		if next > stop {
			f.now = stop
			return
		}
		if next/time.Second > f.now/time.Second {
			f.now = next
			for _, s := range f.servers {
				if f.rnd.IntN(50) == 0 {
					f.neighbours(s, f.rnd.IntN(10) == 0)
				}
			}
		}
		f.now = next
		f.query()
		next += time.Duration(f.rnd.ExpFloat64() / rate * 1e9)
	}
}

func (f *farm) query() {
	b := f.clients[f.rnd.IntN(len(f.clients))]
	p, err := b.Pick(Info{Now: b.base.Add(f.now)})
	if err != nil {
		panic(err)
	}
	s := f.at[p.Node().Addr()]
	f.advance(s)
	cost := -1.0
	for cost < 0 {
		cost = f.cost * (1 + f.rnd.NormFloat64())
	}
	q := &farmQuery{until: s.work + cost, from: f.now, rif: s.rif(), pick: p}
	heap.Push(&s.active, q)
	s.oldest = append(s.oldest, q)
	f.expire(s)
	f.schedule(s)
}

func (f *farm) complete(s *farmServer) {
	f.advance(s)
	for s.rif() > 0 && s.active[0].until <= s.work+1e-9 {
		f.end(s, heap.Pop(&s.active).(*farmQuery), resilience.Success)
	}
	f.expire(s)
	f.schedule(s)
}

// expire gives up the queries that are over their deadline.
func (f *farm) expire(s *farmServer) {
	for len(s.oldest) > 0 && (s.oldest[0].ended || f.now-s.oldest[0].from >= farmDeadline) {
		q := s.oldest[0]
		s.oldest = s.oldest[1:]
		if !q.ended {
			heap.Remove(&s.active, slices.Index(s.active, q))
			f.end(s, q, resilience.Failure)
		}
	}
}

func (f *farm) end(s *farmServer, q *farmQuery, outcome resilience.Outcome) {
	q.ended = true
	took := f.now - q.from
	f.latencies = append(f.latencies, took.Seconds())
	at := q.pick.Start().Add(took)
	if outcome != resilience.Success {
		f.errors++
	} else {
		for len(s.recent) <= q.rif {
			s.recent = append(s.recent, recent{})
		}
		r := &s.recent[q.rif]
		r.list[r.count%len(r.list)] = took.Seconds()
		r.count++
		q.pick.Node().ReportLoad(at, Load{InFlight: s.rif() + 1, Latency: s.latency()})
	}
	q.pick.Done(Report{Now: at, Outcome: outcome, Latency: took})
}

// latency returns the median of recent latencies at about the present number of queries.
func (s *farmServer) latency() time.Duration {
	for off := range len(s.recent) + s.rif() {
		for _, rif := range []int{s.rif() - off, s.rif() + off} {
			if rif >= 0 && rif < len(s.recent) && s.recent[rif].count > 0 {
				list := s.recent[rif].list
				known := list[:min(s.recent[rif].count, len(list))]
				slices.Sort(known)
				return time.Duration(known[len(known)/2] * 1e9)
			}
		}
	}
	return 0
}

func (f *farm) quantile(q float64) time.Duration {
	slices.Sort(f.latencies)
	return time.Duration(f.latencies[int(q*float64(len(f.latencies)-1))] * 1e9).Round(time.Millisecond)
}

package loadbalance

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// simulation drives a Balancer with Poisson arrivals in a single goroutine on the clock of a synctest bubble.
// The seed is fixed, so every run is the same.
type simulation struct {
	bal   *Balancer
	rnd   *rand.Rand
	start time.Time
	next  time.Time // arrival
	nodes map[string]behaviour
	ends  simEnds
	picks []simPick
	// overdue says that callers give attempts up because another one was faster, as those of the mesh do.
	overdue bool
}

// behaviour says how an attempt goes that begins so long after the start.
type behaviour func(at time.Duration, rnd *rand.Rand) (time.Duration, resilience.Outcome)

type simPick struct {
	at   time.Duration
	addr string
}

type simEnd struct {
	at     time.Time
	pick   Pick
	report Report
}

type simEnds []simEnd

func (e simEnds) Len() int           { return len(e) }
func (e simEnds) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e simEnds) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *simEnds) Push(x any)        { *e = append(*e, x.(simEnd)) }
func (e *simEnds) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// simulate starts a simulation of n nodes with one behaviour each, the last one of which serves for the rest.
// It must run in a bubble.
func simulate(build Builder, n int, behaviours ...behaviour) *simulation {
	return simulateWith(Config{Builder: build}, n, behaviours...)
}

func simulateWith(cfg Config, n int, behaviours ...behaviour) *simulation {
	rnd := rand.New(rand.NewPCG(2026, 11))
	cfg.Rand = rnd.Uint64
	s := &simulation{
		bal:   New(cfg),
		rnd:   rnd,
		start: time.Now(),
		nodes: map[string]behaviour{},
	}
	s.next = s.start
	eps := make([]discovery.Endpoint, n)
	for i := range eps {
		eps[i].Addr = fmt.Sprint("n", i)
		s.nodes[eps[i].Addr] = behaviours[min(i, len(behaviours)-1)]
	}
	s.bal.Update(eps)
	return s
}

// run makes so many calls a second until the given time after the start.
func (s *simulation) run(rate float64, until time.Duration) {
	stop := s.start.Add(until)
	for {
		if len(s.ends) > 0 && s.ends[0].at.Before(s.next) {
			if s.ends[0].at.After(stop) {
				return
			}
			end := heap.Pop(&s.ends).(simEnd)
			time.Sleep(time.Until(end.at))
			end.report.Now = time.Now()
			end.pick.Done(end.report)
			continue
		}
		if s.next.After(stop) {
			return
		}
		time.Sleep(time.Until(s.next))
		now := time.Now()
		pick, err := s.bal.Pick(Info{Now: now})
		if err != nil {
			panic(err)
		}
		addr := pick.Node().Addr()
		s.picks = append(s.picks, simPick{now.Sub(s.start), addr})
		latency, outcome := s.nodes[addr](now.Sub(s.start), s.rnd)
		report := Report{Outcome: outcome, Latency: latency, Overdue: s.overdue && outcome == resilience.Neutral}
		heap.Push(&s.ends, simEnd{now.Add(latency), pick, report})
		s.next = now.Add(time.Duration(s.rnd.ExpFloat64() / rate * float64(time.Second)))
	}
}

// count returns how many calls went to a node in a span of time.
func (s *simulation) count(addr string, from, to time.Duration) (n, all int) {
	for _, p := range s.picks {
		if p.at >= from && p.at < to {
			all++
			if p.addr == addr {
				n++
			}
		}
	}
	return n, all
}

func (s *simulation) share(addr string, from, to time.Duration) float64 {
	n, all := s.count(addr, from, to)
	return float64(n) / float64(all)
}

// healthy answers in 10 ms on average, never in less than 5.
func healthy(_ time.Duration, rnd *rand.Rand) (time.Duration, resilience.Outcome) {
	return 5*time.Millisecond + time.Duration(rnd.ExpFloat64()*float64(5*time.Millisecond)), resilience.Success
}

func failFast(time.Duration, *rand.Rand) (time.Duration, resilience.Outcome) {
	return time.Millisecond, resilience.Failure
}

// hung never answers: a backup wins after 400 ms.
func hung(time.Duration, *rand.Rand) (time.Duration, resilience.Outcome) {
	return 400 * time.Millisecond, resilience.Neutral
}

func slow(at time.Duration, rnd *rand.Rand) (time.Duration, resilience.Outcome) {
	d, o := healthy(at, rnd)
	return 20 * d, o
}

// between behaves in one way from a time up to another and is healthy before and after.
func between(from, to time.Duration, b behaviour) behaviour {
	return func(at time.Duration, rnd *rand.Rand) (time.Duration, resilience.Outcome) {
		if at >= from && at < to {
			return b(at, rnd)
		}
		return healthy(at, rnd)
	}
}

func failing(ratio float64) behaviour {
	return func(at time.Duration, rnd *rand.Rand) (time.Duration, resilience.Outcome) {
		if rnd.Float64() < ratio {
			return failFast(at, rnd)
		}
		return healthy(at, rnd)
	}
}

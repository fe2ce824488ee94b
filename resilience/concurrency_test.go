package resilience

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// bench is a server behind a Limit: workers that take turns, an exponential time of service, and arrivals at random.
type bench struct {
	limit   *Limit
	r       *rand.Rand
	now     time.Duration
	free    int
	line    []*job
	events  jobs
	rate    float64 // arrivals a second
	mean    time.Duration
	law     func() float64 // of the time of service, in parts of the mean
	timeout time.Duration  // after which nobody waits
	good    int
	bad     int
	refused int
	peak    int // of the limit
	low     int
}

type job struct {
	ticket Ticket
	at     time.Duration // of its event
	came   time.Duration
}

type jobs []*job

func (q jobs) Len() int           { return len(q) }
func (q jobs) Less(i, j int) bool { return q[i].at < q[j].at }
func (q jobs) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *jobs) Push(x any)        { *q = append(*q, x.(*job)) }
func (q *jobs) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

func newBench(cfg LimitConfig, workers int, rate float64, mean time.Duration) *bench {
	r := rand.New(rand.NewPCG(1, 2))
	return &bench{limit: NewLimit(cfg, r.Uint64), r: r, free: workers, rate: rate, mean: mean, law: r.ExpFloat64, timeout: math.MaxInt64}
}

func (b *bench) exp(mean float64) time.Duration { return time.Duration(b.r.ExpFloat64() * mean) }

// run goes on for d.
func (b *bench) run(d time.Duration) {
	b.good, b.bad, b.refused, b.peak, b.low = 0, 0, 0, 0, math.MaxInt
	end := b.now + d
	next := b.now + b.exp(1e9/b.rate)
	for {
		if len(b.events) > 0 && b.events[0].at <= next {
			j := heap.Pop(&b.events).(*job)
			if j.at > end {
				heap.Push(&b.events, j)
				break
			}
			b.now = j.at
			outcome := Success
			took := b.now - j.came
			if took >= b.timeout {
				outcome = Failure
				b.bad++
			} else {
				b.good++
			}
			b.limit.Leave(b.now, &j.ticket, outcome, min(took, b.timeout)-j.ticket.Waited())
			b.free++
			if len(b.line) > 0 {
				b.serve(b.line[0])
				b.line = b.line[1:]
			}
			limit := b.limit.State().Limit
			b.peak, b.low = max(b.peak, limit), min(b.low, limit)
			continue
		}
		if next > end {
			break
		}
		b.now = next
		next += b.exp(1e9 / b.rate)
		if at := b.limit.Wake(); at > 0 && at <= b.now {
			b.limit.Tick(b.now)
		}
		j := &job{came: b.now}
		j.ticket.Told = func(_ time.Duration, a Admission) { b.begin(j, a) }
		if b.timeout < math.MaxInt64 {
			j.ticket.Deadline, j.ticket.Expected = b.now+b.timeout, b.mean
		}
		b.begin(j, b.limit.Enter(b.now, &j.ticket))
	}
	b.now = end
}

// begin works on a job if it is let in.
func (b *bench) begin(j *job, a Admission) {
	switch {
	case a == Queued:
	case a.Refused():
		b.refused++
	case b.free > 0:
		b.serve(j)
	default:
		b.line = append(b.line, j)
	}
}

func (b *bench) serve(j *job) {
	b.free--
	j.at = b.now + time.Duration(b.law()*float64(b.mean))
	heap.Push(&b.events, j)
}

// A limit that fell because everything became slower for a minute is back soon after that is over.
func TestGradientComesBackAfterDegradation(t *testing.T) {
	for _, c := range []struct {
		name    string
		workers int
		rate    float64
	}{{"roomy", 400, 1000}, {"tight", 15, 1000}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(LimitConfig{Algorithm: "gradient"}, c.workers, c.rate, 10*time.Millisecond)
			b.run(time.Minute)
			before := b.limit.State().Limit
			b.mean = 200 * time.Millisecond
			b.run(time.Minute)
			during, low := b.limit.State().Limit, b.low
			b.mean = 10 * time.Millisecond
			b.run(30 * time.Second)
			after := b.limit.State().Limit
			b.run(10 * time.Second)
			t.Logf("limit %d, then %d (lowest %d), then %d; %d good and %d refused in the last 10 s", before, during, low, after, b.good, b.refused)
			if float64(after) < 0.9*float64(before) {
				t.Errorf("limit = %d, want at least 90%% of %d", after, before)
			}
			if want := 0.98 * c.rate * 10; float64(b.good) < want {
				t.Errorf("%d calls in 10 s, want %.0f", b.good, want)
			}
		})
	}
}

// Whatever is offered, about as much is in flight as keeps the workers busy, and they are.
func TestGradientKeepsTheQueueOfAServerShort(t *testing.T) {
	for _, c := range []struct {
		workers int
		load    float64
	}{{8, 0.7}, {8, 1.5}, {8, 3}, {20, 2}} {
		b := newBench(LimitConfig{Algorithm: "gradient"}, c.workers, c.load*float64(c.workers)*50, 20*time.Millisecond)
		b.run(20 * time.Second)
		b.run(time.Minute)
		goodput := float64(b.good) / 60 / (float64(c.workers) * 50)
		t.Logf("%d workers at %v: goodput %.3f, limit %d to %d", c.workers, c.load, goodput, b.low, b.peak)
		if want := 0.95 * min(c.load, 1); goodput < want {
			t.Errorf("%d workers at %v: goodput %.3f of capacity, want %.3f", c.workers, c.load, goodput, want)
		}
		if c.load > 1 && b.peak > 4*c.workers {
			t.Errorf("%d workers at %v: limit rose to %d", c.workers, c.load, b.peak)
		}
	}
}

// Samples of calls that came in before a probe do not say what it is to find out.
func TestGradientDropsSamplesOfAnEarlierEpoch(t *testing.T) {
	l := NewLimit(LimitConfig{Algorithm: "gradient"}, func() uint64 { return 0 })
	old := make([]Ticket, 20)
	for i := range old {
		l.Enter(1, &old[i])
	}
	l.gradient.base = float64(10 * time.Millisecond)
	l.gradient.turn(1, true)
	l.epoch++
	l.allow(l.gradient.allowed())
	for i := range old[:15] {
		l.Leave(2*time.Second, &old[i], Success, time.Second)
	}
	if l.gradient.n != 0 || !l.gradient.probing {
		t.Errorf("%d samples, want none", l.gradient.n)
	}
	fresh := make([]Ticket, gradientSamples)
	for i := range fresh {
		l.Enter(2*time.Second, &fresh[i])
		l.Leave(2*time.Second, &fresh[i], Success, 4*time.Millisecond)
	}
	if got, want := time.Duration(l.gradient.base).Round(time.Millisecond/10), 5800*time.Microsecond; got != want || l.gradient.probing {
		t.Errorf("base = %v, want seven tenths of the way from 10ms to 4ms, %v", got, want)
	}
	for i := range old[15:] { // the probe is over, and they still are of the load before it
		l.Leave(3*time.Second, &old[15+i], Success, time.Second)
	}
	if l.gradient.n != 0 {
		t.Errorf("%d samples after the probe, want none", l.gradient.n)
	}
}

func TestGradientProbesAtRandomTimesAndNeverAtTheFloor(t *testing.T) {
	var random uint64
	g := gradient{limit: 100, min: 3, max: 1000, base: 10, random: func() uint64 { return random }}
	if got, want := g.untilProbe(), 51*time.Second; got != want {
		t.Errorf("least time to a probe = %v, want %v", got, want)
	}
	if random = math.MaxUint64; g.untilProbe() < 68*time.Second || g.untilProbe() > 69*time.Second {
		t.Errorf("longest time to a probe = %v, want 69s", g.untilProbe())
	}
	g.turn(0, true)
	if got := g.allowed(); got != 50 {
		t.Errorf("%v calls while probing, want half of 100", got)
	}
}

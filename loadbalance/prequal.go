package loadbalance

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// Prequal picks by what endpoints say of themselves in their answers, see Node.ReportLoad: of eight random nodes that said
// something within the last second it takes the one with the lowest latency among all but the two with the most requests
// in flight. Requests in flight tell of overload before it shows in latencies, and latency tells fast nodes from slow
// ones. It is for endpoints with many clients, so that what one client has in flight says little, that share their machines
// with others. Where fewer than two of the nodes it draws have said anything of late it does as PeakEWMA does; what
// failed is treated in the same way.
//
// Use it where servers differ or are slowed down by others on their machines, and each client makes but a small part of
// their load. Where a few clients make all of it PeakEWMA knows as much, and sooner. What servers must do is to report:
// httpmesh.NewHandler does by itself, as does grpcmesh.Server, whose Register serves the probes; others send ORCA
// reports with InFlightMetric and LatencyMetric.
//
// B. Wydrowski et al., "Load is not what you should balance: Introducing Prequal", NSDI 2024, mostly without probes: each
// node has at most one entry, which each of its answers renews, and requests of this client since then are added; see
// Balancer.Probe for nodes that give no answers. A node whose entry is too old is compared with the best of the others as
// PeakEWMA would, and so has a new one after a while. In simulations of the paper's set-up a pool of 8 does as well as
// the paper's 16. Reports get old within a few calls if each client sends a node a few requests a second only:
// PrequalConfig.ProbeAge has them renewed.
func Prequal(nodes []*Node) Picker { return PrequalConfig{}.Prequal(nodes) }

// PrequalConfig is the set-up of Prequal.
type PrequalConfig struct {
	// Quantile is the part of the nodes that are compared by latency, those with fewer requests in flight than the
	// others: Q_RIF of the paper, which has 0.84 and finds 0.6 to 0.9 equally good. With 1 requests in flight do not count,
	// and overload is found too late; below 0, or NaN, nothing else counts. 0 means 0.75.
	Quantile float64
	// Pool is how many nodes are compared. 0 or less means 8. More than 16 count as 16.
	Pool int
	// MaxAge is how long a report counts. 0 or less means 1 s, as in the paper. Values above 20 days count as that.
	MaxAge time.Duration
	// Probes is how many nodes are asked for their load at most when a call was made: r_probe of the paper, which finds
	// that one is nearly as good as three. 0 means 3, less than 0 none, more than 16 means 16. Only nodes are asked that
	// have said nothing for ProbeAge, so that there are no probes where calls are many.
	Probes int
	// ProbeAge is how old the report of a node is when it may be asked. What is a multiple of the time that calls take makes
	// picks better and costs more probes. 0 or less means a twentieth of MaxAge.
	ProbeAge time.Duration
	// ProbeTimeout is how long the answer to a probe is waited for. 0 or less means 3 ms, as in the paper: what comes later
	// is of little use. Clients that are farther from their servers than that need more.
	ProbeTimeout time.Duration
	// ProbeRate is how many probes this client sends per second at most, to all nodes together. 0 or less means 500.
	ProbeRate float64
}

const maxPool = 16

// penalized is the latency of a node that failed a moment ago, in the upper half of a word as in pack.
var penalized = pack(float64(penaltyCost), 0)

// ahead is how many ticks a report may be later than the pick that reads it.
const ahead = 1 << 10

// Prequal is the algorithm Prequal with the settings of c. It is a Builder.
func (c PrequalConfig) Prequal(nodes []*Node) Picker {
	c = c.withDefaults()
	nodes[0].owner.probe(&c)
	p := &prequal{
		others: twoChoices{nodes: nodes, costs: true},
		count:  min(c.Pool, len(nodes)),
		maxAge: uint32(c.MaxAge>>tickShift) + 1,
	}
	for count := range p.ranks {
		if c.Quantile > 0 { // which NaN is not
			p.ranks[count] = int(math.Ceil(min(c.Quantile, 1) * float64(count)))
		}
	}
	p.step = uint64(len(nodes)) << 32 / uint64(p.count)
	p.end = p.step * uint64(p.count)
	for _, n := range nodes {
		n.report()
	}
	return p
}

func (c PrequalConfig) withDefaults() PrequalConfig {
	if c.Quantile == 0 {
		c.Quantile = 0.75
	}
	if c.Pool <= 0 {
		c.Pool = 8
	}
	c.Pool = min(c.Pool, maxPool)
	if c.MaxAge <= 0 {
		c.MaxAge = time.Second
	}
	c.MaxAge = min(c.MaxAge, 20*24*time.Hour) // ticks wrap
	if c.Probes == 0 {
		c.Probes = 3
	}
	if c.ProbeAge <= 0 {
		c.ProbeAge = c.MaxAge / 20
	}
	c.Probes = min(max(c.Probes, 0), maxPool)
	if c.ProbeTimeout <= 0 {
		c.ProbeTimeout = 3 * time.Millisecond
	}
	if !(c.ProbeRate > 0) {
		c.ProbeRate = 500
	}
	return c
}

type prequal struct {
	others twoChoices // does what cannot be done by reports
	count  int        // of peers that are drawn
	end    uint64
	step   uint64           // the peers for each of them, times 2^32
	maxAge uint32           // in ticks
	ranks  [maxPool + 1]int // a node is cold if fewer than this have less load, by the number of nodes
}

// pool is what is compared. Its numbers are the bits of floats that are not negative, which are in the order of the floats:
// comparisons of floats would be branches, of which half go where the processor did not expect.
type pool struct {
	peers     [maxPool]*Node
	loads     [maxPool]int32  // requests in flight by weight
	latencies [maxPool]uint64 // above the index in the pool
}

func (p *prequal) Pick(in Info) *Node { return p.pick(&in) }

func (p *prequal) pick(in *Info) *Node {
	var drawn pool
	peers := drawn.peers[:p.count]
	// One of each of as many parts of the list, so that hardly any is drawn twice. What is known of them is looked at when
	// all are drawn, so that the processor can wait for all at once.
	from, r := uint64(index(in.Random, p.count))*p.step, in.Random
	for k := range peers {
		r = next(r)
		within, _ := bits.Mul64(r, p.step)
		peers[k] = p.others.nodes[(from+within)>>32]
		if from += p.step; from == p.end {
			from = 0
		}
	}
	now := peers[0].since(in.Now)
	tick := ticks(now)
	easy := in.easy()
	var last, silent *Node
	count, lowest := 0, uint64(math.MaxUint64)
	for k := range peers {
		n := peers[k]
		drawn.loads[k], drawn.latencies[k] = math.MaxInt32, math.MaxUint64
		if n == last || !(easy && n.plain()) && !in.usable(n) {
			continue
		}
		last = n
		inflight, latency := n.inflight.Load(), n.said.Load()
		failed := n.penalty.until.Load() != 0 && n.penalty.active(now)
		if tick-uint32(latency)+ahead > p.maxAge+ahead || latency == 0 {
			if k == 0 && inflight == 0 && !failed {
				silent = n
			}
			continue
		}
		if failed {
			if n.penalty.repeated(now) {
				continue
			}
			latency = max(latency, penalized)
		}
		latency = latency>>32<<32 | uint64(k)
		load := float32(n.excess.Load()+inflight) * math.Float32frombits(n.inverse.Load())
		drawn.loads[k], drawn.latencies[k] = int32(math.Float32bits(load)), latency
		lowest = min(lowest, latency)
		count++
	}
	if count < 2 {
		return p.others.pick(in)
	}
	if in.Choice != nil {
		return p.record(in, &drawn, p.ranks[count], lowest, silent, now)
	}
	n := peers[drawn.best(p.count, p.ranks[count], lowest)]
	if silent != nil && (silent.cost.bits.Load() == 0 || p.others.sooner(silent, n)) {
		return silent
	}
	return n
}

// record is the end of pick, with a record of it.
func (p *prequal) record(in *Info, drawn *pool, rank int, lowest uint64, silent *Node, now time.Duration) *Node {
	was := drawn.latencies // best crosses out what is hot
	best := drawn.best(p.count, rank, lowest)
	n := drawn.peers[best]
	if silent != nil {
		unknown := silent.cost.bits.Load() == 0
		x, y := p.others.rate(silent, n, now)
		if unknown {
			x.Score = 0
		}
		if unknown || p.others.sooner(silent, n) {
			in.compared(silent, x, now)
			in.compared(n, y, now)
			return silent
		}
	}
	for k, m := range drawn.peers[:p.count] {
		if was[k] == math.MaxUint64 {
			continue // not usable, or nothing is known of it
		}
		load := float64(math.Float32frombits(uint32(drawn.loads[k])))
		x := Candidate{InFlight: int32(m.excess.Load() + m.inflight.Load()), Score: load}
		if rank > 0 {
			x.Score = float64(math.Float32frombits(uint32(was[k]>>32))) / float64(time.Second)
			if !drawn.cold(drawn.loads[k], p.count, rank) {
				x.Removed = Busiest
			}
		}
		in.compared(m, x, now)
	}
	return n
}

// cold reports whether fewer than rank have less load than that.
func (d *pool) cold(load int32, count, rank int) bool {
	less := 0
	for _, l := range d.loads[:count] {
		if l < load {
			less++
		}
	}
	return less < rank
}

// best returns the one of count with the lowest latency of those that are cold: fewer than rank have less load. If none
// is, it returns the one with the least load.
func (d *pool) best(count, rank int, lowest uint64) int {
	for rank > 0 { // the one with the least load is cold
		best := lowest & (maxPool - 1)
		less, load := int32(0), d.loads[best]
		for _, l := range d.loads[:count] {
			less -= (l - load) >> 31
		}
		if int(less) < rank {
			return int(best)
		}
		d.latencies[best] = math.MaxUint64
		lowest = slices.Min(d.latencies[:count])
	}
	return slices.Index(d.loads[:count], slices.Min(d.loads[:count]))
}

package loadbalance

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// UtilizationRoundRobin takes the nodes in turn, each as often as makes all equally busy by what they say of themselves, see
// Node.ReportLoad: a node that answers 100 requests per second at a utilization of 0.5 gets twice as many as one at 1.
// It is for services whose endpoints differ in what they can do, and whose many clients each see little of it. Weights
// of endpoints do not count, failures only by what endpoints say of them.
//
// It is weighted_round_robin of gRPC (gRFC A58, https://github.com/grpc/proposal/blob/master/A58-client-side-weighted-round-robin-lb-policy.md)
// and client_side_weighted_round_robin of Envoy, with static strides instead of deadlines as the schedule.
func UtilizationRoundRobin(nodes []*Node) Picker { return UtilizationConfig{}.RoundRobin(nodes) }

// UtilizationConfig is the set-up of UtilizationRoundRobin.
type UtilizationConfig struct {
	// Blackout is how long a node must have reported before its reports count, since what it says while it warms up
	// would soon be wrong. 0 means 10 s, less than 0 no time.
	Blackout time.Duration
	// Expiration is how long a report counts. 0 or less means 3 min.
	Expiration time.Duration
	// Update is the time after which new reports count. 0 or less means 1 s; less than 100 ms means that.
	Update time.Duration
	// ErrorPenalty is by how much a node that fails all requests counts as busier. 0 means 1; less than 0, and NaN, mean
	// that failures do not count.
	ErrorPenalty float64
}

// RoundRobin is the algorithm UtilizationRoundRobin with the settings of c. It is a Builder.
func (c UtilizationConfig) RoundRobin(nodes []*Node) Picker {
	if c.Blackout == 0 {
		c.Blackout = 10 * time.Second
	}
	if c.Expiration <= 0 {
		c.Expiration = 3 * time.Minute
	}
	if c.Update <= 0 {
		c.Update = time.Second
	}
	c.Update = max(c.Update, 100*time.Millisecond)
	if c.ErrorPenalty == 0 {
		c.ErrorPenalty = 1
	}
	c.ErrorPenalty = min(c.ErrorPenalty, math.MaxFloat32)
	p := &utilization{
		cfg:     c,
		nodes:   nodes,
		reports: make([]*report, len(nodes)),
		strides: make([]atomic.Uint32, len(nodes)),
	}
	for i, n := range nodes {
		p.reports[i] = n.report()
		p.strides[i].Store(fullStride)
	}
	p.next.Store(nodes[0].owner.random() >> 16)
	return p
}

type utilization struct {
	cfg     UtilizationConfig
	nodes   []*Node
	reports []*report
	strides []atomic.Uint32 // the part of the rounds in which the node gets a call, times fullStride
	next    atomic.Uint64
	due     atomic.Int64 // when the strides are next worked out
}

const (
	fullStride = 1 << 16
	// Weights of more than 10 times the median count as that, and those of less than a hundredth as that: one report that
	// is wrong must neither draw all calls to a node nor keep all away from it, and walks must end soon.
	mostWeight, leastWeight = 10, 0.01
	// strideWalk is how many nodes are asked at most. One in twenty has its turn in the worst case.
	strideWalk = 128
)

// Pick goes through the nodes round by round. A node moves on by its stride in each and gets a call when that brings it past
// a full one, at once if it always does.
func (p *utilization) Pick(in Info) *Node { return p.pick(&in) }

func (p *utilization) pick(in *Info) *Node {
	now := p.nodes[0].since(in.Now)
	if due := p.due.Load(); int64(now) >= due && p.due.CompareAndSwap(due, int64(now+p.cfg.Update)) {
		p.update(now)
	}
	count := uint64(len(p.nodes))
	for range strideWalk {
		k := p.next.Add(1)
		i := k % count
		stride := uint64(p.strides[i].Load())
		// Nodes start at different points of their stride, or equal ones would all come in the same round.
		if at := (k/count*stride + i*golden>>48) % fullStride; at < fullStride-stride {
			if in.Choice != nil {
				short := float64(fullStride-stride-at) / fullStride
				in.looked(p.nodes[i], Candidate{InFlight: int32(p.nodes[i].inflight.Load()), Score: short}, now)
			}
			continue
		}
		n := p.nodes[i]
		if in.Usable(n) {
			if in.Choice != nil {
				in.compared(n, Candidate{InFlight: int32(n.inflight.Load())}, now)
			}
			return n
		}
	}
	in.uncompared()
	return firstUsable(p.nodes, in)
}

// update works the strides out in place: picks that see some of the old ones do no harm. Nodes without a weight get the mean
// of the others. Weights of fewer than two tell nothing.
func (p *utilization) update(now time.Duration) {
	middle := p.median(now)
	var sum, highest float64
	known := 0
	for i := range p.reports {
		if w := p.bounded(i, middle, now); w > 0 {
			sum += w
			highest = max(highest, w)
			known++
		}
	}
	mean := sum / float64(known)
	for i := range p.reports {
		w := p.bounded(i, middle, now)
		if w == 0 {
			w = mean
		}
		if known < 2 {
			w, highest = 1, 1
		}
		p.strides[i].Store(uint32(max(math.Round(min(w/highest, 1)*fullStride), 1)))
	}
}

// bounded returns the weight of a node, 0 if it is unknown.
func (p *utilization) bounded(i int, middle float64, now time.Duration) float64 {
	w := p.cfg.weight(p.reports[i], now)
	if w == 0 {
		return 0
	}
	return min(max(w, middle*leastWeight), middle*mostWeight)
}

// median returns the median of the weights that are known, taken from a hundred of them if there are more: the lower one of
// two. A mean would be as high as the one report that is wrong makes it.
func (p *utilization) median(now time.Duration) float64 {
	var weights [sampled]float64
	known := 0
	for i := 0; i < len(p.reports); i += 1 + len(p.reports)/sampled {
		if w := p.cfg.weight(p.reports[i], now); w > 0 {
			weights[known] = w
			known++
		}
	}
	if known == 0 {
		return 1
	}
	slices.Sort(weights[:known])
	return weights[(known-1)/2]
}

// weight returns the requests per second that would make the node fully busy, 0 if unknown.
func (c *UtilizationConfig) weight(r *report, now time.Duration) float64 {
	seen := r.seen.Load()
	if seen == 0 {
		return 0
	}
	since := func(tick uint32) time.Duration { return time.Duration(int32(ticks(now)-tick)) << tickShift }
	if since(uint32(seen>>32)) >= c.Expiration {
		r.seen.CompareAndSwap(seen, 0) // the blackout begins again
		return 0
	}
	if since(uint32(seen)) < c.Blackout {
		return 0
	}
	use := r.use.Load()
	w := float64(math.Float32frombits(uint32(use >> 32)))
	if c.ErrorPenalty > 0 {
		w += float64(math.Float32frombits(uint32(use))) * c.ErrorPenalty
	}
	return 1 / w
}

package loadbalance

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// outliers decides which nodes of a Balancer are ejected. It is a state machine over the time and the reports of
// attempts: it has no timer, and whoever reports a result moves it on. Reports take its lock only when a node
// crosses a threshold or is out of service.
//
// Times are those since the base of the Balancer.
type outliers struct {
	config atomic.Pointer[judgement]
	rand   func() uint64

	changes *atomic.Uint64 // those of the Balancer

	// What is known of all nodes together, renewed once a slot by the report that comes first.
	next    atomic.Int64  // when
	failing atomic.Uint64 // float64 bits of the mean share of failures
	floor   atomic.Uint64 // float64 bits of the success rate below which a node deviates
	slow    atomic.Uint64 // float64 bits of the latency in nanoseconds above which one is slow, 0 if unknown

	compared atomic.Int64 // when that was last done for an ejection

	// crowd is when it was last found that it is not single nodes that fail.
	crowd atomic.Int64

	mu      sync.Mutex // guards what follows, and ejection and return
	nodes   []*Node    // of the present set
	healthy int        // those of them that the source calls so and that do not fail their checks
	out     int        // those of them that are ejected
	ended   bool       // nothing is ejected any more
}

// judgement is what outliers go by.
type judgement struct {
	OutlierConfig // with defaults
	slot          time.Duration
}

func (d *outliers) cfg() *judgement { return d.config.Load() }

func newOutliers(cfg OutlierConfig, rand func() uint64, changes *atomic.Uint64) *outliers {
	d := &outliers{rand: rand, changes: changes}
	d.configure(cfg)
	d.crowd.Store(math.MinInt64 / 2)
	return d
}

// configure makes it go by another config. What was counted is forgotten if it is counted otherwise from now on.
func (d *outliers) configure(cfg OutlierConfig) {
	cfg = cfg.withDefaults()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = false
	was := d.cfg()
	d.config.Store(&judgement{cfg, cfg.Window / slots})
	if was == nil || was.Window == cfg.Window {
		return
	}
	for _, n := range d.nodes {
		n.health.Load().clear()
	}
	d.next.Store(0)
}

// end returns all nodes to service, and ejects none from then on.
func (d *outliers) end(now time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	for _, n := range d.nodes {
		d.restore(n, now)
	}
}

// finding is what an attempt tells about its node.
type finding uint8

const (
	nothing finding = iota
	good
	failed
	silent // it was given up after so long that the node may hang
	alive  // but overloaded
)

// report takes in the result of an attempt that began at start.
func (d *outliers) report(n *Node, start, now time.Duration, f finding, probe bool) {
	if out := n.out.Load(); out <= unfit { // checks say when it is back, or an operator
		return
	} else if probe || out != 0 {
		d.prove(n, start, now, f, probe)
		return
	}
	h := n.health.Load()
	if f == nothing || int64(start) < h.since.Load() || f == silent && !h.silence(start, now) {
		return
	}
	if f == alive {
		h.speak()
		return
	}
	slot := uint32(now / d.cfg().slot)
	h.count(slot, f != good)
	var run int
	switch {
	case f == failed:
		run = runOf(h.run.Add(1))
	case f == silent:
		run = runOf(h.run.Add(aSilence))
		f = failed
	case h.run.Load() != 0:
		h.run.Store(0)
	}
	if next := d.next.Load(); int64(now) >= next && d.next.CompareAndSwap(next, int64(now+d.cfg().slot)) {
		d.compare(n.owner.set.Load().nodes, slot, now)
	}
	bad := func() bool { return f == failed && d.broken(run) || d.outlying(h, slot, f) }
	if !bad() {
		return
	}
	// A burst may have overtaken what is known of the siblings: those that refuse a part of it all do.
	if last := d.compared.Load(); f == failed && int64(now)-last >= int64(lately) && d.compared.CompareAndSwap(last, int64(now)) {
		d.compare(n.owner.set.Load().nodes, slot, now)
	}
	if bad() {
		d.eject(n, now, d.why(h, run, slot, f))
	}
}

// why returns why a node is to be ejected.
func (d *outliers) why(h *health, run int, slot uint32, f finding) reason {
	cfg := d.cfg()
	if f == failed && d.broken(run) {
		why := reason{Consecutive, float64(run), float64(cfg.Consecutive)}
		if h.run.Load() >= aSilence {
			why.cause = Silence
		}
		return why
	}
	all, bad := h.sum(slot)
	avg, slow := float64(h.average()), math.Float64frombits(d.slow.Load())
	ratio := float64(bad) / float64(max(all, 1))
	switch {
	case slow > 0 && avg > slow:
		return reason{SlowResponses, avg / float64(time.Second), slow / float64(time.Second)}
	case cfg.FailureRatio >= 0 && ratio > cfg.FailureRatio && all >= cfg.MinResponses:
		bound := cfg.FailureRatio
		if !cfg.Absolute {
			bound = max(bound, siblingFactor*math.Float64frombits(d.failing.Load()))
		}
		if ratio > bound {
			return reason{FailureShare, ratio, bound}
		}
	}
	return reason{Deviation, 1 - ratio, math.Float64frombits(d.floor.Load())}
}

// lately is how old the comparison may be that an ejection rests on. A tenth of it would have a service that fails everywhere
// compare all the time, ten times as much would find that a burst is one when half of the nodes are ejected.
const lately = 5 * time.Millisecond

// chance is how likely a run of failures may be among the siblings before it tells nothing about the node: less than
// once in a thousand seconds of a thousand calls each.
const chance = 1e-6

// broken reports whether the node failed so often in a row that it is not by chance.
func (d *outliers) broken(run int) bool {
	return d.cfg().Consecutive > 0 && run >= d.cfg().Consecutive &&
		(d.cfg().Absolute || math.Pow(math.Float64frombits(d.failing.Load()), float64(run)) < chance)
}

// siblingFactor is how many times the siblings' mean share of failures a node must have. Much more and two failing ones of
// three would shield each other, 1 and a service that fails everywhere would lose nodes by chance.
const siblingFactor = 1.5

// outlying reports whether the node answers worse than it may, after a response of the given kind.
func (d *outliers) outlying(h *health, slot uint32, f finding) bool {
	slow := math.Float64frombits(d.slow.Load())
	tooSlow := slow > 0 && float64(h.average()) > slow
	if f != failed && !tooSlow {
		return false
	}
	all, bad := h.sum(slot)
	if tooSlow && all >= max(d.cfg().MinResponses, latencySamples) {
		return true
	}
	if f != failed {
		return false
	}
	ratio := float64(bad) / float64(max(all, 1))
	if all >= d.cfg().MinResponses && d.cfg().FailureRatio >= 0 && ratio > d.cfg().FailureRatio &&
		(d.cfg().Absolute || ratio > siblingFactor*math.Float64frombits(d.failing.Load())) {
		return true
	}
	return all >= d.cfg().MinVolume && 1-ratio < math.Float64frombits(d.floor.Load())
}

// compared is how many nodes are looked at for what is usual. Their mean is as good as that of all, and a caller pays
// for it.
const compared = 128

// compare finds out what is usual among the nodes that are in service.
func (d *outliers) compare(nodes []*Node, slot uint32, now time.Duration) {
	if len(nodes) == 0 {
		return
	}
	var (
		ratios     float64
		known      int
		sum, sq    float64 // of the success rates of nodes with enough volume
		voluminous int
		latencies  [compared]float32
		timed      int
	)
	start := index(d.rand(), len(nodes))
	for k := range min(len(nodes), compared) {
		n := nodes[(start+k)%len(nodes)]
		if n.out.Load() != 0 {
			continue
		}
		all, bad := n.health.Load().sum(slot)
		if all < d.cfg().MinResponses {
			continue
		}
		ratio := float64(bad) / float64(all)
		ratios += ratio
		known++
		if all >= d.cfg().MinVolume {
			sum += 1 - ratio
			sq += (1 - ratio) * (1 - ratio)
			voluminous++
		}
		if l := n.health.Load().average(); l > 0 && all >= latencySamples {
			latencies[timed] = l
			timed++
		}
	}
	var failing, floor, slow float64
	if known > 1 {
		failing = ratios / float64(known)
	}
	if d.cfg().Deviations > 0 && voluminous >= d.cfg().MinHosts {
		mean := sum / float64(voluminous)
		floor = mean - d.cfg().Deviations*math.Sqrt(max(sq/float64(voluminous)-mean*mean, 0))
	}
	if d.cfg().Latency > 0 && timed >= d.cfg().MinHosts {
		slices.Sort(latencies[:timed])
		slow = d.cfg().Latency * float64(latencies[timed/2])
	}
	d.failing.Store(math.Float64bits(failing))
	d.floor.Store(math.Float64bits(floor))
	d.slow.Store(math.Float64bits(slow))
	if failing > 0.5 {
		d.mu.Lock()
		d.crowded(now)
		d.mu.Unlock()
	}
}

// eject takes a node out of service if the ceiling allows it.
func (d *outliers) eject(n *Node, now time.Duration, why reason) {
	defer n.owner.tell(now)
	d.mu.Lock()
	defer d.mu.Unlock()
	h := n.health.Load()
	if d.ended || n.out.Load() != 0 || n.ep.Load().Health != discovery.Healthy {
		return
	}
	h.reset(now) // one that is spared gets a new chance
	if !d.cfg().mayEject(d.out, d.healthy) {
		n.event(Spared, why, now, 0)
		d.crowded(now)
		return
	}
	h.times = max(h.times-int(max(now-h.back, 0)/d.cfg().Window), 0)
	if !d.expel(n, now, 0, why) {
		return
	}
	d.out++
	d.changes.Add(1)
	if 2*d.out > d.healthy {
		d.crowded(now)
	}
}

// expel ejects the node, or again, unless it has left. d.mu is held.
func (d *outliers) expel(n *Node, now time.Duration, before int64, why reason) bool {
	h := n.health.Load()
	if d.common(now) {
		h.times = 0
	}
	pause := d.cfg().duration(h.times, d.rand())
	h.lease.Store(int64(pause))
	if !n.out.CompareAndSwap(before, int64(now+pause)) {
		return false
	}
	h.since.Store(int64(now))
	h.times = min(h.times+1, 64)
	if why.cause == ProbeFailed {
		why.value = float64(h.times)
	}
	if why.cause != ProbeFailed { // that it still fails for
		h.cause.Store(uint32(why.cause))
	}
	n.event(Ejected, why, now, now+pause)
	return true
}

// common reports whether it is less the nodes than the service that fails, or did within a Window.
func (d *outliers) common(now time.Duration) bool {
	return int64(now)-d.crowd.Load() < int64(d.cfg().Window)
}

// crowded is told that more nodes fail than may be ejected, or most. How long they do tells nothing about any of them
// then: ejections are cut to the shortest, so that all are back soon after the service has recovered. d.mu is held.
func (d *outliers) crowded(now time.Duration) {
	if d.cfg().Absolute {
		return
	}
	first := !d.common(now)
	d.crowd.Store(int64(now))
	if !first {
		return
	}
	for _, n := range d.nodes {
		if until := n.out.Load(); until > 0 {
			pause := d.cfg().duration(0, d.rand())
			n.health.Load().times = 1
			n.health.Load().lease.Store(int64(pause))
			n.out.CompareAndSwap(until, min(until, int64(now+pause)))
		}
	}
	d.changes.Add(1)
}

// prove takes in the result of an attempt on a node that is out of service: a probe, or one that had no choice.
func (d *outliers) prove(n *Node, start, now time.Duration, f finding, probe bool) {
	h := n.health.Load()
	switch {
	case f == nothing && probe: // the next attempt is a probe
		if until := int64(start) + h.lease.Load(); n.out.CompareAndSwap(until, max(int64(now), 1)) {
			d.changes.Add(1)
		}
		return
	case f == nothing || (f == failed || f == silent) && !probe:
		return
	}
	defer n.owner.tell(now)
	d.mu.Lock()
	defer d.mu.Unlock()
	until := n.out.Load()
	if until <= 0 || int64(start) <= h.since.Load() {
		return
	}
	if f == failed || f == silent {
		d.expel(n, now, until, reason{cause: ProbeFailed})
		return
	}
	d.restore(n, now)
}

// restore returns a node to service. d.mu is held.
func (d *outliers) restore(n *Node, now time.Duration) {
	for {
		until := n.out.Load()
		if until <= 0 {
			return
		}
		if n.out.CompareAndSwap(until, 0) {
			break
		}
	}
	n.health.Load().reset(now)
	n.health.Load().back = now
	n.event(Returned, reason{}, now, 0)
	d.out--
	d.changes.Add(1)
	if n.owner.setup.Load().slowStart != nil && !d.common(now) {
		n.grow(now)
	}
}

// probe claims a node whose ejection is over for the attempt that is about to begin. wake is when it is to be called
// again.
func (d *outliers) probe(nodes []*Node, now time.Duration, r uint64) (due *Node, wake int64) {
	start := index(r, len(nodes))
	wake = math.MaxInt64
	for k := range nodes {
		n := nodes[(start+k)%len(nodes)]
		until := n.out.Load()
		if until > 0 && until <= int64(now) && due == nil {
			lease := int64(now) + n.health.Load().lease.Load()
			if n.out.CompareAndSwap(until, lease) {
				due, until = n, lease
			}
		}
		if until > 0 {
			wake = min(wake, until)
		}
	}
	return due, wake
}

// renew is told of a new set, and returns nodes to service if more of them are ejected now than may be: those first whose
// ejection ends first.
func (d *outliers) renew(nodes []*Node, healthy int, now time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nodes, d.healthy = nodes, healthy
	var out []*Node
	for _, n := range nodes {
		switch until := n.out.Load(); {
		case until > 0:
			out = append(out, n)
		case until <= unfit && n.ep.Load().Health == discovery.Healthy:
			d.healthy-- // the ceiling is for the others
		}
	}
	d.out = len(out)
	if d.out == 0 || d.cfg().mayEject(d.out-1, d.healthy) {
		return
	}
	slices.SortFunc(out, func(a, b *Node) int { return cmp.Compare(a.out.Load(), b.out.Load()) })
	for _, n := range out {
		if d.restore(n, now); d.out == 0 || d.cfg().mayEject(d.out-1, d.healthy) {
			return
		}
	}
}

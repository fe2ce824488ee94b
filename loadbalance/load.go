package loadbalance

import (
	"math"
	"sync/atomic"
	"time"
)

// The names of Load.InFlight, and of Load.Latency in seconds, among the named_metrics of an ORCA report. Servers with
// httpmesh.NewHandler or grpcmesh.Server send them by themselves to clients that ask.
const (
	InFlightMetric = "zerohop.inflight"
	LatencyMetric  = "zerohop.latency"
)

// Load is what an endpoint says of its load, as ORCA reports do (https://github.com/cncf/xds, orca_load_report.proto). 0 and
// what makes no sense mean unknown.
type Load struct {
	// InFlight is the number of requests that the endpoint works on, with the one that it answers. Prequal needs it.
	// On the wire it is InFlightMetric. Less than this client has in flight there counts as that.
	InFlight int
	// Latency is what its recent requests took, at best the median of those that began with about so many in flight.
	// If unknown, Prequal goes by what this client saw. On the wire it is LatencyMetric.
	Latency time.Duration
	// Utilization is how busy the endpoint is, 1 if it has no more to give: application_utilization of ORCA, or else
	// cpu_utilization. UtilizationRoundRobin needs it.
	Utilization float64
	// Rate is how many requests it answers per second. UtilizationRoundRobin needs it.
	Rate float64
	// Errors is how many of them fail per second.
	Errors float64
}

// report is what a node said of its load, but for what Prequal goes by, which is in the node.
type report struct {
	// What a request takes of the node, as a part of what it has in a second, above what failures add to that: float32
	// bits. seen are the ticks of the last report of it, above those of the first, at least 1.
	use, seen atomic.Uint64

	hush   atomic.Int64 // no probe before this time after the base of the node
	missed atomic.Int32 // probes in a row
}

// mostInFlight is what more than that counts as, so that it can be added to.
const mostInFlight = 1 << 30

type reportKey struct{}

// report returns what the node says of its load, and lets it be kept from now on.
func (n *Node) report() *report {
	if !n.owner.reports.Load() {
		n.owner.reports.Store(true)
	}
	return n.Attach(reportKey{}, func() (any, func()) { return new(report), func() {} }).(*report)
}

// WantsLoad reports whether ReportLoad is of any use, because the nodes are picked by what they report. It costs next to
// nothing. Transports ask endpoints for reports and read them only then.
func (n *Node) WantsLoad() bool { return n.owner.reports.Load() }

// ReportLoad notes what the endpoint said in an answer that arrived now, before the Done of its Pick. It does nothing unless
// the nodes are picked by an algorithm that makes use of it. In what comes with a failure InFlight should be left out:
// who fails at once has little in flight.
func (n *Node) ReportLoad(now time.Time, l Load) {
	v, ok := n.find(reportKey{})
	if !ok {
		return
	}
	r, at := v.(*report), n.since(now)
	if l.InFlight > 0 {
		latency := float64(l.Latency)
		if l.Latency <= 0 {
			if latency, ok = n.cost.at(at); !ok {
				latency = float64(unknownCost)
			}
		}
		n.excess.Store(max(int64(min(l.InFlight, mostInFlight))-n.inflight.Load(), 0))
		n.said.Store(pack(max(latency, 1), ticks(at)))
	}
	if use := float32(l.Utilization / l.Rate); l.Rate > 0 && use > 0 && use <= math.MaxFloat32 {
		failures := float32(l.Errors / l.Rate / l.Rate)
		if !(failures >= 0 && failures <= math.MaxFloat32) {
			failures = 0
		}
		r.use.Store(uint64(math.Float32bits(use))<<32 | uint64(math.Float32bits(failures)))
		first := uint64(uint32(r.seen.Load()))
		if first == 0 {
			first = uint64(max(ticks(at), 1))
		}
		r.seen.Store(uint64(ticks(at))<<32 | first)
	}
}

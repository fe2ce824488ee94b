package console

import (
	"slices"
	"strings"
	"sync"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// kept is an explanation that is kept.
type kept struct {
	id   uint64
	mesh string
	e    *zerohop.Explanation
}

// failures are the last calls that were explained: MaxFailures of them.
type failures struct {
	mu        sync.Mutex // guards what follows
	list      []kept     // the oldest first
	byService map[ServiceName]int
	last      uint64
}

// fair is how many a service may have before its own make room for new ones, once the list is full.
const fair = MaxFailures / 8

// maxKept is how many bytes of texts of the caller an explanation may hold on to. It is more than is shown of them, and little
// beside the explanation.
const maxKept = 4 * maxText

func (f *failures) add(mesh string, e *zerohop.Explanation) {
	if len(e.Service)+len(e.Host)+len(e.Lane)+len(e.Method) > maxKept {
		short := *e
		for _, s := range []*string{&short.Service, &short.Host, &short.Lane, &short.Method} {
			*s = strings.Clone((*s)[:min(len(*s), maxText+1)]) // it is seen that there was more
		}
		e = &short
	}
	key := ServiceName{mesh, e.Service}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list) == MaxFailures {
		i := 0
		if f.byService[key] >= fair {
			i = slices.IndexFunc(f.list, func(k kept) bool { return k.mesh == mesh && k.e.Service == e.Service })
		}
		old := ServiceName{f.list[i].mesh, f.list[i].e.Service}
		if f.byService[old]--; f.byService[old] == 0 {
			delete(f.byService, old)
		}
		f.list = slices.Delete(f.list, i, i+1)
	}
	f.last++
	if f.byService == nil {
		f.byService = map[ServiceName]int{}
	}
	f.byService[key]++
	f.list = append(f.list, kept{f.last, mesh, e})
}

// after returns up to limit failures with a greater number than id, the latest first, that keep fits.
func (f *failures) after(id uint64, limit int, keep func(*kept) bool) []kept {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []kept
	for i := len(f.list) - 1; i >= 0 && len(list) < limit && f.list[i].id > id; i-- {
		if keep == nil || keep(&f.list[i]) {
			list = append(list, f.list[i])
		}
	}
	return list
}

func (f *failures) latest() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// failedCall reports whether the explanation is that of a failure.
func failedCall(e *zerohop.Explanation) bool {
	return e.Reason != "" || e.Outcome == resilience.Failure || e.Outcome == resilience.Overload
}

// view returns the explanation as it is shown.
func (k *kept) view() Failure {
	e := k.e
	f := Failure{
		ID: k.id, Time: e.Start.Add(e.Duration).UTC(), ServiceName: ServiceName{k.mesh, name(e.Service)},
		Host: text(e.Host), Route: name(e.Route), Lane: name(e.Lane), Protocol: name(e.Protocol), Method: text(e.Method), Failed: failedCall(e),
		Flag: string(e.Flag), Reason: name(string(e.Reason)), Status: e.Status, Error: text(e.Error), Duration: millis(e.Duration),
		Budget: round(e.Budget), Left: millis(e.Left), Tries: []TryView{},
	}
	if f.Failed {
		f.Detail = e.Detail.String()
	}
	for i := range e.Tries[:min(max(e.N, 0), resilience.MaxAttempts)] {
		f.Tries = append(f.Tries, tryView(&e.Tries[i]))
	}
	for _, r := range e.Refusals[:min(max(e.NR, 0), zerohop.MaxExplainedRefusals)] {
		f.Refusals = append(f.Refusals, RefusalView{Stage: name(string(r.Stage)), Attempt: int(r.Attempt), Enforced: r.Enforced, After: millis(r.After)})
	}
	f.Text = lines(discreet(e.String()), 8*maxText)
	return f
}

func tryView(t *zerohop.Try) TryView {
	c := &t.Choice
	v := TryView{
		Addr: name(t.Addr), Zone: name(t.Zone), Cause: t.Cause.String(), Start: millis(t.Start), Latency: millis(t.Latency), Outcome: t.Outcome.String(),
		Status: t.Status, Flag: string(t.Flag), Error: text(t.Error), Running: t.Running, Pick: hows[min(int(c.How), len(hows)-1)], Nodes: int(c.Nodes),
	}
	for why, n := range c.Removed {
		if n > 0 && why > 0 {
			v.Removed = append(v.Removed, RemovedView{removals[min(why, len(removals)-1)], int(n)})
		}
	}
	for i := range c.Compared[:min(c.N, loadbalance.MaxCompared)] {
		n := &c.Compared[i]
		cv := CandidateView{Addr: name(n.Addr), Zone: name(n.Zone), Score: round(n.Score), Cost: millis(n.Cost), InFlight: int(n.InFlight), Picked: n.Picked}
		if n.Removed != loadbalance.NotRemoved {
			cv.Removed = removals[min(int(n.Removed), len(removals)-1)]
		}
		v.Compared = append(v.Compared, cv)
	}
	return v
}

// removals are the reasons of loadbalance.Removal in words, hows those of loadbalance.How.
var (
	removals = [...]string{
		loadbalance.NotRemoved: "could be picked", loadbalance.LeftOut: "left to other clients", loadbalance.NotSelected: "other metadata or lane", loadbalance.NotConnected: "not connected",
		loadbalance.OtherLevel: "other priority or zone", loadbalance.OutEjected: "ejected", loadbalance.OutFailing: "fails its health checks", loadbalance.OutByHand: "taken out by an operator",
		loadbalance.BreakerRejects: "breaker open", loadbalance.AtLimit: "at its limit", loadbalance.Tried: "tried before", loadbalance.UnderPenalty: "failed a moment ago",
		loadbalance.Removals: "unknown",
	}
	hows = [...]string{
		loadbalance.HowNone: "none could be picked", loadbalance.HowCompared: "best of those compared", loadbalance.HowDrawn: "drawn", loadbalance.HowHashed: "follows from the key",
		loadbalance.HowBound: "bound to it", loadbalance.HowProbe: "probe of an ejected endpoint", loadbalance.HowElsewhere: "found elsewhere", loadbalance.HowLastResort: "last resort",
		"unknown",
	}
)

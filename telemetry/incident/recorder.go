package incident

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// Recorder keeps what happened last. It is made by New, may serve several meshes, and is safe for concurrent use.
type Recorder struct {
	cfg      Config
	start    time.Time
	instance string
	mesh     atomic.Pointer[zerohop.Mesh] // one that is open
	zone     atomic.Pointer[string]
	seq      atomic.Uint64
	saving   sync.Mutex  // held while a file is written or files are removed
	serving  atomic.Bool // ServeHTTP is: who downloads may be slow, and nothing else waits for that

	// What happens to the mesh, what happens to calls, and their sums are kept apart, as they come at different rates.
	states, traffic, seconds *ring
	failed, rest             gate

	shards, maxSeries int
	series            atomic.Pointer[map[seriesKey]*series]
	recent            [recentSeries]atomic.Pointer[series]
	other             *series
	mu                sync.Mutex // guards writes of series

	watches []*watch
	stats   stats
	ask     chan struct{} // closed by Close
	close   sync.Once
	done    sync.WaitGroup
}

// Of the entries of a second so many are kept, so that minutes of a flood fit in.
const (
	keepFailed    = 3 // of a series; an explanation takes half a kilobyte
	keepAllFailed = 10
	keepOthers    = 2 // of a series and a class
	keepAllOthers = 60
)

// A gate lets so many through in a second.
type gate struct {
	second atomic.Int64
	passed atomic.Uint32
}

func (g *gate) pass(second int64, most uint32) bool {
	if s := g.second.Load(); s < second && g.second.CompareAndSwap(s, second) {
		g.passed.Store(0)
	}
	return g.passed.Load() < most && g.passed.Add(1) <= most
}

// New returns a Recorder. It runs a goroutine if there are SLOs; Close ends it. The error names all that is wrong with the Config. Files
// are not touched before there is a dump.
func New(cfg Config) (*Recorder, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.SLOs = slices.Clone(cfg.SLOs)
	if cfg.Memory == 0 {
		cfg.Memory = defaultMemory
	}
	if cfg.MaxFiles == 0 {
		cfg.MaxFiles = 20
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 64 << 20
	}
	if cfg.CoolDown == 0 {
		cfg.CoolDown = 10 * time.Minute
	}
	r := &Recorder{cfg: cfg, start: time.Now(), instance: cfg.instance(), shards: shardsNeeded(), ask: make(chan struct{})}
	zone := name(cfg.Zone)
	r.zone.Store(&zone)
	part := cfg.Memory / 16
	r.states, r.traffic, r.seconds = newRing(3*part), newRing(6*part), newRing(3*part)
	r.maxSeries = min(4*part/seriesSize(r.shards), maxSeries) - 1
	for _, s := range cfg.SLOs {
		s.Burns = slices.Clone(s.burns())
		r.watches = append(r.watches, newWatch(s))
	}
	r.other = newSeries(seriesKey{service: other}, r.shards)
	for _, w := range r.watches {
		if w.Service == "" {
			r.other.watch, r.other.slow = append(r.other.watch, w), max(r.other.slow, w.Latency)
		}
	}
	r.series.Store(&map[seriesKey]*series{})
	if len(r.watches) > 0 {
		r.done.Go(r.run)
	}
	return r, nil
}

// Close ends what runs in the background, and waits for it: for a dump that is being written, and for Config.OnBreach. What was recorded
// can still be dumped. It returns nil.
func (r *Recorder) Close() error {
	r.close.Do(func() { close(r.ask) })
	r.done.Wait()
	return nil
}

// Hooks returns the hooks that record. zerohop.JoinHooks joins them to others.
func (r *Recorder) Hooks() zerohop.Hooks {
	return zerohop.Hooks{
		// These two are functions of their own rather than methods, which would copy what they get once more.
		CallDone: func(_ context.Context, c zerohop.CallInfo, res zerohop.CallResult) {
			at := r.at(c.Start) + res.Duration
			s := r.find(c.Service, c.Route)
			t := s.done(r, secondOf(at), &res)
			switch {
			case res.Outcome != resilience.Success || res.Err != nil:
				r.callFailed(s, t, at, &res)
			case s.slow > 0 && res.Duration > s.slow:
				t.rare.slow.Add(1)
			}
		},
		AttemptDone: func(_ context.Context, c zerohop.CallInfo, a zerohop.AttemptInfo, res zerohop.AttemptResult) {
			if a.Number > 0 || res.Outcome == resilience.Failure || res.Outcome == resilience.Overload {
				r.attemptDone(&c, &a, &res)
			}
		},
		Refused: r.refused, FellBack: r.fellBack, Discovery: r.discovery, Health: r.health, State: r.state, Explained: r.explained,
		Opened: r.opened, Closed: r.closed, Update: r.updated,
	}
}

// Note records words of the program's own, such as that it takes another configuration. They are cut to 160 bytes.
func (r *Recorder) Note(words string) {
	r.keep(r.states, &Entry{At: r.now(), Kind: KindNote, Text: text(words)})
}

// now is the time since the recorder began.
func (r *Recorder) now() time.Duration { return time.Since(r.start) }

// at is the same of a time that is known, such as that of a call.
func (r *Recorder) at(t time.Time) time.Duration { return t.Sub(r.start) }

// secondOf numbers seconds from 1.
func secondOf(at time.Duration) int64 { return max(int64(at/time.Second), 0) + 1 }

func (r *Recorder) keep(to *ring, e *Entry) {
	e.Seq = r.seq.Add(1)
	to.add(e)
}

func (r *Recorder) text(err error) string {
	if err == nil || r.cfg.OmitTexts {
		return ""
	}
	return text(err.Error())
}

func (r *Recorder) callFailed(s *series, t *slot, at time.Duration, res *zerohop.CallResult) {
	switch {
	case gaveUp(res):
		t.rare.canceled.Add(1)
		return
	case !bad(res):
		return
	}
	t.rare.bad.Add(1)
	for { // Explained has told of it, and counted its flag
		n := s.explained.Load()
		if n <= 0 {
			break
		}
		if s.explained.CompareAndSwap(n, n-1) {
			return
		}
	}
	t.rare.flags[indexOf(flags[:], flagOf(res), 0)].Add(1)
	if t.keep(keptFailed, keepFailed) && r.failed.pass(secondOf(at), keepAllFailed) {
		e := &Entry{At: at, Kind: KindFailed, Service: s.service, Route: s.route, Status: max(res.Status, 0), Took: res.Duration, Text: r.text(res.Err)}
		e.Cause = res.Detail.String()
		r.keep(r.traffic, e)
	}
}

func (r *Recorder) explained(_ context.Context, x *zerohop.Explanation) {
	if !bad(&x.CallResult) {
		return
	}
	at := r.at(x.CallInfo.Start) + x.CallResult.Duration
	s := r.find(x.Service, x.Route)
	t := s.slot(r, secondOf(at))
	s.explained.Add(1)
	t.rare.flags[indexOf(flags[:], x.Flag, 0)].Add(1)
	if t.keep(keptFailed, keepFailed) && r.failed.pass(secondOf(at), keepAllFailed) {
		e := &Entry{At: at, Kind: KindFailed, Service: s.service, Route: s.route, Status: max(x.Status, 0), Took: x.CallResult.Duration}
		e.Cause = string(x.Reason)
		if !r.cfg.OmitTexts {
			e.Text = text(x.Error)
		}
		e.Call = r.call(x)
		r.keep(r.traffic, e)
	}
}

// call keeps of an explanation what tells why.
func (r *Recorder) call(x *zerohop.Explanation) *Call {
	c := &Call{
		Protocol: name(x.Protocol), Method: name(x.Method), Flag: string(x.Flag), Reason: string(x.Reason), Detail: x.Detail.String(),
		Took: x.CallResult.Duration, Left: x.Left, Budget: x.Budget, Spec: int64(x.Generation), Rule: int(x.Rule),
	}
	for i := range x.Tries[:min(max(int(x.N), 0), len(x.Tries))] {
		c.Tries = append(c.Tries, r.try(&x.Tries[i]))
	}
	for _, f := range x.Refusals[:min(max(int(x.NR), 0), len(x.Refusals))] {
		words := string(f.Stage)
		if !f.Enforced {
			words += " (observed)"
		}
		c.Refusals = append(c.Refusals, name(words))
	}
	return c
}

func (r *Recorder) try(x *zerohop.Try) Try {
	t := Try{
		Addr: name(x.Addr), Zone: name(x.Zone), Cause: x.Cause.String(), Start: x.Start, Took: x.Latency, Outcome: x.Outcome.String(),
		Status: max(x.Status, 0), Flag: string(x.Flag), Running: x.Running, Nodes: int(x.Choice.Nodes), Panicking: x.Choice.Panicking,
	}
	if !r.cfg.OmitTexts {
		t.Text = text(x.Error)
	}
	for why, n := range x.Choice.Removed {
		if n > 0 && loadbalance.Removal(why) != loadbalance.NotRemoved {
			if t.Removed == nil {
				t.Removed = map[string]int{}
			}
			t.Removed[removals[why]] = int(n)
		}
	}
	for _, c := range x.Choice.Compared[:min(int(x.Choice.N), len(x.Choice.Compared))] {
		t.Compared = append(t.Compared, name(c.Addr)+"="+strconv.FormatFloat(c.Score, 'g', 3, 64))
	}
	return t
}

// removals are the words for loadbalance.Removal.
var removals = [loadbalance.Removals]string{
	loadbalance.LeftOut: "left out", loadbalance.NotSelected: "not selected", loadbalance.NotConnected: "not connected",
	loadbalance.NotHealthy: "not healthy", loadbalance.OtherLevel: "other zone or priority", loadbalance.OutEjected: "ejected", loadbalance.OutFailing: "failing checks",
	loadbalance.OutByHand: "taken out", loadbalance.BreakerRejects: "breaker open", loadbalance.AtLimit: "at limit",
	loadbalance.Tried: "tried", loadbalance.UnderPenalty: "under penalty",
	loadbalance.Busiest: "busiest", loadbalance.WarmingUp: "warming up",
}

// attemptDone is for attempts that failed, or that were not the first.
func (r *Recorder) attemptDone(c *zerohop.CallInfo, a *zerohop.AttemptInfo, res *zerohop.AttemptResult) {
	failed := res.Outcome == resilience.Failure || res.Outcome == resilience.Overload
	at := r.now() // a late answer may be long after the start of the call
	second := secondOf(at)
	s := r.find(c.Service, c.Route)
	t := s.slot(r, second)
	kind, class, most := KindAttempt, 0, uint32(keepOthers)
	var why Failure
	switch {
	case a.Backup:
		t.rare.backups.Add(1)
		kind, class = KindBackup, keptRetry
	case a.Number > 0:
		t.rare.retries.Add(1)
		kind, class = KindRetry, keptRetry
	}
	if failed {
		why = failureOf(res)
		n := indexOf(failures[:], why, len(failures)-1)
		t.rare.failures[n].Add(1)
		if a.Node != nil {
			t.where.add(name(a.Node.Addr()))
		}
		kind, class = KindAttempt, keptAttempts+n
	}
	if !t.keep(class, most) || !r.rest.pass(second, keepAllOthers) {
		return
	}
	e := &Entry{At: at, Kind: kind, Service: s.service, Route: s.route, Number: int64(a.Number), Status: max(res.Status, 0), Took: res.Latency}
	e.Cause = string(why)
	if failed {
		e.Text = r.text(res.Err)
	}
	if a.Node != nil {
		e.Addr, e.Zone = name(a.Node.Addr()), name(a.Node.Endpoint().Zone)
	}
	r.keep(r.traffic, e)
}

func (r *Recorder) refused(_ context.Context, c zerohop.CallInfo, f zerohop.Refusal) {
	at := r.now()
	s := r.find(c.Service, c.Route)
	t := s.slot(r, secondOf(at))
	t.rare.refused.Add(1)
	if t.keep(keptRefused, keepOthers) && r.rest.pass(secondOf(at), keepAllOthers) {
		e := &Entry{At: at, Kind: KindRefused, Service: s.service, Route: s.route, Cause: string(f.Stage), Number: int64(f.Attempt), For: f.After}
		if !f.Enforced {
			e.Text = "only observed"
		}
		r.keep(r.traffic, e)
	}
}

func (r *Recorder) fellBack(_ context.Context, c zerohop.CallInfo, by string, err error) {
	at := r.now()
	s := r.find(c.Service, c.Route)
	t := s.slot(r, secondOf(at))
	t.rare.fellBack.Add(1)
	if t.keep(keptFellBack, keepOthers) && r.rest.pass(secondOf(at), keepAllOthers) {
		r.keep(r.traffic, &Entry{At: at, Kind: KindFellBack, Service: s.service, Route: s.route, By: name(by), Text: r.text(err)})
	}
}

func (r *Recorder) discovery(service string, ev discovery.Event) {
	e := &Entry{At: r.now(), Kind: KindDiscovery, Service: name(service), Cause: ev.Kind.String(), Text: r.text(ev.Err), Endpoints: ev.Endpoints, Out: ev.Held, For: ev.Wait}
	if !ev.Lost.IsZero() {
		e.Value = e.At.Seconds() - r.at(ev.Lost).Seconds()
	}
	r.keep(r.states, e)
}

func (r *Recorder) health(service string, ev zerohop.HealthEvent) {
	e := &Entry{At: r.now(), Kind: KindHealthFailing, Service: name(service), Addr: name(ev.Endpoint.Addr), Zone: name(ev.Endpoint.Zone), Text: r.text(ev.Err)}
	if ev.Passing {
		e.Kind = KindHealthPassing
	} else {
		e.Cause = string(failureOfError(ev.Err, 0))
	}
	r.keep(r.states, e)
}

func (r *Recorder) state(service string, ev zerohop.StateEvent) {
	e := &Entry{
		At: r.at(ev.Time), Kind: Kind(ev.Kind), Service: name(service), Addr: name(ev.Addr), Zone: name(ev.Zone), Cause: name(ev.Cause), By: name(ev.By),
		Value: ev.Value, Bound: ev.Bound, Out: ev.Out, Endpoints: ev.Endpoints,
	}
	if ev.Time.IsZero() {
		e.At = r.now()
	}
	if !ev.Until.IsZero() {
		e.For = ev.Until.Sub(ev.Time)
	}
	switch ev.Kind {
	case zerohop.StateBudgetEmpty, zerohop.StateBudgetRestored, zerohop.StateSpared: // which may come with each failed call
		if r.rest.pass(secondOf(e.At), keepAllOthers) {
			r.keep(r.traffic, e)
		}
	default:
		r.keep(r.states, e)
	}
}

func (r *Recorder) updated(ev zerohop.UpdateEvent) {
	e := &Entry{At: r.now(), Kind: KindUpdated, Number: int64(ev.Generation), Text: r.text(ev.Err)}
	if ev.Err != nil {
		e.Kind = KindUpdateRefused
	}
	for i, f := range ev.Change.Fields {
		if i == maxFields {
			e.Out = len(ev.Change.Fields) - maxFields
			break
		}
		e.Fields = append(e.Fields, text(f.String()))
	}
	r.keep(r.states, e)
}

func (r *Recorder) opened(m *zerohop.Mesh) {
	r.mesh.Store(m)
	r.keep(r.states, &Entry{At: r.now(), Kind: KindOpened})
}

func (r *Recorder) closed(m *zerohop.Mesh) {
	r.learnZone(m)
	r.mesh.CompareAndSwap(m, nil)
	r.keep(r.states, &Entry{At: r.now(), Kind: KindClosed})
}

// learnZone asks a mesh for the zone of the process, which it may have learned late.
func (r *Recorder) learnZone(m *zerohop.Mesh) {
	if m == nil || r.cfg.Zone != "" {
		return
	}
	if zone, _ := m.Zone(); zone != "" {
		zone = name(zone)
		r.zone.Store(&zone)
	}
}

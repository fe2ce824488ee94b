package incident

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// CauseKind is what a burst of failures comes from.
type CauseKind string

const (
	// CauseEndpoint: one or some of the endpoints fail.
	CauseEndpoint CauseKind = "endpoint"
	// CauseService: all endpoints of a service fail, or at least half.
	CauseService CauseKind = "service"
	// CauseRegistry: endpoints are gone because the registry said so.
	CauseRegistry CauseKind = "registry"
	// CauseSpec: an update of the spec.
	CauseSpec CauseKind = "spec"
	// CauseOperator: an action of an operator.
	CauseOperator CauseKind = "operator"
	// CauseLoad: more calls than limits or servers take.
	CauseLoad CauseKind = "load"
	// CauseUnknown: nothing in the dumps explains it.
	CauseUnknown CauseKind = "unknown"
)

// Finding is a burst of failures and what it most likely comes from.
type Finding struct {
	Service string `json:"service"`
	// From and To are the first and the last second of the burst, and Bad of the Calls in it failed.
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Calls uint64    `json:"calls"`
	Bad   uint64    `json:"bad"`
	// Attempts is how many attempts failed. Survived says that it is them the burst is of: retries and backups saved the calls.
	Attempts uint64 `json:"attempts"`
	Survived bool   `json:"survived"`
	// Cause is the kind of the first cause, Addr the endpoint if it is one, and By who did it if somebody did. First is its first sign.
	Cause CauseKind `json:"cause"`
	Addr  string    `json:"addr,omitempty"`
	By    string    `json:"by,omitempty"`
	First time.Time `json:"first"`
	// Words say what the cause is, and Evidence why that is so, each a line. They have names and texts of others: escape them.
	Words    string   `json:"words"`
	Evidence []string `json:"evidence"`
}

const (
	maxFindings   = 10
	maxOfService  = 3
	burstGap      = 10 // seconds
	lookBack      = 2 * time.Minute
	slack         = 1500 * time.Millisecond // between things that happen together, in one process or several
	maxSeconds    = 100_000                 // of a service
	minimumOfPain = 3                       // calls or attempts
)

// Scope says which bursts of failures are of interest. The zero value means all.
type Scope struct {
	// Service is whose calls failed. Empty means any.
	Service string
	// From and To bound the bursts, of which a part is enough. The zero time means no bound.
	From, To time.Time
}

func (s *Scope) has(b burst) bool {
	return (s.From.IsZero() || b.to >= s.From.Unix()) && (s.To.IsZero() || b.from <= s.To.Unix())
}

// Analyse names the worst bursts of failures in a scope, at most 10 and 3 of a service, and the most likely first cause of each. A cause has
// to come before the failures and to explain how they fail: an operator, a spec or a registry, or else the endpoints themselves. It is
// a guess by what the dumps have, in or out of the scope: what no process recorded cannot be found.
func Analyse(t *Timeline, scope Scope) []Finding {
	bursts := func(h *history, of func(*Second) (uint64, uint64)) []burst {
		return slices.DeleteFunc(h.bursts(of), func(b burst) bool { return !scope.has(b) })
	}
	type candidate struct {
		Finding
		of *history
		burst
	}
	var all []candidate
	for _, h := range histories(t) {
		if scope.Service != "" && h.service != scope.Service {
			continue
		}
		list := bursts(h, func(s *Second) (uint64, uint64) { return s.Bad, s.Calls })
		survived := len(list) == 0
		if survived { // each kind by itself, as one of them may be usual
			for _, f := range failures {
				list = append(list, bursts(h, func(s *Second) (uint64, uint64) { return s.Attempts[f], s.Calls + s.Failed() })...)
			}
			slices.SortStableFunc(list, func(a, b burst) int { return cmp.Compare(b.excess, a.excess) })
			list = slices.CompactFunc(list, func(a, b burst) bool { return a.from <= b.to+burstGap && b.from <= a.to+burstGap })
		}
		for _, b := range list[:min(len(list), maxOfService)] {
			all = append(all, candidate{h.extent(b, survived), h, b})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.Bad, a.Bad), cmp.Compare(b.Attempts, a.Attempts), a.From.Compare(b.From), cmp.Compare(a.Service, b.Service))
	})
	var list []Finding
	for _, c := range all[:min(len(all), maxFindings)] {
		c.trouble = c.of.trouble(c.from)
		c.of.blame(t, c.burst, &c.Finding)
		list = append(list, c.Finding)
	}
	return list
}

// A history is what happened to the calls to a service.
type history struct {
	service string
	seconds map[int64]*Second
	events  []*Event
	order   []int64 // of seconds
}

func histories(t *Timeline) (list []*history) {
	by := map[string]*history{}
	for i := range t.Events {
		e := &t.Events[i]
		if e.Service == "" {
			continue
		}
		h := by[e.Service]
		if h == nil {
			h = &history{service: e.Service, seconds: map[int64]*Second{}}
			by[e.Service], list = h, append(list, h)
		}
		if e.Second == nil {
			h.events = append(h.events, e)
			continue
		}
		at := e.Time.Unix()
		if h.seconds[at] == nil {
			if len(h.seconds) == maxSeconds {
				continue
			}
			h.seconds[at] = &Second{}
			h.order = append(h.order, at)
		}
		h.seconds[at].Add(e.Second)
	}
	for _, h := range list {
		slices.Sort(h.order)
	}
	return list
}

// A burst is seconds in which more than usual failed.
type burst struct {
	from, to int64
	bad      uint64
	excess   float64 // how many more failed than usual
	trouble  int64   // the second in which attempts began to fail or calls to take long, at most from
}

// usual returns the share of calls that failed in the better part of the time, by bins of some seconds, as single ones differ by chance.
func (h *history) usual(of func(*Second) (uint64, uint64)) float64 {
	const bin = 5
	type pair struct{ bad, all uint64 }
	var list []pair
	last := int64(math.MinInt64)
	for _, at := range h.order {
		bad, all := of(h.seconds[at])
		if at/bin != last || len(list) == 0 {
			last, list = at/bin, append(list, pair{})
		}
		p := &list[len(list)-1]
		p.bad, p.all = p.bad+bad, p.all+all
	}
	slices.SortFunc(list, func(a, b pair) int { return cmp.Compare(float64(a.bad)*float64(b.all), float64(b.bad)*float64(a.all)) })
	var sum pair
	for _, p := range list[:max(len(list)/2, min(1, len(list)))] {
		sum.bad, sum.all = sum.bad+p.bad, sum.all+p.all
	}
	return float64(sum.bad) / float64(max(sum.all, 1))
}

// hot reports whether more failed than usual, and than chance explains.
func hot(bad, all uint64, usual float64) bool {
	if bad < 2 || all == 0 {
		return false
	}
	expected := (1.5*usual + 0.005) * float64(all)
	return float64(bad) > expected+3.5*math.Sqrt(expected)
}

// hotAt reports that of a second and the one before it, which failures may straddle.
func (h *history) hotAt(at int64, of func(*Second) (uint64, uint64), usual float64) bool {
	s := h.seconds[at]
	if s == nil {
		return false
	}
	bad, all := of(s)
	if hot(bad, all, usual) {
		return true
	}
	if s := h.seconds[at-1]; s != nil && bad > 0 {
		b, a := of(s)
		return hot(bad+b, all+a, usual)
	}
	return false
}

// bursts returns those of what failed, the worst first.
func (h *history) bursts(of func(*Second) (uint64, uint64)) (list []burst) {
	usual := h.usual(of)
	for _, at := range h.order {
		if !h.hotAt(at, of, usual) {
			continue
		}
		bad, _ := of(h.seconds[at])
		if n := len(list); n > 0 && at-list[n-1].to <= burstGap {
			list[n-1].to, list[n-1].bad = at, list[n-1].bad+bad
		} else {
			b := burst{from: at, to: at, bad: bad}
			if s := h.seconds[at-1]; s != nil {
				if before, _ := of(s); before > 0 {
					b.from, b.bad = at-1, bad+before
				}
			}
			list = append(list, b)
		}
	}
	for i := range list {
		b := &list[i]
		b.excess = float64(b.bad)
		for at := b.from; at <= b.to; at++ {
			if s := h.seconds[at]; s != nil {
				_, all := of(s)
				b.excess -= usual * float64(all)
			}
		}
	}
	list = slices.DeleteFunc(list, func(b burst) bool { return b.bad < minimumOfPain })
	slices.SortStableFunc(list, func(a, b burst) int { return cmp.Compare(b.excess, a.excess) })
	return list
}

// trouble goes back from the beginning of a burst to where attempts began to fail, which retries then hid.
func (h *history) trouble(from int64) int64 {
	attempts := func(s *Second) (uint64, uint64) { return s.Failed(), s.Calls + s.Failed() }
	usual := h.usual(attempts)
	begin := from
	for at := from - 1; at >= from-int64(lookBack/time.Second) && begin-at <= 3; at-- {
		if h.hotAt(at, attempts, usual) {
			begin = at
		}
	}
	return begin
}

// A suspect is what a burst may come from.
type suspect struct {
	kind     CauseKind
	score    float64
	event    *Event
	addr     string
	words    string
	evidence []string
}

// profile is how the calls of a burst failed.
type profile struct {
	sum     Second
	before  Second // of as long before
	flags   map[string]float64
	reasons map[string]int
	tried   map[string]int // attempts that failed by endpoint, more than usual
	nodes   int            // endpoints that there were
	first   *Event         // the first attempt that failed, nil if none was kept
	start   time.Time

	seconds, secondsBefore int
}

// Flags by what can explain them.
var (
	noEndpoint = []string{"UH", "NC"}
	atLimits   = []string{"UO", "RL", "OM"}
	byTime     = []string{"UT", "DT"}
)

func (p *profile) share(of ...string) (sum float64) {
	for _, f := range of {
		sum += p.flags[f]
	}
	return sum
}

// extent says how much failed in a burst.
func (h *history) extent(b burst, survived bool) Finding {
	f := Finding{Service: h.service, From: time.Unix(b.from, 0).UTC(), To: time.Unix(b.to, 0).UTC(), Survived: survived}
	for at := b.from; at <= b.to; at++ {
		if s := h.seconds[at]; s != nil {
			f.Calls, f.Bad, f.Attempts = f.Calls+s.Calls, f.Bad+s.Bad, f.Attempts+s.Failed()
		}
	}
	return f
}

// blame finds the first cause of a burst.
func (h *history) blame(t *Timeline, b burst, f *Finding) {
	p := h.profile(b)
	suspects := append(h.acts(t, p, b), h.symptoms(p)...)
	best := suspect{kind: CauseUnknown, words: "nothing that was recorded explains it"}
	for _, s := range suspects {
		if s.score > best.score {
			best = s
		}
	}
	f.Cause, f.Addr, f.Words, f.First = best.kind, best.addr, best.words, p.start.UTC()
	if best.event != nil {
		f.First, f.By = best.event.Time.UTC(), best.event.By
	}
	f.Evidence = append(best.evidence, p.evidence()...)
}

// profile looks at the beginning of a burst: later failures are of other kinds, such as those of breakers and budgets.
func (h *history) profile(b burst) *profile {
	const beginning = 10
	p := &profile{flags: map[string]float64{}, reasons: map[string]int{}, tried: map[string]int{}, start: time.Unix(b.trouble, 0)}
	for at := b.trouble; at <= min(b.to, b.from+beginning); at++ {
		if s := h.seconds[at]; s != nil {
			p.sum.Add(s)
			p.seconds++
		}
	}
	for at := b.trouble - 2*beginning; at < b.trouble; at++ {
		if s := h.seconds[at]; s != nil {
			p.before.Add(s)
			p.secondsBefore++
		}
	}
	var all uint64
	for _, n := range p.sum.Flags {
		all += n
	}
	for flag, n := range p.sum.Flags {
		p.flags[flag] = float64(n) / float64(all)
	}
	// What fails all the time is no news.
	usual := 1.5 * float64(p.seconds) / float64(max(p.secondsBefore, 1))
	for addr, n := range p.sum.Addrs {
		if more := float64(n) - usual*float64(p.before.Addrs[addr]); more >= 1 {
			p.tried[addr] += int(more)
		}
	}
	end := time.Unix(min(b.to, b.from+beginning)+1, 0)
	main := p.mainFailure()
	for _, e := range h.events {
		if e.Kind == KindDiscovery && !e.Time.After(end) && e.Endpoints > 0 {
			p.nodes = e.Endpoints
		}
		if e.Time.Before(p.start.Add(-slack)) || e.Time.After(end) {
			continue
		}
		switch e.Kind {
		case KindAttempt:
			if Failure(e.Cause) != main { // noise
				continue
			}
			if p.first == nil {
				p.first = e
			}
		case KindFailed:
			p.reasons[e.Cause]++
			if e.Call == nil {
				continue
			}
			for _, try := range e.Call.Tries {
				if try.Running && try.Addr != "" {
					p.tried[try.Addr]++
				}
			}
		}
	}
	return p
}

// mainFailure is how most attempts failed.
func (p *profile) mainFailure() (main Failure) {
	for _, f := range failures {
		if n := p.sum.Attempts[f]; n > p.sum.Attempts[main] {
			main = f
		}
	}
	return main
}

// evidence says how calls failed.
func (p *profile) evidence() (lines []string) {
	if len(p.sum.Flags) > 0 {
		lines = append(lines, "failed calls by flag: "+shares(p.sum.Flags))
	}
	if len(p.sum.Attempts) > 0 {
		lines = append(lines, "failed attempts: "+shares(p.sum.Attempts))
	}
	if len(p.tried) > 0 {
		lines = append(lines, fmt.Sprintf("they failed at %s: %s", counted(len(p.culprits()), p.nodes, "endpoint"), shares(p.sum.Addrs)))
	}
	return lines
}

func counted(n, of int, what string) string {
	switch {
	case of > 0 && of >= n:
		return fmt.Sprintf("%d of %d %ss", n, of, what)
	case n == 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// shares lists numbers, the largest first.
func shares[K ~string](m map[K]uint64) string {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b K) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
	words := make([]string, 0, len(keys))
	for _, k := range keys[:min(len(keys), 5)] {
		words = append(words, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(words, ", ")
}

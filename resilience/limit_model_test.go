package resilience

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// guest is a ticket and what a limit that is written without regard for speed makes of it.
type guest struct {
	Ticket
	level   int
	arrived time.Duration
	seated  time.Duration
	told    []Admission // by the limit under test
	want    []Admission
}

// house is that limit.
type house struct {
	cfg     LimitConfig
	inside  []*guest
	waiting []*guest // in the order of their arrival
	since   [4]time.Duration
	held    time.Duration
}

func (h *house) room(level int) int {
	return int(math.Ceil([]float64{0.75, 0.9, 1, 1}[level] * float64(h.cfg.Max)))
}

func (h *house) line(level int) (line []*guest) {
	for _, g := range h.waiting {
		if g.level == level {
			line = append(line, g)
		}
	}
	return line
}

func (h *house) lifo(level int, now time.Duration) bool {
	return len(h.line(level)) > 0 && h.cfg.Patience >= 0 && now-h.since[level] > h.cfg.Patience
}

func (h *house) drop(g *guest) {
	h.waiting = slices.DeleteFunc(h.waiting, func(o *guest) bool { return o == g })
}

// expiry returns when a guest stops to wait, and why.
func (h *house) expiry(g *guest) (time.Duration, Admission) {
	at, why := time.Duration(math.MaxInt64), Expired
	if h.cfg.MaxWait > 0 {
		at = g.arrived + h.cfg.MaxWait
	}
	if g.Deadline != 0 && g.Deadline-g.Expected < at {
		at, why = g.Deadline-g.Expected+1, Late
	}
	return at, why
}

func (h *house) enter(now time.Duration, g *guest) Admission {
	g.level, g.arrived = int(g.Criticality.Or(Critical)-Sheddable), now
	short := func(wait time.Duration) bool {
		return g.Deadline != 0 && now+wait+max(g.Expected, 1) > g.Deadline
	}
	switch {
	case short(0):
		return Late
	case len(h.inside) < h.room(g.level):
		g.seated = now
		h.inside = append(h.inside, g)
		return Admitted
	case h.cfg.Queue == 0:
		return Full
	}
	ahead := 0
	for _, o := range h.waiting {
		if o.level > g.level || o.level == g.level && !h.lifo(g.level, now) {
			ahead++
		}
	}
	if short(time.Duration(float64(h.held) * float64(ahead+1) / float64(h.cfg.Max))) {
		return Late
	}
	if len(h.waiting) == h.cfg.Queue {
		least := slices.MinFunc(h.waiting, func(a, b *guest) int { return a.level - b.level }).level
		line, lifo := h.line(least), h.lifo(least, now)
		switch {
		case least > g.level, least == g.level && !lifo:
			return Full
		case lifo:
			line[0].want = append(line[0].want, Evicted)
			h.drop(line[0])
		default:
			line[len(line)-1].want = append(line[len(line)-1].want, Evicted)
			h.drop(line[len(line)-1])
		}
	}
	if len(h.line(g.level)) == 0 {
		h.since[g.level] = now
	}
	h.waiting = append(h.waiting, g)
	return Queued
}

func (h *house) leave(now time.Duration, g *guest) {
	h.inside = slices.DeleteFunc(h.inside, func(o *guest) bool { return o == g })
	if took := now - g.seated; h.held == 0 {
		h.held = took
	} else {
		h.held += (took - h.held) / 16
	}
	h.serve(now)
}

func (h *house) serve(now time.Duration) {
	for _, g := range slices.Clone(h.waiting) {
		if at, why := h.expiry(g); at <= now {
			g.want = append(g.want, why)
			h.drop(g)
		}
	}
	for level := 3; level >= 0; level-- {
		for line := h.line(level); len(line) > 0; line = h.line(level) {
			if len(h.inside) >= h.room(level) {
				return
			}
			g := line[0]
			if h.lifo(level, now) {
				g = line[len(line)-1]
			}
			h.drop(g)
			g.want, g.seated = append(g.want, Admitted), now
			h.inside = append(h.inside, g)
		}
	}
}

// Whatever happens in whatever order, a Limit does what one does that keeps its guests in plain lists.
func TestLimitDoesWhatItsModelDoes(t *testing.T) {
	seeds := 500
	if testing.Short() {
		seeds = 100
	}
	var seen [Expired + 1]int
	for seed := range seeds {
		if !compare(t, uint64(seed), &seen) {
			t.Fatalf("seed %d", seed)
		}
	}
	for a, n := range seen {
		if n == 0 {
			t.Errorf("no ticket was %v: the test does not reach that", Admission(a))
		}
	}
}

func compare(t *testing.T, seed uint64, seen *[Expired + 1]int) bool {
	r := rand.New(rand.NewPCG(seed, 1))
	ms := func(n int) time.Duration { return time.Duration(r.IntN(n)) * time.Millisecond }
	cfg := LimitConfig{Max: 1 + r.IntN(8), Queue: r.IntN(6), MaxWait: 1 + ms(60), Patience: 1 + ms(30)}
	switch r.IntN(4) {
	case 0:
		cfg.MaxWait = -1
	case 1:
		cfg.Patience = -1
	}
	l, h := NewLimit(cfg, nil), &house{cfg: cfg}
	var now time.Duration
	var guests []*guest
	var trace []string
	for range 120 {
		now += ms(12)
		switch n := r.IntN(10); {
		case n < 5:
			g := &guest{Ticket: Ticket{Criticality: Criticality(r.IntN(5)), Expected: ms(10)}}
			if r.IntN(2) == 0 {
				g.Deadline = now + ms(80)
			}
			g.Told = func(_ time.Duration, a Admission) { g.told = append(g.told, a) }
			higher := slices.ContainsFunc(h.waiting, func(o *guest) bool { return o.level > int(g.Criticality.Or(Critical)-Sheddable) })
			got, want := l.Enter(now, &g.Ticket), h.enter(now, g)
			trace = append(trace, fmt.Sprintf("%v enter %v: %v", now, g.Criticality, got))
			if got != want {
				t.Errorf("Enter() = %v, want %v", got, want)
			}
			if got == Admitted && higher {
				t.Errorf("%v was admitted while a higher one waits", g.Criticality)
			}
			guests = append(guests, g)
			seen[got]++
		case n < 8 && len(h.inside) > 0:
			g := h.inside[r.IntN(len(h.inside))]
			trace = append(trace, fmt.Sprintf("%v leave", now))
			l.Leave(now, &g.Ticket, Success, time.Millisecond)
			l.Leave(now, &g.Ticket, Success, time.Millisecond)
			h.leave(now, g)
		case n < 9 && len(guests) > 0:
			g := guests[r.IntN(len(guests))]
			trace = append(trace, fmt.Sprintf("%v cancel", now))
			got, want := l.Cancel(now, &g.Ticket), slices.Contains(h.waiting, g)
			if h.drop(g); got != want {
				t.Errorf("Cancel() = %v, want %v", got, want)
			}
		default:
			if w := l.Wake(); r.IntN(2) == 0 && w > now {
				now = w
			}
			trace = append(trace, fmt.Sprintf("%v tick", now))
			l.Tick(now)
			h.serve(now)
		}
		want := time.Duration(math.MaxInt64)
		for _, g := range h.waiting {
			at, _ := h.expiry(g)
			want = min(want, at)
		}
		if got := l.Wake(); got != want && !(got == 0 && want == math.MaxInt64) {
			t.Errorf("Wake() = %v, want %v", got, want)
		}
		if got, want := l.State(), (LimitState{Limit: cfg.Max, InFlight: len(h.inside), Queued: len(h.waiting)}); got.Limit != want.Limit || got.InFlight != want.InFlight || got.Queued != want.Queued {
			t.Errorf("State() = %+v, want %+v", got, want)
		}
		if len(h.inside) > cfg.Max || len(h.waiting) > cfg.Queue {
			t.Errorf("%d in flight, %d in the queue", len(h.inside), len(h.waiting))
		}
		for i, g := range guests {
			if !slices.Equal(g.told, g.want) {
				t.Errorf("ticket %d was told %v, want %v", i, g.told, g.want)
			}
		}
		if t.Failed() {
			t.Logf("%+v: %q", cfg, trace)
			return false
		}
	}
	for len(h.inside)+len(h.waiting) > 0 { // all permits come back
		now += time.Millisecond
		for _, g := range slices.Clone(h.inside) {
			l.Leave(now, &g.Ticket, Success, 0)
			h.leave(now, g)
		}
	}
	for _, g := range guests {
		for _, a := range g.told {
			seen[a]++
		}
	}
	if got := l.State(); got.InFlight != 0 || got.Queued != 0 {
		t.Errorf("at rest State() = %+v", got)
		return false
	}
	return true
}

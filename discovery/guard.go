package discovery

import (
	"slices"
	"strings"
	"time"
)

const (
	// defaultEmptyGrace is long enough for a registry to finish a restart or an election, the usual reasons for
	// an answer that lacks endpoints; callers of a service that is really gone fail no sooner without it.
	defaultEmptyGrace = 5 * time.Second
	// defaultMaxRemoval lets pass what deployments and the loss of one zone of two or three do. A registry that is
	// wrong forgets most of what it knew.
	defaultMaxRemoval = 0.5
	// fewGuarded is the least number of endpoints of which a share tells anything: of three, two leave in the
	// ordinary course of a deployment.
	fewGuarded = 4
)

// guard decides which answers of a source to believe. Endpoints that an answer adds are in use at once, and so are
// changes of those that stay. If an answer lacks all endpoints, or more than a share of them, those it lacks are held: they
// stay in use until a watch that began grace later says the same. It is a state machine without a clock; sets are
// sorted by address and never changed.
type guard struct {
	grace time.Duration // negative: all is believed
	share float64

	said  []Endpoint // the last answer
	doubt doubt
}

// doubt is what is known of answers that are not believed yet. The zero value means that there are none.
type doubt struct {
	base  []Endpoint // the answer before them, which was believed
	gone  []Endpoint // those of base that they lack
	since time.Time  // when the last of these was first missing
	asked time.Time  // when the watch began that decides; zero before its first answer
}

// answer takes over an answer that came now by a watch that began at started. It reports whether there is something new to
// doubt, for which the source is to be asked again at recheck.
func (g *guard) answer(now, started time.Time, set []Endpoint) bool {
	d := &g.doubt
	if g.doubting() && !g.early(started) {
		d.asked = started
	}
	if !d.asked.IsZero() && now.Sub(d.asked) >= g.grace {
		*d = doubt{}
	}
	before := g.said
	g.said = set
	gone := without(before, set)
	if !d.asked.IsZero() {
		// Some sources begin each watch with what they knew a while ago. Endpoints that return in this way and vanish
		// again are no news, or they would be held for ever.
		gone = without(gone, d.gone)
	}
	if g.grace < 0 || !g.suspicious(len(gone), len(before), len(set)) {
		if g.doubting() {
			d.gone = without(d.gone, gone) // which had returned, and may leave
			if len(d.gone) == 0 || !g.suspicious(len(without(d.base, set)), len(d.base), len(set)) {
				*d = doubt{}
			}
		}
		return false
	}
	if !g.doubting() {
		*d = doubt{base: before}
	}
	news := without(gone, d.gone)
	// What has come since the doubt began is not held, so that a source which names others in each answer fills no memory.
	news = without(news, without(news, d.base))
	if len(news) == 0 {
		return false
	}
	d.gone, d.since = union(d.gone, news), now
	return true
}

// reject notes an answer that was of no use. It begins a doubt anew, because it shows that something is wrong with the
// source, and reports whether there is one.
func (g *guard) reject(now time.Time) bool {
	if g.doubting() {
		g.doubt.since = now
		return true
	}
	return false
}

// suspicious reports whether an answer that leaves so many endpoints lacks too many of those that there were. A single
// one that leaves others behind is not too many.
func (g *guard) suspicious(gone, of, left int) bool {
	return gone > 0 && (left == 0 || gone > 1 && of >= fewGuarded && float64(gone) > g.share*float64(of))
}

// doubting reports whether the source is to be asked again.
func (g *guard) doubting() bool { return len(g.doubt.gone) > 0 && g.doubt.asked.IsZero() }

// recheck is the time from which on a watch that begins decides a doubt.
func (g *guard) recheck() time.Time { return g.doubt.since.Add(g.grace) }

// early reports whether a watch began too early to decide the present doubt.
func (g *guard) early(started time.Time) bool { return started.Before(g.recheck()) }

// held returns the endpoints that are in use although the source does not list them.
func (g *guard) held() []Endpoint {
	if !g.doubting() {
		return nil
	}
	return without(g.doubt.gone, g.said)
}

// set returns the endpoints to use.
func (g *guard) set() []Endpoint { return union(g.said, g.held()) }

// without returns those of a that are not in b, by address.
func without(a, b []Endpoint) (rest []Endpoint) {
	for _, e := range a {
		for len(b) > 0 && b[0].Addr < e.Addr {
			b = b[1:]
		}
		if len(b) == 0 || b[0].Addr != e.Addr {
			rest = append(rest, e)
		}
	}
	return rest
}

// union returns the endpoints of both sets, which have no address in common.
func union(a, b []Endpoint) []Endpoint {
	switch {
	case len(b) == 0:
		return a
	case len(a) == 0:
		return b
	}
	both := slices.Concat(a, b)
	slices.SortFunc(both, func(a, b Endpoint) int { return strings.Compare(a.Addr, b.Addr) })
	return both
}

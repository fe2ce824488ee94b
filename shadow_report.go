package zerohop

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ShadowReport is what a Shadow has found. Calls that are not over are counted where they would go, and not in what would have
// become of them.
type ShadowReport struct {
	// Elapsed is for how long calls were judged.
	Elapsed time.Duration
	// Calls is how many were.
	Calls uint64
	// Moves are the calls that would have gone elsewhere, the most first. One with empty places is for all pairs of places
	// beyond the first 1,000.
	Moves []ShadowMove
	// Services are those that calls would have gone to, by name.
	Services []ShadowService
}

// ShadowMove are calls that would have gone elsewhere.
type ShadowMove struct {
	From, To ShadowPlace
	Calls    uint64
}

// ShadowPlace is where calls go.
type ShadowPlace struct {
	// Route is the name of the route, empty if there is none or it has none.
	Route string
	// Service is the service, and Select the metadata of its endpoints that the route asks for, as in `version="2"`.
	Service, Select string
	// Status is that of the fixed answer of the route, 0 if it has none.
	Status int
}

// ShadowService is what would have become of the calls to a service. Only those count that would have gone where they went,
// but for Calls, Queued and what limits refuse.
type ShadowService struct {
	// Service is its name.
	Service string
	// Calls is how many would have gone there.
	Calls uint64
	// Refused counts the calls and attempts that a stage would have refused, Queued the calls that would have waited for a place.
	Refused map[Stage]uint64
	Queued  uint64
	// Lost counts the calls that succeeded and would have failed: refused by a stage, cut by a timeout (LostToTime), or failed in
	// an attempt after which no other would have been made (LostToRetry).
	Lost, LostToTime, LostToRetry uint64
	// Saved counts the calls that failed and would have been attempted again, or would have had more time: some would have
	// succeeded.
	Saved uint64
	// Unsure counts the calls that succeeded and would have been attempted once more than they were: some would have failed.
	Unsure uint64
	// Attempts counts the attempts of the calls that are over, Backups those among them that joined a slow one; WouldAttempts and
	// WouldBackups those that would have been made.
	Attempts, WouldAttempts, Backups, WouldBackups uint64
	// KeptAway counts the attempts on endpoints that would have been ejected, or rejected by their breakers.
	KeptAway uint64
	// Ejected are the endpoints that would be ejected now.
	Ejected []string
}

// Report returns what was found so far.
func (s *Shadow) Report() ShadowReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := ShadowReport{Elapsed: s.mesh.now() - s.begun, Calls: s.calls}
	if s.over {
		r.Elapsed = s.ended - s.begun
	}
	for move, n := range s.moves {
		move.Calls = n
		r.Moves = append(r.Moves, move)
	}
	slices.SortFunc(r.Moves, func(a, b ShadowMove) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.String(), b.String()))
	})
	for x, found := range s.tried {
		f := found.ShadowService
		f.Refused = maps.Clone(f.Refused)
		for _, n := range x.balancer.Set().Nodes() {
			if n.Ejected() {
				f.Ejected = append(f.Ejected, n.Addr())
			}
		}
		r.Services = append(r.Services, f)
	}
	slices.SortFunc(r.Services, func(a, b ShadowService) int { return strings.Compare(a.Service, b.Service) })
	return r
}

// String returns the report in words, a line for each finding.
func (r ShadowReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d calls in %v\n", r.Calls, r.Elapsed.Round(time.Millisecond))
	for _, m := range r.Moves {
		fmt.Fprintln(&b, m)
	}
	for _, s := range r.Services {
		fmt.Fprintf(&b, "%s: %d calls, %d attempts instead of %d, %d backups instead of %d", s.Service, s.Calls, s.WouldAttempts, s.Attempts, s.WouldBackups, s.Backups)
		for _, x := range []struct {
			n    uint64
			text string
		}{
			{s.Lost, "would have been lost"}, {s.LostToTime, "of these to timeouts"}, {s.LostToRetry, "of these for want of a retry"},
			{s.Saved, "might have been saved"}, {s.Unsure, "might have been lost"}, {s.Queued, "would have waited for a place"},
			{s.KeptAway, "attempts would have been kept from their endpoint"},
		} {
			if x.n > 0 {
				fmt.Fprintf(&b, ", %d %s", x.n, x.text)
			}
		}
		for _, stage := range slices.Sorted(maps.Keys(s.Refused)) {
			fmt.Fprintf(&b, ", %d refused by %s", s.Refused[stage], stage)
		}
		if len(s.Ejected) > 0 {
			fmt.Fprintf(&b, ", ejected now: %s", strings.Join(s.Ejected, " "))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// String returns the move in words.
func (m ShadowMove) String() string {
	if m.From == (ShadowPlace{}) {
		return fmt.Sprintf("%d calls between other places", m.Calls)
	}
	return fmt.Sprintf("%d calls from %v to %v", m.Calls, m.From, m.To)
}

// String returns the place in words.
func (p ShadowPlace) String() string {
	var b strings.Builder
	if b.WriteString(p.Service); p.Status > 0 {
		fmt.Fprintf(&b, " (answered %d)", p.Status)
	}
	if p.Select != "" {
		fmt.Fprintf(&b, " with %s", p.Select)
	}
	if p.Route != "" {
		fmt.Fprintf(&b, " by route %q", p.Route)
	}
	return b.String()
}

// elsewhere reports whether the places differ, whatever the names of the routes.
func (m *ShadowMove) elsewhere() bool {
	a, b := m.From, m.To
	a.Route, b.Route = "", ""
	return a != b
}

// placeOf returns where calls to a target go.
func placeOf(t *target) ShadowPlace {
	p := ShadowPlace{Route: t.route, Service: t.service.key}
	if t.rule != nil && t.rule.Response != nil {
		p.Status = pick(t.rule.Response.Status, 200)
	}
	if t.backend != nil {
		for i, key := range slices.Sorted(maps.Keys(t.backend.Select)) {
			if i > 0 {
				p.Select += " "
			}
			p.Select += key + "=" + strconv.Quote(t.backend.Select[key])
		}
	}
	return p
}

package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// entry is an endpoint of the set in use.
type entry struct {
	discovery.Endpoint
	since time.Time // of the last change, or when it came
}

// difference is a field that is not what it was.
type difference struct{ field, old, now string }

// change is one endpoint that came, went or is not what it was.
type change struct {
	sign  byte // '+', '-' or '~'
	entry entry
	diff  []difference
}

// report is one thing that happened, and how things are then.
type report struct {
	time            time.Time
	service, source string
	kind            discovery.EventKind
	event           discovery.Event
	set             []entry
	changes         []change
	known           bool // there was an answer
	first           bool // this is the first one
}

// history makes reports of what discovery.Run tells.
type history struct {
	service, source string
	next            []discovery.Endpoint // told by update, and not yet by an event
	updated, known  bool
	set             []entry
}

// update takes a new set, sorted by address.
func (h *history) update(set []discovery.Endpoint) { h.next, h.updated = set, true }

// event takes what happened at now.
func (h *history) event(now time.Time, e discovery.Event) report {
	r := report{time: now, service: h.service, source: h.source, kind: e.Kind, event: e}
	if h.updated {
		h.set, r.changes = compare(h.set, h.next, now)
		r.first = !h.known
		h.updated, h.known, h.next = false, true, nil
	}
	r.set, r.known = h.set, h.known
	return r
}

// compare returns the set of next and how it differs from old, by address.
func compare(old []entry, next []discovery.Endpoint, now time.Time) ([]entry, []change) {
	set := make([]entry, 0, len(next))
	var changes []change
	for _, e := range next {
		for len(old) > 0 && old[0].Addr < e.Addr {
			changes, old = append(changes, change{sign: '-', entry: old[0]}), old[1:]
		}
		at := entry{Endpoint: e, since: now}
		switch {
		case len(old) == 0 || old[0].Addr != e.Addr:
			changes = append(changes, change{sign: '+', entry: at})
		default:
			if diff := differences(old[0].Endpoint, e); len(diff) > 0 {
				changes = append(changes, change{sign: '~', entry: at, diff: diff})
			} else {
				at.since = old[0].since
			}
			old = old[1:]
		}
		set = append(set, at)
	}
	for _, e := range old {
		changes = append(changes, change{sign: '-', entry: e})
	}
	return set, changes
}

func differences(old, now discovery.Endpoint) []difference {
	var diff []difference
	a, b := fields(old), fields(now)
	for i := range a {
		if a[i] != b[i] {
			diff = append(diff, difference{a[i][0], a[i][1], b[i][1]})
		}
	}
	return diff
}

// fields returns the names and values of what an endpoint has beside its address, safe to print.
func fields(e discovery.Endpoint) [5][2]string {
	return [5][2]string{
		{"weight", strconv.FormatUint(uint64(max(e.Weight, 1)), 10)},
		{"zone", clean(e.Zone)},
		{"priority", strconv.Itoa(int(e.Priority))},
		{"health", e.Health.String()},
		{"meta", metaText(e.Meta)},
	}
}

func metaText(meta map[string]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		parts = append(parts, word(clean(key))+"="+word(clean(meta[key])))
	}
	return strings.Join(parts, " ")
}

// word returns clean text as one word.
func word(s string) string {
	if s == "" || strings.ContainsAny(s, ` ="`) {
		return strconv.Quote(s)
	}
	return s
}

// text says what happened, in a line that is safe to print.
func (r report) text() string {
	e := r.event
	reason := ""
	if e.Err != nil {
		reason = ": " + clean(e.Err.Error())
	}
	switch r.kind {
	case discovery.EventPublished:
		return plural(len(r.set), "endpoint") + " in use"
	case discovery.EventWatchFailed:
		return fmt.Sprintf("failed, again in %v%s", e.Wait.Round(time.Millisecond), reason)
	case discovery.EventEmptyHeld:
		return fmt.Sprintf("held: the source says that there are no endpoints; %d stay until it says so again", e.Held)
	case discovery.EventRemovalHeld:
		return fmt.Sprintf("held: the source no longer lists %d of %d endpoints; they stay until it says so again", e.Held, e.Endpoints)
	case discovery.EventConfirmed:
		return "heard again, nothing has changed"
	case discovery.EventAnswerRejected:
		return "rejected the answer" + reason + hint(e.Dropped)
	case discovery.EventEndpointsDropped:
		return "left out or corrected " + droppedText(e.Dropped) + reason + hint(e.Dropped)
	default:
		return r.kind.String() + reason
	}
}

// hint says how to use addresses that are refused.
func hint(d discovery.Dropped) string {
	if d.Refused == 0 {
		return ""
	}
	return " (here: --allow-loopback or --allow PREFIX)"
}

func droppedText(d discovery.Dropped) string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{
		{d.Addr, "invalid address"}, {d.Refused, "refused address"}, {d.Duplicate, "duplicate"},
		{d.Zone, "zone"}, {d.Weight, "weight"}, {d.Meta, "entry of meta"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d (%s)", p.n, p.what))
		}
	}
	return strings.Join(parts, ", ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

package incident

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Timeline is what several processes have recorded, in one order.
type Timeline struct {
	Sources []Source
	// Events are sorted by time. Those of kind KindSecond are one for each second, service, route and process.
	Events []Event
}

// Source is a process in a Timeline.
type Source struct {
	Process Process
	// Files are the names of its dumps, and From and To what they cover.
	Files    []string
	From, To time.Time
	// Offset was added to its times. Marks is how many things that others have seen too it was estimated from; 0 if it was given, or
	// could not be estimated: then Doubt says why, and the clock of the process is taken as it is.
	Offset time.Duration
	Marks  int
	Doubt  string
	// Incomplete says which dumps break off, and Lost that entries of the time that they cover were overwritten.
	Incomplete string
	Lost       bool
	// Bounds are those of Second.Latency.
	Bounds []time.Duration
}

// Event is an entry of a process, which may be that of a Dump.
type Event struct {
	// Time is by the clock of the first process.
	Time time.Time
	// Source is the position of the process in Timeline.Sources.
	Source int
	*Entry
}

// Name returns what to call the process in a line.
func (s *Source) Name() string {
	if s.Process.Instance != "" {
		return s.Process.Instance
	}
	return fmt.Sprint("pid-", s.Process.PID)
}

// Merge puts dumps into one timeline. Several dumps of one process are taken together, and what is in more than one of them is there
// once. The clocks of other processes are corrected to agree with that of the first one: by the offset for their instance or one of
// their files, which is added to their times, or else by what several of them have seen: sets of endpoints that change, updates of the
// spec, endpoints that begin to fail. Clocks that agree within what such things tell are left alone.
func Merge(dumps []*Dump, offsets map[string]time.Duration) *Timeline {
	t := &Timeline{}
	for _, group := range processes(dumps) {
		i := len(t.Sources)
		s := source(group)
		events := together(group, i)
		if len(events) > 0 {
			s.From, s.To = events[0].Time, events[len(events)-1].Time
		}
		given, known := offsets[s.Process.Instance]
		for _, f := range s.Files {
			if o, ok := offsets[f]; ok {
				given, known = o, true
			}
		}
		switch {
		case known:
			s.Offset = given
		case i > 0:
			s.Offset, s.Marks, s.Doubt = align(marksOf(t.Events), marksOf(events))
		}
		for j := range events {
			events[j].Time = events[j].Time.Add(s.Offset)
		}
		s.From, s.To = s.From.Add(s.Offset), s.To.Add(s.Offset)
		t.Sources = append(t.Sources, s)
		t.Events = append(t.Events, events...)
		sortEvents(t.Events)
	}
	return t
}

func sortEvents(list []Event) {
	slices.SortStableFunc(list, func(a, b Event) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Seq, b.Seq))
	})
}

// processes groups dumps by the process they are of, in the order of the first ones.
func processes(dumps []*Dump) (groups [][]*Dump) {
	type id struct {
		instance string
		pid      int
		start    int64
	}
	at := map[id]int{}
	for _, d := range dumps {
		k := id{d.Header.Process.Instance, d.Header.Process.PID, d.Header.Start.UnixNano()}
		i, ok := at[k]
		if !ok {
			i = len(groups)
			at[k], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], d)
	}
	for _, g := range groups {
		slices.SortStableFunc(g, func(a, b *Dump) int { return cmp.Compare(a.Header.At, b.Header.At) })
	}
	return groups
}

func source(group []*Dump) Source {
	last := group[len(group)-1].Header
	s := Source{Process: last.Process, Bounds: last.Bounds}
	var incomplete []string
	for _, d := range group {
		s.Files = append(s.Files, d.Name)
		s.Lost = s.Lost || d.Header.States.Overwritten+d.Header.Traffic.Overwritten+d.Header.Seconds.Overwritten > 0
		if d.Incomplete != "" {
			incomplete = append(incomplete, d.Name+" "+d.Incomplete)
		}
	}
	s.Incomplete = strings.Join(incomplete, ", ")
	return s
}

// together returns the entries of a process, each once. Times are by its last dump: its clock may have been set in between.
func together(group []*Dump, source int) (list []Event) {
	type second struct {
		service, route string
		at             time.Duration
	}
	last := group[len(group)-1]
	seen := map[uint64]bool{}
	sums := map[second]*Entry{}
	for _, d := range group {
		own := map[second]*Entry{} // of this dump, which may have several for one second
		for i := range d.Entries {
			e := &d.Entries[i]
			switch {
			case e.Second != nil:
				k := second{e.Service, e.Route, e.At}
				if own[k] == nil {
					own[k] = &Entry{At: e.At, Kind: KindSecond, Service: e.Service, Route: e.Route, Second: &Second{}}
				}
				own[k].Second.Add(e.Second)
			case !seen[e.Seq]:
				seen[e.Seq] = e.Seq > 0
				list = append(list, Event{Time: last.Wall(e.At), Source: source, Entry: e})
			}
		}
		for k, e := range own { // a later dump knows more of the last second of an earlier one, and may have lost its first
			if old := sums[k]; old == nil || old.Second.Calls+old.Second.Failed() < e.Second.Calls+e.Second.Failed() {
				sums[k] = e
			}
		}
	}
	for _, e := range sums {
		list = append(list, Event{Time: last.Wall(e.At), Source: source, Entry: e})
	}
	slices.SortFunc(list, func(a, b Event) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Route, b.Route))
	})
	return list
}

// A mark is something that several processes may see at about the same time.
type mark struct {
	key   string
	exact bool // at the same time to a fraction of a second, rather than when the next call comes
	time  time.Time
}

const (
	maxMarks   = 50                    // of a key
	markPause  = 5 * time.Second       // after which the same failure is a new one
	alignedBy  = 2 * time.Second       // how far marks of the same thing are apart at most
	exactBy    = 50 * time.Millisecond // how exact exact ones are: processes do not begin or hear of things at the same time
	enoughKeys = 2
	maxPairs   = 200_000
)

func marksOf(events []Event) map[string][]mark {
	marks := map[string][]mark{}
	last := map[string]time.Time{} // of attempts that failed
	for i := range events {
		e := &events[i]
		exact, key := true, ""
		switch e.Kind {
		case KindUpdated:
			key = strings.Join(e.Fields, "|")
		case KindDiscovery:
			key = fmt.Sprintf("%s|%s|%d|%d", e.Service, e.Cause, e.Endpoints, e.Out)
		case KindHealthFailing, KindHealthPassing, "ejected":
			key, exact = e.Service+"|"+e.Addr, false
		case "operator", KindNote:
			key = strings.Join([]string{e.Service, e.Addr, e.Cause, e.By, e.Text}, "|")
		case KindAttempt:
			key, exact = e.Service+"|"+e.Addr+"|"+e.Cause, false
			before, ok := last[key]
			last[key] = e.Time
			if ok && e.Time.Sub(before) < markPause {
				continue
			}
		default:
			continue
		}
		key = string(e.Kind) + "|" + key
		if len(marks[key]) < maxMarks {
			marks[key] = append(marks[key], mark{key, exact, e.Time})
		}
	}
	return marks
}

// align says what to add to times of the one so that they agree with those of the other.
func align(fixed, moved map[string][]mark) (offset time.Duration, keys int, doubt string) {
	// Each pair of marks of one thing is a vote for a difference of the clocks. Right ones agree; wrong ones, such as those of the first
	// and the second time that something happened, do so rarely.
	type vote struct {
		by     time.Duration
		weight float64
		mark   *mark
	}
	var votes []vote
	for key, list := range moved {
		for i := range list {
			for j := range fixed[key] {
				if len(votes) < maxPairs {
					votes = append(votes, vote{fixed[key][j].time.Sub(list[i].time), 1 / float64(max(len(list), len(fixed[key]))), &list[i]})
				}
			}
		}
	}
	if len(votes) == 0 {
		return 0, 0, "it has seen nothing that others have"
	}
	slices.SortFunc(votes, func(a, b vote) int { return cmp.Or(cmp.Compare(a.by, b.by), cmp.Compare(a.mark.key, b.mark.key)) })
	best, from, to := 0.0, 0, 0
	for i, j, sum := 0, 0, 0.0; i < len(votes); i++ {
		for ; j < len(votes) && votes[j].by-votes[i].by <= alignedBy; j++ {
			sum += votes[j].weight
		}
		if sum > best+1e-9 {
			best, from, to = sum, i, j
		}
		sum -= votes[i].weight
	}
	distinct := map[string]bool{}
	var exact, all []time.Duration
	for _, v := range votes[from:to] {
		distinct[v.mark.key] = true
		if all = append(all, v.by); v.mark.exact {
			exact = append(exact, v.by)
		}
	}
	if len(distinct) < enoughKeys {
		return 0, 0, "it has seen too little that others have"
	}
	if len(exact) >= 2 {
		all = exact
	}
	offset = all[len(all)/2] // they are sorted
	if by := offset.Abs(); by < exactBy || len(exact) < 2 && by < alignedBy {
		return 0, len(distinct), "" // no worse than what they tell
	}
	return offset, len(distinct), ""
}

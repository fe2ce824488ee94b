package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/zerohop/zerohop/telemetry/incident"
)

const (
	clockLayout = "15:04:05.000"
	maxRows     = 30  // of the table of calls, for each service
	maxStates   = 200 // lines of what happened
	maxSamples  = 3   // explanations of each flag

	againPause = 10 * time.Second // before what may come with each failed call is told of again
)

// writeSources says whose timeline it is, and what was done to the clocks.
func writeSources(w io.Writer, t *incident.Timeline) {
	for i := range t.Sources {
		s := &t.Sources[i]
		fmt.Fprintf(w, "# %s", clean(s.Name()))
		if s.Process.Zone != "" {
			fmt.Fprintf(w, " in %s", clean(s.Process.Zone))
		}
		fmt.Fprintf(w, ", %s to %s UTC", s.From.UTC().Format("2006-01-02 "+clockLayout), s.To.UTC().Format(clockLayout))
		switch {
		case s.Offset != 0 && s.Marks > 0:
			fmt.Fprintf(w, ", clock corrected by %v, from %d things that others have seen too", s.Offset.Round(time.Millisecond), s.Marks)
		case s.Offset != 0:
			fmt.Fprintf(w, ", clock corrected by %v", s.Offset)
		case s.Marks > 0:
			fmt.Fprintf(w, ", clock agrees with that of others")
		}
		if s.Lost {
			fmt.Fprint(w, ", older entries were overwritten")
		}
		if s.Incomplete != "" {
			fmt.Fprintf(w, ", %s", clean(s.Incomplete))
		}
		fmt.Fprintln(w)
	}
}

// writeTimeline writes a line for each event, and for each second in which anything failed or was repeated.
func writeTimeline(w io.Writer, t *incident.Timeline, all bool) {
	writeSources(w, t)
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range t.Events {
		e := &t.Events[i]
		if s := e.Second; s != nil && !all && s.Bad+s.Failed()+s.Retries+s.Backups+s.Refused+s.FellBack == 0 {
			continue
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\n", e.Time.UTC().Format(clockLayout), clean(t.Sources[e.Source].Name()), clean(words(e)))
	}
	tab.Flush() // its errors are those of w, a bufio.Writer that keeps them
}

func words(e *incident.Event) string {
	text := e.Words()
	if s := e.Second; s != nil {
		text += more(s.Retries, "retries") + more(s.Backups, "backups") + more(s.Refused, "refused") + more(s.FellBack, "answered by others")
		if len(s.Flags) > 0 {
			text += " [" + counts(s.Flags) + "]"
		}
	}
	return text
}

func more(n uint64, what string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d %s", n, what)
}

func counts(m map[string]uint64) string {
	var list []string
	for _, k := range slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) }) {
		list = append(list, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(list, ", ")
}

// writeIncident writes what was first, how the calls fared, what happened, and why some calls failed.
func writeIncident(w io.Writer, t *incident.Timeline, findings []incident.Finding, all bool) {
	writeSources(w, t)
	if len(findings) == 0 {
		fmt.Fprintln(w, "\nNo burst of failures was found.")
	}
	for i := range findings {
		writeFinding(w, &findings[i])
	}
	writeCalls(w, t, all)
	fmt.Fprintln(w, "\nWhat happened:")
	n := 0
	type again struct {
		source              int
		kind                incident.Kind
		service, addr, text string
	}
	told := map[again]time.Time{}
	left := 0
	for i := range t.Events {
		switch e := &t.Events[i]; e.Kind {
		case incident.KindSecond, incident.KindFailed, incident.KindAttempt, incident.KindRetry, incident.KindBackup, incident.KindRefused, incident.KindFellBack:
		default:
			if comesAgain(e) && !all {
				k := again{e.Source, e.Kind, e.Service, e.Addr, e.Cause}
				if at, ok := told[k]; ok && e.Time.Sub(at) < againPause {
					left++
					continue
				}
				told[k] = e.Time
			}
			if n++; n <= maxStates || all {
				fmt.Fprintf(w, "  %s  %s  %s\n", e.Time.UTC().Format(clockLayout), clean(t.Sources[e.Source].Name()), clean(e.Words()))
			}
		}
	}
	if n > maxStates && !all {
		left += n - maxStates
	}
	if left > 0 {
		fmt.Fprintf(w, "  and %d more: see --all, or merge\n", left)
	}
	writeSamples(w, t)
}

// comesAgain says of what happens again with each call or probe that fails.
func comesAgain(e *incident.Event) bool {
	return strings.HasPrefix(string(e.Kind), "budget_") || e.Kind == "spared" || e.Kind == "ejected" && e.Cause == "probe failed"
}

func writeFinding(w io.Writer, f *incident.Finding) {
	fmt.Fprintf(w, "\nFirst cause for %s, %s: %s\n", clean(f.Service), f.First.Format(clockLayout), clean(f.Words))
	fmt.Fprintf(w, "  %s to %s: ", f.From.Format("15:04:05"), f.To.Format("15:04:05"))
	if f.Survived {
		fmt.Fprintf(w, "%d attempts failed, and retries saved the %d calls\n", f.Attempts, f.Calls)
	} else {
		fmt.Fprintf(w, "%d of %d calls failed\n", f.Bad, f.Calls)
	}
	for _, e := range f.Evidence {
		fmt.Fprintf(w, "  - %s\n", clean(e))
	}
}

// writeCalls writes a table of the calls to each service, a row a second, or of more where there are many.
func writeCalls(w io.Writer, t *incident.Timeline, all bool) {
	type key struct {
		service string
		at      int64
	}
	services := map[string][2]int64{} // first and last second
	for i := range t.Events {
		if e := &t.Events[i]; e.Second != nil {
			at := e.Time.Unix()
			span, ok := services[e.Service]
			if !ok {
				span = [2]int64{at, at}
			}
			services[e.Service] = [2]int64{min(span[0], at), max(span[1], at)}
		}
	}
	width := map[string]int64{}
	for s, span := range services {
		width[s] = 1
		if !all {
			width[s] = (span[1]-span[0])/maxRows + 1
		}
	}
	rows := map[key]*incident.Second{}
	bounds := map[key][]time.Duration{}
	filled := map[string][]int64{}
	for i := range t.Events {
		e := &t.Events[i]
		if e.Second == nil {
			continue
		}
		k := key{e.Service, (e.Time.Unix() - services[e.Service][0]) / width[e.Service]}
		if rows[k] == nil {
			rows[k], bounds[k] = &incident.Second{}, t.Sources[e.Source].Bounds
			filled[k.service] = append(filled[k.service], k.at)
		}
		rows[k].Add(e.Second)
	}
	for _, s := range slices.Sorted(maps.Keys(services)) {
		fmt.Fprintf(w, "\nCalls to %s, by %v:\n", clean(s), time.Duration(width[s])*time.Second)
		tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(tab, "  TIME\tCALLS\tFAILED\tCANCELED\tATTEMPTS FAILED\tRETRIES\tBACKUPS\tREFUSED\tP50\tP99\t  FLAGS")
		at := filled[s]
		slices.Sort(at)
		if last := at[len(at)-1]; last <= 10*maxRows { // else there may be any number of empty ones
			at = at[:0]
			for i := range last + 1 {
				at = append(at, i)
			}
		}
		for _, at := range at {
			r := cmp.Or(rows[key{s, at}], &incident.Second{})
			b := bounds[key{s, at}]
			fmt.Fprintf(tab, "  %s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t  %s\n", time.Unix(services[s][0]+at*width[s], 0).UTC().Format("15:04:05"),
				r.Calls, r.Bad, r.Canceled, r.Failed(), r.Retries, r.Backups, r.Refused, below(r.Quantile(.5, b)), below(r.Quantile(.99, b)), clean(counts(r.Flags)))
		}
		tab.Flush() // as above
	}
}

// below writes the bound of a bucket.
func below(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	unit := 10 * time.Microsecond
	if d >= time.Millisecond {
		unit *= 10
	}
	return "<" + d.Round(unit).String()
}

// writeSamples writes the explanations of the first calls that failed in each way.
func writeSamples(w io.Writer, t *incident.Timeline) {
	type key struct{ service, flag, cause string }
	seen := map[key]int{}
	for i := range t.Events {
		e := &t.Events[i]
		if e.Kind != incident.KindFailed {
			continue
		}
		k := key{e.Service, "", e.Cause}
		if e.Call != nil {
			k.flag = e.Call.Flag
		}
		if seen[k]++; seen[k] > maxSamples {
			continue
		}
		if len(seen) == 1 && seen[k] == 1 {
			fmt.Fprintln(w, "\nSome calls that failed:")
		}
		if len(seen) > 50 {
			return
		}
		fmt.Fprintf(w, "  %s  %s  %s\n", e.Time.UTC().Format(clockLayout), clean(t.Sources[e.Source].Name()), clean(e.Words()))
		if e.Call != nil {
			writeCall(w, e.Call)
		}
	}
}

func writeCall(w io.Writer, c *incident.Call) {
	fmt.Fprintf(w, "      %s: %s", clean(strings.TrimSpace(c.Protocol+" "+c.Method)), clean(c.Reason+", "+c.Detail))
	if c.Budget >= 0 {
		fmt.Fprintf(w, ", retry budget %.0f %%", 100*c.Budget)
	}
	if c.Left > 0 {
		fmt.Fprintf(w, ", %v left", c.Left.Round(time.Millisecond))
	}
	if len(c.Refusals) > 0 {
		fmt.Fprintf(w, ", refused by %s", clean(strings.Join(c.Refusals, ", ")))
	}
	fmt.Fprintln(w)
	for i, t := range c.Tries {
		fmt.Fprintf(w, "      %d. +%v %s %s: ", i+1, t.Start.Round(10*time.Microsecond), clean(t.Cause), clean(cmp.Or(t.Addr, "no endpoint")))
		switch {
		case t.Running:
			fmt.Fprint(w, "no answer yet")
		case t.Status > 0:
			fmt.Fprintf(w, "%s, status %d", clean(t.Outcome), t.Status)
		default:
			fmt.Fprint(w, clean(t.Outcome))
		}
		fmt.Fprintf(w, " after %v", t.Took.Round(10*time.Microsecond))
		if t.Flag != "" {
			fmt.Fprintf(w, " [%s]", clean(t.Flag))
		}
		if t.Text != "" {
			fmt.Fprintf(w, " %s", clean(t.Text))
		}
		if t.Nodes > 0 {
			fmt.Fprintf(w, "; of %d endpoints", t.Nodes)
			for _, why := range slices.Sorted(maps.Keys(t.Removed)) {
				fmt.Fprintf(w, ", %d %s", t.Removed[why], clean(why))
			}
		}
		if t.Panicking {
			fmt.Fprint(w, ", ejections ignored")
		}
		fmt.Fprintln(w)
	}
}

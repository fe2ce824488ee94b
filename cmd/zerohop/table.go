package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// metaWidth is how much of the metadata a table shows.
const metaWidth = 40

// tablePrinter draws a table of all endpoints, with the status below it.
type tablePrinter struct {
	w    io.Writer
	once bool
	// size returns the columns and lines of the terminal that is drawn over. nil means to append each table.
	size func() (width, height int, err error)

	last report
	// trouble is the last report of a failure or a guard.
	trouble report
}

func (p *tablePrinter) print(r report) error {
	switch r.kind {
	case discovery.EventPublished, discovery.EventConfirmed, discovery.EventSnapshotUsed:
	default:
		p.trouble = r
	}
	p.last = r
	return p.draw(r.time)
}

// tick draws the table again for its times.
func (p *tablePrinter) tick(now time.Time) error {
	if p.size == nil {
		return nil
	}
	return p.draw(now)
}

func (p *tablePrinter) draw(now time.Time) error {
	rows := []string{"(no answer yet)"}
	if p.last.known {
		rows = table(p.last.set, now, !p.once)
	}
	status := p.status(now)
	if p.size == nil {
		_, err := io.WriteString(p.w, strings.Join(append(rows, status...), "\n")+"\n")
		return err
	}
	width, height, err := p.size()
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	_, err = io.WriteString(p.w, screen(rows, status, width, height))
	return err
}

// table returns the lines of the table.
func table(set []entry, now time.Time, since bool) []string {
	if len(set) == 0 {
		return []string{"(no endpoints)"}
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	header := "ADDR\tWEIGHT\tZONE\tPRIORITY\tHEALTH\tMETA"
	if since {
		header = "ADDR\tWEIGHT\tZONE\tPRIORITY\tHEALTH\tSINCE\tMETA"
	}
	fmt.Fprintln(w, header)
	for _, e := range set {
		f := fields(e.Endpoint)
		cells := []string{clean(e.Addr), f[0][1], dash(f[1][1]), f[2][1], f[3][1]}
		if since {
			cells = append(cells, age(now.Sub(e.since)))
		}
		fmt.Fprintln(w, strings.Join(append(cells, dash(cut(f[4][1], metaWidth))), "\t"))
	}
	w.Flush()
	rows := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	for i := range rows {
		rows[i] = strings.TrimRight(rows[i], " ")
	}
	return rows
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// status returns the lines below the table: what is watched and how well, and the last trouble.
func (p *tablePrinter) status(now time.Time) []string {
	r := p.last
	parts := []string{clean(r.service) + " from " + clean(r.source), plural(len(r.set), "endpoint")}
	if r.event.Held > 0 {
		parts = append(parts, fmt.Sprintf("%d held", r.event.Held))
	}
	switch lost := r.event.Lost; {
	case lost.IsZero():
		parts = append(parts, "heard")
	case !r.known:
		parts = append(parts, "not heard yet, for "+age(now.Sub(lost)))
	default:
		parts = append(parts, "not heard for "+age(now.Sub(lost)))
	}
	lines := []string{"", strings.Join(parts, " · ")}
	if t := p.trouble; !t.time.IsZero() {
		when := ""
		if !p.once {
			when = age(now.Sub(t.time)) + " ago: "
		}
		lines = append(lines, when+t.text())
	}
	return lines
}

// screen returns what draws the lines over those before, without a line that wraps or scrolls: rows that do not fit are counted.
func screen(rows, status []string, width, height int) string {
	if room := max(height-len(status), 2); len(rows) > room {
		left := len(rows) - room + 1
		rows = append(rows[:room-1:room-1], fmt.Sprintf("... %d more", left))
	}
	all := append(rows, status...)
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, line := range all[:min(len(all), height)] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(cut(line, width-1))
		b.WriteString("\x1b[K")
	}
	b.WriteString("\x1b[J")
	return b.String()
}

// age returns a duration with its one or two largest units.
func age(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	switch {
	case d < time.Minute:
		return d.String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

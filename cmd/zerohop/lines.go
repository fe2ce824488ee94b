package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// linePrinter appends a line for each change of an endpoint, and for each other event:
//
//	2026-05-01T10:00:00.000Z + 10.0.0.1:8080 weight=1 zone=eu-1 health=healthy
//	2026-05-01T10:00:07.120Z ~ 10.0.0.1:8080 weight 1 -> 2
//	2026-05-01T10:00:09.004Z - 10.0.0.1:8080
//	2026-05-01T10:00:12.311Z ! failed, again in 250ms: consul: ...
//
// What is left out of each answer in the same way is told once.
type linePrinter struct {
	w       io.Writer
	dropped string // the last text of that kind
}

func (p *linePrinter) print(r report) error {
	if r.kind == discovery.EventEndpointsDropped {
		if p.dropped == r.text() {
			return nil
		}
		p.dropped = r.text()
	}
	_, err := io.WriteString(p.w, lines(r))
	return err
}

func (*linePrinter) tick(time.Time) error { return nil }

func lines(r report) string {
	stamp := r.time.UTC().Format("2006-01-02T15:04:05.000Z")
	var b strings.Builder
	for _, c := range r.changes {
		fmt.Fprintf(&b, "%s %c %s%s\n", stamp, c.sign, clean(c.entry.Addr), details(c))
	}
	if len(r.changes) == 0 || len(r.set) == 0 {
		fmt.Fprintf(&b, "%s ! %s\n", stamp, r.text())
	}
	return b.String()
}

// details says what an endpoint is like that came, or what is different of one that stays.
func details(c change) string {
	var b strings.Builder
	switch c.sign {
	case '+':
		for _, f := range fields(c.entry.Endpoint) {
			switch {
			case f[1] == "" || f[0] == "priority" && f[1] == "0":
			case f[0] == "meta":
				b.WriteString(" " + f[1])
			default:
				b.WriteString(" " + f[0] + "=" + word(f[1]))
			}
		}
	case '~':
		for i, d := range c.diff {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, " %s %s -> %s", d.field, word(d.old), word(d.now))
		}
	}
	return b.String()
}

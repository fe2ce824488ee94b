package main

import (
	"fmt"
	"strings"
	"time"
)

// headings are the clients, a column each.
var headings = [columns]string{"net/http", "zerohop", "grpc-go", "zerohop"}

// The widths of a table: a label, and for each column a number and what stands beside it. 79 in all, to fit 80.
const (
	labelWidth  = 13
	numberWidth = 9
	besideWidth = 7
)

// A style is what a text stands out by.
type style string

const (
	plain style = ""
	bold  style = "1"
	good  style = "32"
	bad   style = "31"
	warn  style = "33"
	faint style = "2"
)

// painter makes lines, with colour or without.
type painter struct{ colour bool }

func (p painter) paint(s style, text string) string {
	if !p.colour || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// cell is a number, and what stands beside it.
type cell struct {
	number, beside string
	style          style
}

// row lays out a line of a table.
func (p painter) row(label string, s style, cells func(column int) cell) string {
	var b strings.Builder
	b.WriteString(p.paint(s, label) + strings.Repeat(" ", max(labelWidth-len(label), 0)))
	for i := range columns {
		if i == columns/2 {
			b.WriteString("  ")
		}
		c := cells(i)
		number := fmt.Sprintf("%*s", numberWidth, c.number)
		b.WriteString(p.paint(c.style, number) + p.paint(c.style, fmt.Sprintf("%-*s", besideWidth, c.beside)))
	}
	return strings.TrimRight(b.String(), " ")
}

// head is what stands above all tables.
func (p painter) head() []string {
	protocols := [columns]string{0: "HTTP", columns / 2: "gRPC"}
	return []string{
		p.row("", plain, func(i int) cell { return cell{number: protocols[i], style: bold} }),
		p.row("", plain, func(i int) cell { return cell{number: headings[i], style: bold} }),
	}
}

// table shows one phase: what callers see, and where their calls went. labels and styles are those of the backends.
func (p painter) table(all [columns]stats, labels [backends]string, styles [backends]style) []string {
	lines := append(p.head(),
		p.row("success", plain, func(i int) cell { return cell{number: success(all[i]), style: verdict(all[i])} }),
		p.row("p50 latency", plain, func(i int) cell { return cell{number: latency(all[i].p50)} }),
		p.row("p99 latency", plain, func(i int) cell { return cell{number: latency(all[i].p99)} }),
		p.row("attempts/call", plain, func(i int) cell { return cell{number: perCall(all[i])} }),
		p.paint(faint, "where calls went"))
	for b := range backends {
		lines = append(lines, p.row(labels[b], styles[b], func(i int) cell {
			n, of := all[i].executions[b], all[i].executed()
			return cell{number: percent(n, of), beside: " " + bar(n, of), style: styles[b]}
		}))
	}
	return lines
}

// summary shows all phases, and what they cost in total.
func (p painter) summary(names []string, phases [][columns]stats) []string {
	lines := append([]string{p.paint(faint, "success and p99 latency")}, p.head()...)
	var total [columns]stats
	for n, all := range phases {
		for i, s := range all {
			total[i].begun += s.begun
			for b, e := range s.executions {
				total[i].executions[b] += e
			}
		}
		lines = append(lines, p.row(names[n], plain, func(i int) cell {
			return cell{number: success(all[i]), beside: fmt.Sprintf("%*s", besideWidth, latency(all[i].p99)), style: verdict(all[i])}
		}))
	}
	return append(lines, p.row("attempts/call", plain, func(i int) cell { return cell{number: perCall(total[i])} }))
}

// success never rounds up: 100.00 % means that no call was lost.
func success(s stats) string {
	if s.calls == 0 {
		return "-"
	}
	part := (s.calls - s.failed) * 10_000 / s.calls
	return fmt.Sprintf("%d.%02d %%", part/100, part%100)
}

func verdict(s stats) style {
	switch {
	case s.calls == 0:
		return plain
	case s.failed*1000 > s.calls:
		return bad
	}
	return good
}

func latency(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < 9950*time.Microsecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < 999500*time.Microsecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func perCall(s stats) string {
	if s.begun == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(s.executed())/float64(s.begun))
}

func percent(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%d %%", (200*n+of)/(2*of))
}

// bar draws a share. A full bar is half of all, so that the shares of three or four backends can be told apart.
func bar(n, of int) string {
	const width = besideWidth - 1
	if of == 0 {
		return ""
	}
	eighths := min((n*width*16+of/2)/of, width*8)
	text := strings.Repeat("█", eighths/8)
	if part := eighths % 8; part > 0 {
		text += string([]rune(" ▏▎▍▌▋▊▉")[part])
	}
	return text
}

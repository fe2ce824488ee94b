package sim

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// columns and rows are the size of a plot in text.
const (
	columns = 72
	rows    = 4
)

// String describes the result in text, with plots of goodput, attempts and latency over time.
func (r *Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v, seed %d, %d events, hash %016x\n\n", r.Scenario.For, r.Scenario.Seed, r.Events, r.Hash)
	fmt.Fprintf(&b, "%-16s %9s %9s %7s %9s %9s %9s %9s\n", "", "started/s", "good/s", "good %", "attempts", "p50", "p99", "p99.9")
	line := func(name string, s *Series, calls bool) {
		attempts := ""
		if calls {
			attempts = fmt.Sprintf("%.3f", s.Amplification(0, 0))
		}
		fmt.Fprintf(&b, "%-16s %9.1f %9.1f %7.2f %9s", name, s.Offered(0, 0), s.Goodput(0, 0), 100*s.Success(0, 0), attempts)
		for _, q := range []float64{0.5, 0.99, 0.999} {
			fmt.Fprintf(&b, " %9s", short(s.Quantile(q, 0, 0)))
		}
		b.WriteByte('\n')
	}
	line("calls", r.Series, true)
	if len(r.Clients) > 1 {
		for i, s := range r.Clients {
			line(fmt.Sprintf("  client %d", i), s, true)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Services)) {
		s := r.Services[name]
		line(name, s.Attempts, false)
		for i, e := range s.Endpoints {
			if len(s.Endpoints) > 1 && len(s.Endpoints) <= 10 {
				line(fmt.Sprintf("  endpoint %d", i), e, false)
			}
		}
	}
	for _, c := range r.charts() {
		b.WriteByte('\n')
		c.text(&b)
	}
	if len(r.Scenario.Faults) > 0 {
		b.WriteString("\nfaults\n")
	}
	for i := range r.Scenario.Faults {
		f := &r.Scenario.Faults[i]
		fmt.Fprintf(&b, "%9s %s %s\n", "", r.spanOf(f), f)
	}
	return b.String()
}

// short rounds a duration to three digits or so.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	default:
		return d.Round(time.Microsecond).String()
	}
}

// chart is a value over time, a point for each second, and perhaps another to compare it with.
type chart struct {
	title      string
	value, ref []float64
	unit       func(float64) string
}

// charts returns what is worth a look.
func (r *Result) charts() []chart {
	var good, started, attempts, p99 []float64
	for i := range r.seconds {
		s, at := &r.seconds[i], time.Duration(i)*time.Second
		good, started = append(good, float64(s.good)), append(started, float64(s.started))
		attempts = append(attempts, float64(s.attempts))
		p99 = append(p99, r.Quantile(0.99, at, at+time.Second).Seconds())
	}
	count := func(v float64) string { return fmt.Sprintf("%.0f", v) }
	return []chart{
		{"good calls per second", good, started, count},
		{"attempts per second", attempts, started, count},
		{"p99 of good calls", p99, nil, func(v float64) string { return short(time.Duration(v * float64(time.Second))) }},
	}
}

// top is the largest value, so that a chart has room for all.
func (c *chart) top() float64 { return max(slices.Max(append(slices.Clone(c.value), c.ref...)), 1e-9) }

// text plots the chart, with several seconds in a column if there are many.
func (c *chart) text(b *strings.Builder) {
	width, top := min(len(c.value), columns), c.top()
	fmt.Fprintf(b, "%s\n", c.title)
	for row := rows - 1; row >= 0; row-- {
		label := ""
		switch row {
		case rows - 1:
			label = c.unit(top)
		case 0:
			label = "0"
		}
		fmt.Fprintf(b, "%9s ", label)
		line := make([]rune, width)
		for col := range width {
			from := col * len(c.value) / width
			to := max((col+1)*len(c.value)/width, from+1)
			mean := 0.0
			for _, v := range c.value[from:to] {
				mean += v / float64(to-from)
			}
			eighths := int(math.Ceil(mean/top*rows*8)) - row*8
			line[col] = []rune(" ▁▂▃▄▅▆▇█")[min(max(eighths, 0), 8)]
		}
		b.WriteString(strings.TrimRight(string(line), " "))
		b.WriteByte('\n')
	}
}

// spanOf draws when a fault is under way, under the plots.
func (r *Result) spanOf(f *Fault) string {
	width := min(len(r.seconds), columns)
	end := f.At + f.For
	if f.For == 0 {
		end = r.Scenario.For
	}
	line := make([]rune, width)
	for col := range width {
		from := time.Duration(float64(r.Scenario.For) * float64(col) / float64(width))
		to := time.Duration(float64(r.Scenario.For) * float64(col+1) / float64(width))
		line[col] = '·'
		if f.At < to && from < end {
			line[col] = '■'
		}
	}
	return string(line)
}

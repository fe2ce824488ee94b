package sim

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"time"
)

// Size of a panel of an SVG file, in pixels.
const (
	panelWidth  = 800.0
	panelHeight = 140.0
	margin      = 60.0
	gap         = 46.0
)

// WriteSVG writes the plots of String as a picture, with what began per second as a thin line and faults in grey.
func (r *Result) WriteSVG(out io.Writer) error {
	w := bufio.NewWriter(out)
	charts := r.charts()
	width, height := panelWidth+2*margin, float64(len(charts))*(panelHeight+gap)+gap
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(w, `<rect width="%.0f" height="%.0f" fill="white"/>`+"\n", width, height)
	total := r.Scenario.For.Seconds()
	x := func(seconds float64) float64 { return margin + panelWidth*min(seconds/total, 1) }
	for i := range charts {
		c := &charts[i]
		bottom := float64(i+1) * (panelHeight + gap)
		top := c.top()
		for k := range r.Scenario.Faults {
			f := &r.Scenario.Faults[k]
			end := total
			if f.For > 0 {
				end = (f.At + f.For).Seconds()
			}
			fmt.Fprintf(w, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#ddd" fill-opacity="0.6"><title>%s</title></rect>`+"\n",
				x(f.At.Seconds()), bottom-panelHeight, x(end)-x(f.At.Seconds()), panelHeight, html.EscapeString(f.String()))
		}
		fmt.Fprintf(w, `<text x="%.0f" y="%.1f">%s</text>`+"\n", margin, bottom-panelHeight-8, html.EscapeString(c.title))
		fmt.Fprintf(w, `<text x="%.0f" y="%.1f" text-anchor="end">%s</text>`+"\n", margin-6, bottom-panelHeight+10, html.EscapeString(c.unit(top)))
		fmt.Fprintf(w, `<text x="%.0f" y="%.1f" text-anchor="end">0</text>`+"\n", margin-6, bottom)
		fmt.Fprintf(w, `<text x="%.0f" y="%.1f">0</text><text x="%.0f" y="%.1f" text-anchor="end">%v</text>`+"\n",
			margin, bottom+16, margin+panelWidth, bottom+16, r.Scenario.For.Round(time.Second))
		fmt.Fprintf(w, `<path d="M%.0f %.1fH%.0f" stroke="#888"/>`+"\n", margin, bottom, margin+panelWidth)
		line := func(values []float64, style string) {
			if len(values) == 0 {
				return
			}
			fmt.Fprintf(w, `<polyline fill="none" %s points="`, style)
			for k, v := range values {
				fmt.Fprintf(w, "%.1f,%.1f ", x(float64(k)+0.5), bottom-panelHeight*v/top)
			}
			fmt.Fprintln(w, `"/>`)
		}
		line(c.ref, `stroke="#999" stroke-width="1"`)
		line(c.value, `stroke="#06c" stroke-width="2"`)
	}
	fmt.Fprintln(w, "</svg>")
	return w.Flush()
}

package httpmesh

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
)

// LoadReport is how busy a server is: the messages of ORCA (https://github.com/cncf/xds, orca_load_report.proto). Figures
// that are 0, negative, infinite or not a number are not reported, nor are names that are not letters, digits and
// "_-./".
type LoadReport struct {
	// Application is the utilization as the application sees it, 1 when it is full. Balancers prefer it to CPU.
	Application float64
	// CPU is the part of the processors in use. It may exceed 1.
	CPU float64
	// Memory is the part of the memory in use.
	Memory float64
	// Requests and Errors are rates per second.
	Requests, Errors float64
	// Utilization of further resources by name, as parts of what there is.
	Utilization map[string]float64
	// Named are further figures, with a meaning that only those who read them know.
	Named map[string]float64
}

// text returns the report in the form of LoadHeader, with what else was measured, empty if there is nothing to report.
func (r LoadReport) text(inflight int, latency time.Duration) string {
	var room [256]byte // most reports fit, and cost but the string
	b := append(room[:0], "TEXT "...)
	empty := len(b)
	b = appendMetric(b, "", "application_utilization", r.Application)
	b = appendMetric(b, "", "cpu_utilization", r.CPU)
	b = appendMetric(b, "", "mem_utilization", r.Memory)
	b = appendMetric(b, "", "rps_fractional", r.Requests)
	b = appendMetric(b, "", "eps", r.Errors)
	b = appendMetric(b, "named_metrics.", loadbalance.InFlightMetric, float64(inflight))
	b = appendMetric(b, "named_metrics.", loadbalance.LatencyMetric, latency.Seconds())
	b = appendMetrics(b, "utilization.", r.Utilization)
	b = appendMetrics(b, "named_metrics.", r.Named)
	if len(b) == empty {
		return ""
	}
	return string(b[:len(b)-1])
}

func appendMetrics(b []byte, prefix string, metrics map[string]float64) []byte {
	for name, v := range metrics {
		// One name that readers do not understand makes them drop the whole report.
		if name != "" && !strings.ContainsFunc(name, notMetric) {
			b = appendMetric(b, prefix, name, v)
		}
	}
	return b
}

// appendMetric appends a figure and a comma.
func appendMetric(b []byte, prefix, name string, v float64) []byte {
	if !(v > 0) || math.IsInf(v, 1) {
		return b
	}
	b = append(append(append(b, prefix...), name...), '=')
	return append(strconv.AppendFloat(b, v, 'g', 6, 64), ',') // more digits are noise
}

func notMetric(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_-./", r))
}

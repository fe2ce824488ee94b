// Package orca reads what servers say of their load in the messages of ORCA, an OrcaLoadReport
// (https://github.com/cncf/xds, orca_load_report.proto), and measures what ours say.
//
// Reports come from servers that may say anything: what is not one is refused, none is looked at beyond MaxSize, and
// figures that make no sense count as unknown.
package orca

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
)

// MaxSize is how long a report may be, in bytes as they are on the wire. Those of servers have a few hundred.
const MaxSize = 4 << 10

// Header reads the value of an endpoint-load-metrics header: "TEXT", "JSON" or "BIN", a space and the report, as Envoy
// does. The first does not allocate.
func Header(value string) (loadbalance.Load, bool) {
	if len(value) > MaxSize {
		return loadbalance.Load{}, false
	}
	format, report, _ := strings.Cut(value, " ")
	switch format {
	case "TEXT":
		return parseText(report)
	case "JSON":
		return parseJSON(report)
	case "BIN":
		return Base64(report)
	}
	return loadbalance.Load{}, false
}

// Base64 reads the value of an endpoint-load-metrics-bin header.
func Base64(value string) (loadbalance.Load, bool) {
	value = strings.TrimRight(value, "=") // gRPC sends none, Envoy does
	if len(value) > MaxSize {
		return loadbalance.Load{}, false
	}
	b, err := base64.RawStdEncoding.DecodeString(value)
	if err != nil {
		return loadbalance.Load{}, false
	}
	return Message(b)
}

// figures are what a report says of what we want to know.
type figures struct {
	application, cpu, requests, errors, inflight, latency float64
}

// set takes the figure of a name, as it is in the text form.
func (f *figures) set(name string, v float64) {
	switch name {
	case "application_utilization":
		f.application = v
	case "cpu_utilization":
		f.cpu = v
	case "rps_fractional":
		f.requests = v
	case "rps": // deprecated
		if f.requests == 0 {
			f.requests = v
		}
	case "eps":
		f.errors = v
	case "named_metrics." + loadbalance.InFlightMetric:
		f.inflight = v
	case "named_metrics." + loadbalance.LatencyMetric:
		f.latency = v
	}
}

// Bounds of what is believed. A server that reports more is not the busier for it.
const (
	mostInFlight = 1 << 30
	mostLatency  = time.Hour
)

// load returns the figures as a Load.
func (f *figures) load() loadbalance.Load {
	l := loadbalance.Load{Utilization: sane(f.application), Rate: sane(f.requests), Errors: sane(f.errors)}
	if l.Utilization == 0 {
		l.Utilization = sane(f.cpu)
	}
	l.InFlight = int(math.Round(min(sane(f.inflight), mostInFlight)))
	l.Latency = time.Duration(min(sane(f.latency), mostLatency.Seconds()) * float64(time.Second))
	return l
}

// sane returns 0 for what is no positive number.
func sane(v float64) float64 {
	if v > 0 && v <= math.MaxFloat64 {
		return v
	}
	return 0
}

// parseText reads pairs "name=number" between commas.
func parseText(s string) (loadbalance.Load, bool) {
	var f figures
	for more := true; more; {
		var pair string
		pair, s, more = strings.Cut(s, ",")
		name, number, ok := strings.Cut(pair, "=")
		if !ok {
			return loadbalance.Load{}, false
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil {
			return loadbalance.Load{}, false
		}
		f.set(strings.TrimSpace(name), v)
	}
	return f.load(), true
}

// number is one of the JSON form of protobuf, which may be a string.
type number float64

func (n *number) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	if s == "null" {
		return nil
	}
	v, err := strconv.ParseFloat(s, 64)
	*n = number(v)
	return err
}

// parseJSON reads the JSON form, whose names may be those of the fields or theirs in camel case.
func parseJSON(s string) (loadbalance.Load, bool) {
	var m struct {
		CPU1         number `json:"cpu_utilization"`
		CPU2         number `json:"cpuUtilization"`
		Application1 number `json:"application_utilization"`
		Application2 number `json:"applicationUtilization"`
		Requests1    number `json:"rps_fractional"`
		Requests2    number `json:"rpsFractional"`
		Requests3    number `json:"rps"`
		Errors       number `json:"eps"`
		Named1       named  `json:"named_metrics"`
		Named2       named  `json:"namedMetrics"`
	}
	if json.Unmarshal([]byte(s), &m) != nil {
		return loadbalance.Load{}, false
	}
	first := func(list ...number) float64 {
		for _, n := range list {
			if n != 0 {
				return float64(n)
			}
		}
		return 0
	}
	f := figures{
		application: first(m.Application1, m.Application2), cpu: first(m.CPU1, m.CPU2),
		requests: first(m.Requests1, m.Requests2, m.Requests3), errors: float64(m.Errors),
		inflight: first(m.Named1.InFlight, m.Named2.InFlight), latency: first(m.Named1.Latency, m.Named2.Latency),
	}
	return f.load(), true
}

type named struct {
	InFlight number `json:"zerohop.inflight"`
	Latency  number `json:"zerohop.latency"`
}

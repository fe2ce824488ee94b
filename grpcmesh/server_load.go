package grpcmesh

import (
	"math"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/zerohop/zerohop/loadbalance"
)

// LoadReport is how busy a server is: the messages of ORCA (https://github.com/cncf/xds, orca_load_report.proto). Figures
// that are 0, negative, infinite or not a number are not reported, nor are names that are empty or not UTF-8. Its fields
// are those of httpmesh.LoadReport, so that one converts to the other.
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

// The fields of an OrcaLoadReport. The message is written by hand because the package that has it, grpc/orca, costs two
// modules and 0.4 MB more and copies six maps a call, and does not report calls whose handlers do not ask it to.
const (
	orcaCPU         protowire.Number = 1
	orcaMemory      protowire.Number = 2
	orcaUtilization protowire.Number = 5
	orcaRequests    protowire.Number = 6
	orcaErrors      protowire.Number = 7
	orcaNamed       protowire.Number = 8
	orcaApplication protowire.Number = 9
)

// encode returns the report as an OrcaLoadReport, with what else was measured, empty if there is nothing to report.
func (r LoadReport) encode(inflight int, latency time.Duration) string {
	var room [256]byte // most reports fit, and cost but the string
	b := room[:0]
	b = appendMetric(b, orcaCPU, r.CPU)
	b = appendMetric(b, orcaMemory, r.Memory)
	b = appendMetrics(b, orcaUtilization, r.Utilization)
	b = appendMetric(b, orcaRequests, r.Requests)
	b = appendMetric(b, orcaErrors, r.Errors)
	b = appendEntry(b, orcaNamed, loadbalance.InFlightMetric, float64(inflight))
	b = appendEntry(b, orcaNamed, loadbalance.LatencyMetric, latency.Seconds())
	b = appendMetrics(b, orcaNamed, r.Named)
	b = appendMetric(b, orcaApplication, r.Application)
	return string(b)
}

// appendMetrics appends a map of names to figures.
func appendMetrics(b []byte, field protowire.Number, metrics map[string]float64) []byte {
	for name, v := range metrics {
		// One name that is not UTF-8 makes readers drop the whole report.
		if name != "" && utf8.ValidString(name) {
			b = appendEntry(b, field, name, v)
		}
	}
	return b
}

// appendEntry appends an entry of such a map.
func appendEntry(b []byte, field protowire.Number, name string, v float64) []byte {
	const nameField, valueField = 1, 2
	if !reported(v) {
		return b
	}
	size := protowire.SizeTag(nameField) + protowire.SizeBytes(len(name)) + protowire.SizeTag(valueField) + protowire.SizeFixed64()
	b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(size))
	b = protowire.AppendString(protowire.AppendTag(b, nameField, protowire.BytesType), name)
	return appendMetric(b, valueField, v)
}

// appendMetric appends a figure.
func appendMetric(b []byte, field protowire.Number, v float64) []byte {
	if !reported(v) {
		return b
	}
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), math.Float64bits(v))
}

func reported(v float64) bool { return v > 0 && !math.IsInf(v, 1) }

package orca

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
)

// field and entry write what protobuf would.
func field(number byte, v float64) string {
	return string(binary.LittleEndian.AppendUint64([]byte{number<<3 | wireFixed64}, math.Float64bits(v)))
}

func delimited(number byte, s string) string {
	return string(append(binary.AppendUvarint([]byte{number<<3 | wireBytes}, uint64(len(s))), s...))
}

func namedEntry(name string, v float64) string {
	return delimited(fieldNamed, delimited(fieldKey, name)+field(fieldValue, v))
}

var full = loadbalance.Load{InFlight: 7, Latency: 12500 * time.Microsecond, Utilization: 0.5, Rate: 1234, Errors: 2}

var message = field(fieldCPU, 0.7) + field(2, 0.25) + delimited(5, delimited(fieldKey, "disk")+field(fieldValue, 0.1)) + "\x18\x05" +
	field(fieldRequests, 1234) + field(fieldErrors, 2) + namedEntry("queue", 3) + namedEntry(loadbalance.InFlightMetric, 7) +
	namedEntry(loadbalance.LatencyMetric, 0.0125) + field(fieldApplication, 0.5)

func TestHeaderReadsAllForms(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  loadbalance.Load
	}{
		{"TEXT cpu_utilization=0.7,mem_utilization=0.25,utilization.disk=0.1,rps_fractional=1234,eps=2,named_metrics.queue=3," +
			"named_metrics.zerohop.inflight=7,named_metrics.zerohop.latency=0.0125,application_utilization=0.5", full},
		{"TEXT cpu_utilization = 0.7", loadbalance.Load{Utilization: 0.7}},
		{"TEXT rps=10,eps=1", loadbalance.Load{Rate: 10, Errors: 1}},
		{"TEXT something_new=1", loadbalance.Load{}},
		{`JSON {"cpu_utilization": 0.7, "rps_fractional": 1234, "eps": "2", "application_utilization": 0.5, "rps": "5",` +
			`"named_metrics": {"zerohop.inflight": 7, "zerohop.latency": 0.0125, "queue": 3}, "new": [{}]}`, full},
		{`JSON {"cpuUtilization": 0.7, "rpsFractional": 1234, "eps": 2, "applicationUtilization": 5e-1,` +
			`"namedMetrics": {"zerohop.inflight": "7", "zerohop.latency": 0.0125}}`, full},
		{`JSON {"rps": "5", "cpu_utilization": null}`, loadbalance.Load{Rate: 5}},
		{"BIN " + base64.StdEncoding.EncodeToString([]byte(message)), full},
		{"BIN " + base64.RawStdEncoding.EncodeToString([]byte(message)), full},
		{"TEXT cpu_utilization=NaN,eps=-1,rps_fractional=Inf,named_metrics.zerohop.inflight=-3", loadbalance.Load{}},
		{"TEXT named_metrics.zerohop.inflight=1e300,named_metrics.zerohop.latency=1e300", loadbalance.Load{InFlight: mostInFlight, Latency: mostLatency}},
		{`JSON {"cpu_utilization": "NaN", "eps": "-Infinity"}`, loadbalance.Load{}},
	} {
		if got, ok := Header(tt.value); !ok || got != tt.want {
			t.Errorf("Header(%q) = %+v, %v; want %+v", tt.value, got, ok, tt.want)
		}
	}
	if got, ok := Message("\x18\x05"); !ok || got.Rate != 5 {
		t.Errorf("the deprecated rps = 5: %+v, %v", got, ok)
	}
}

func TestHeaderRefusesWhatIsNoReport(t *testing.T) {
	for _, value := range []string{
		"", "TEXT", "TEXT ", "cpu_utilization=0.7", "text cpu_utilization=0.7", "TEXT cpu_utilization", "TEXT cpu_utilization=",
		"TEXT cpu_utilization=0.7,", "TEXT cpu_utilization=x", "TEXT eps=1e999", "JSON", "JSON {", "JSON []", `JSON {"eps": "x"}`, `JSON {"eps": {}}`,
		"JSON " + strings.Repeat("[", 4000), "BIN !", "BIN " + base64.StdEncoding.EncodeToString([]byte(message[:40])),
		"TEXT a=1" + strings.Repeat(",a=1", MaxSize/4), "BIN " + strings.Repeat("A", MaxSize+1),
	} {
		if got, ok := Header(value); ok || got != (loadbalance.Load{}) {
			t.Errorf("Header(%.80q) = %+v, %v; want nothing", value, got, ok)
		}
	}
}

func TestTextAndMessageAreReadWithoutAllocation(t *testing.T) {
	text := "TEXT cpu_utilization=0.7,rps_fractional=1234,eps=2,named_metrics.zerohop.inflight=7,named_metrics.zerohop.latency=0.0125"
	if got := testing.AllocsPerRun(100, func() { Header(text) }); got != 0 {
		t.Errorf("Header of TEXT makes %v allocations, want none", got)
	}
	if got := testing.AllocsPerRun(100, func() { Message(message) }); got != 0 {
		t.Errorf("Message makes %v allocations, want none", got)
	}
}

func checkFigures(t *testing.T, l loadbalance.Load, ok bool) {
	t.Helper()
	bad := func(v float64) bool { return !(v >= 0 && v <= math.MaxFloat64) }
	if !ok && l != (loadbalance.Load{}) {
		t.Errorf("%+v of what is no report", l)
	}
	if bad(l.Utilization) || bad(l.Rate) || bad(l.Errors) || l.InFlight < 0 || l.InFlight > mostInFlight || l.Latency < 0 || l.Latency > mostLatency {
		t.Errorf("%+v makes no sense", l)
	}
}

func FuzzHeader(f *testing.F) {
	for _, seed := range []string{
		"TEXT cpu_utilization=0.7,named_metrics.zerohop.inflight=7", `JSON {"eps": "2", "namedMetrics": {"zerohop.latency": 1e9}}`,
		"BIN " + base64.StdEncoding.EncodeToString([]byte(message)), "TEXT =", "JSON null", "TEXT eps=0x1p-2",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		l, ok := Header(value)
		checkFigures(t, l, ok)
	})
}

func FuzzMessage(f *testing.F) {
	for _, seed := range []string{message, "\x18\x05", namedEntry("x", 1), "\x42\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x0b\x0c", strings.Repeat("\xff", 11)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		l, ok := Message(value)
		checkFigures(t, l, ok)
		if other, same := Message([]byte(value)); same != ok || other != l {
			t.Errorf("%+v, %v as a string, %+v, %v as bytes", l, ok, other, same)
		}
	})
}

func BenchmarkHeader(b *testing.B) {
	text := "TEXT cpu_utilization=0.7,rps_fractional=1234,eps=2,named_metrics.zerohop.inflight=7,named_metrics.zerohop.latency=0.0125"
	b.ReportAllocs()
	for b.Loop() {
		Header(text)
	}
}

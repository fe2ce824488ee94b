package httpmesh

import (
	"math"
	"testing"
)

func TestLoadReportText(t *testing.T) {
	for _, tt := range []struct {
		report LoadReport
		want   string
	}{
		{LoadReport{}, ""},
		{LoadReport{CPU: 0.7}, "TEXT cpu_utilization=0.7"},
		{
			LoadReport{Application: 0.8, CPU: 1.25, Memory: 1. / 3, Requests: 1000, Errors: 2},
			"TEXT application_utilization=0.8,cpu_utilization=1.25,mem_utilization=0.333333,rps_fractional=1000,eps=2",
		},
		{LoadReport{Utilization: map[string]float64{"disk": 0.5}, Named: map[string]float64{"kv_cache/v1.0-a": 12345678}},
			"TEXT utilization.disk=0.5,named_metrics.kv_cache/v1.0-a=1.23457e+07"},
		{LoadReport{CPU: math.NaN(), Memory: math.Inf(1), Application: -1, Errors: math.Inf(-1), Requests: 1e-9}, "TEXT rps_fractional=1e-09"},
		{LoadReport{Named: map[string]float64{"": 1, "a=b": 1, "a,b": 1, "a:b": 1, "a b": 1, "a\r\nSet-Cookie": 1, "é": 1, "ok": math.NaN()}}, ""},
	} {
		if got := tt.report.text(0, 0); got != tt.want {
			t.Errorf("%+v.text(0, 0) = %q, want %q", tt.report, got, tt.want)
		}
	}
}

func TestLoadReportCostsOneAllocation(t *testing.T) {
	r := LoadReport{Application: 0.8, CPU: 0.7, Memory: 0.5, Requests: 1234.5, Errors: 1, Named: map[string]float64{"queue": 7}}
	if got := testing.AllocsPerRun(100, func() { _ = r.text(0, 0) }); got > 1 {
		t.Errorf("text() makes %v allocations, want at most 1", got)
	}
}

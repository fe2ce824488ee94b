package loadbalance

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestCeilingIsComputedAfterTheEjection(t *testing.T) {
	ejected := func(c OutlierConfig, n int) (k int) {
		for c.mayEject(k, n) {
			k++
		}
		return k
	}
	for _, c := range []struct {
		n    int
		max  float64
		one  bool
		want int
	}{
		{3, 0.67, false, 2}, // three, if asked before the ejection
		{3, 0.5, false, 1},
		{2, 0.5, false, 1},
		{2, 1, false, 1},
		{1, 1, true, 0},
		{5, 0.1, false, 0},
		{5, 0.1, true, 1},
		{10, 0.1, false, 1},
		{10, 0.5, false, 5},
		{10, 0.3, false, 3}, // 0.3*10 is less than 3 in floating point
		{10, 1, false, 9},
	} {
		if got := ejected(OutlierConfig{MaxEjected: c.max, One: c.one}, c.n); got != c.want {
			t.Errorf("ejects %d of %d at %v, want %d", got, c.n, c.max, c.want)
		}
	}
	for n := 1; n <= 100; n++ {
		for percent := 1; percent <= 100; percent++ {
			got := ejected(OutlierConfig{MaxEjected: float64(percent) / 100}, n)
			if want := min(percent*n/100, n-1); got != want {
				t.Errorf("ejects %d of %d at %d %%, want %d", got, n, percent, want)
			}
		}
	}
}

func TestEjectionsDoubleUpToTheirMaximum(t *testing.T) {
	c := OutlierConfig{Jitter: -1}.withDefaults()
	for times, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		if got := c.duration(times, math.MaxUint64); got != want*time.Second {
			t.Errorf("ejection %d lasts %v, want %v", times, got, want*time.Second)
		}
	}
	c = OutlierConfig{Jitter: -1, Linear: true, Ejection: 30 * time.Second, MaxEjection: 300 * time.Second}.withDefaults()
	for times, want := range []time.Duration{30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300} {
		if got := c.duration(times, math.MaxUint64); got != want*time.Second {
			t.Errorf("linear ejection %d lasts %v, want %v", times, got, want*time.Second)
		}
	}
	for _, linear := range []bool{false, true} {
		c = OutlierConfig{MaxEjection: math.MaxInt64, Ejection: math.MaxInt64 / 3, Jitter: -1, Linear: linear}.withDefaults()
		for times := range 100 {
			if got := c.duration(times, 0); got < math.MaxInt64/3 {
				t.Errorf("ejection %d, linear %v, lasts %v", times, linear, got)
			}
		}
	}
	c = OutlierConfig{MaxEjection: math.MaxInt64, Ejection: time.Second}.withDefaults()
	for times := range 100 {
		if got := c.duration(times, math.MaxUint64); got <= 0 {
			t.Errorf("ejection %d lasts %v", times, got)
		}
	}
	c = OutlierConfig{}.withDefaults()
	if got := c.duration(0, 0); got != time.Second {
		t.Errorf("longest first ejection = %v, want 1s", got)
	}
	if got := c.duration(0, math.MaxUint64); got < 500*ms || got > 501*ms {
		t.Errorf("shortest first ejection = %v, want 500ms", got)
	}
	c = OutlierConfig{Jitter: 1}.withDefaults()
	if got := c.duration(0, math.MaxUint64); got <= 0 {
		t.Errorf("shortest ejection with full jitter = %v, want more than 0", got)
	}
}

func TestOutlierConfigIsValidatedOrClamped(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		field string // empty: valid
		cfg   OutlierConfig
	}{
		{"", OutlierConfig{}},
		{"", OutlierConfig{Consecutive: -1, FailureRatio: -1, Jitter: -1, MaxEjected: 1, Deviations: 1.9, Latency: 3}},
		{"failureRatio", OutlierConfig{FailureRatio: 1.1}},
		{"failureRatio", OutlierConfig{FailureRatio: nan}},
		{"minResponses", OutlierConfig{MinResponses: -1}},
		{"deviations", OutlierConfig{Deviations: -1}},
		{"deviations", OutlierConfig{Deviations: nan}},
		{"minHosts", OutlierConfig{MinHosts: 2}},
		{"minVolume", OutlierConfig{MinVolume: -1}},
		{"latency", OutlierConfig{Latency: 1}},
		{"latency", OutlierConfig{Latency: nan}},
		{"window", OutlierConfig{Window: ms}},
		{"ejection", OutlierConfig{Ejection: -1}},
		{"ejection", OutlierConfig{Ejection: 1}},
		{"maxEjection", OutlierConfig{MaxEjection: -1}},
		{"maxEjection", OutlierConfig{Ejection: 2 * time.Second, MaxEjection: time.Second}},
		{"jitter", OutlierConfig{Jitter: 1.5}},
		{"maxEjected", OutlierConfig{MaxEjected: 1.1}},
		{"maxEjected", OutlierConfig{MaxEjected: nan}},
	} {
		err := c.cfg.Validate()
		if c.field == "" && err != nil || c.field != "" && (err == nil || !strings.HasPrefix(err.Error(), c.field+": ")) {
			t.Errorf("Validate() of %+v = %v, want an error of %q", c.cfg, err, c.field)
		}
		d := c.cfg.withDefaults()
		if err := d.Validate(); err != nil {
			t.Errorf("%+v is not clamped: %v", c.cfg, err)
		}
	}
}

package loadbalance

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestAlgorithmsNameTheFieldThatMakesNoSense(t *testing.T) {
	for _, c := range []struct {
		field string // empty: valid
		cfg   interface{ Validate() error }
	}{
		{"", LeastRequestConfig{}}, {"", LeastRequestConfig{Choices: 2}}, {"", LeastRequestConfig{Choices: 10}},
		{"choices", LeastRequestConfig{Choices: 1}}, {"choices", LeastRequestConfig{Choices: 11}}, {"choices", LeastRequestConfig{Choices: -1}},
		{"", PrequalConfig{}}, {"", PrequalConfig{Quantile: 1, Pool: 16, MaxAge: time.Hour}}, {"", PrequalConfig{Quantile: -1, Pool: 2}},
		{"quantile", PrequalConfig{Quantile: 1.1}}, {"quantile", PrequalConfig{Quantile: math.NaN()}},
		{"pool", PrequalConfig{Pool: 1}}, {"pool", PrequalConfig{Pool: 17}}, {"maxAge", PrequalConfig{MaxAge: -1}},
		{"", UtilizationConfig{}}, {"", UtilizationConfig{Blackout: -1, Update: 100 * time.Millisecond, ErrorPenalty: -1}},
		{"expiration", UtilizationConfig{Expiration: -1}}, {"update", UtilizationConfig{Update: time.Millisecond}},
		{"update", UtilizationConfig{Update: -1}}, {"errorPenalty", UtilizationConfig{ErrorPenalty: math.NaN()}},
		{"errorPenalty", UtilizationConfig{ErrorPenalty: math.Inf(1)}},
		{"", HashConfig{}}, {"", HashConfig{Bound: math.Inf(1), MinRing: 1024, Table: 5_000_011}}, {"", HashConfig{MinRing: 7, MaxRing: 7}},
		{"bound", HashConfig{Bound: 1}}, {"bound", HashConfig{Bound: -1}}, {"bound", HashConfig{Bound: math.NaN()}},
		{"minRing", HashConfig{MinRing: -1}}, {"minRing", HashConfig{MinRing: 8, MaxRing: 7}}, {"minRing", HashConfig{MinRing: 1 << 24}},
		{"maxRing", HashConfig{MaxRing: -1}}, {"maxRing", HashConfig{MaxRing: 1 << 24}},
		{"table", HashConfig{Table: -1}}, {"table", HashConfig{Table: 5_000_012}},
	} {
		err := c.cfg.Validate()
		if c.field == "" && err != nil || c.field != "" && (err == nil || !strings.HasPrefix(err.Error(), c.field+": ")) {
			t.Errorf("Validate() of %+v = %v, want an error of %q", c.cfg, err, c.field)
		}
	}
}

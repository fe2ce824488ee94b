package zerohop

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zerohop/zerohop/discovery"
)

// The numbers are those of the products' documentation, written down once more.
func TestPresetsHaveTheNumbersOfWhatTheyAreNamedAfter(t *testing.T) {
	const s = time.Second
	envoy := Outlier{
		Mode: On, Consecutive: 5, FailureRatio: -1, Deviations: 1.9, MinHosts: 5, MinVolume: 100,
		Window: 10 * s, Ejection: 30 * s, MaxEjection: 300 * s, Linear: On, Jitter: -1, MaxEjected: 0.1, One: Off, Absolute: On,
	}
	istio := envoy
	istio.Deviations, istio.MinHosts, istio.MinVolume = 0, 0, 0
	grpc := envoy
	grpc.Consecutive, grpc.FailureRatio, grpc.MinResponses, grpc.One = -1, 0.85, 50, On
	for name, want := range map[string]struct {
		balance, choices string
		timeout, connect time.Duration
		retry            Retry
		budget           Budget
		breaker          Breaker // of the service
		outlier          Outlier
		panic, spill     float64
		hashing          Hashing
		locality         Switch
	}{
		PresetEnvoy: {
			balance: "weighted-round-robin", choices: "2 with replacement", timeout: 15 * s, connect: 5 * s,
			retry:  Retry{Off, 2, 25 * time.Millisecond, 250 * time.Millisecond},
			budget: Budget{Mode: On, Kind: "concurrent", Ratio: 0.2, Floor: 3}, breaker: Breaker{Mode: Off, Consecutive: math.MaxUint32}, outlier: envoy, panic: 0.5, spill: 1.4,
			hashing: Hashing{-1, 1024, 8_388_608, 65_537}, locality: Off,
		},
		PresetIstio: {
			balance: "least-request", choices: "2 with replacement", connect: 10 * s,
			retry:  Retry{On, 3, 25 * time.Millisecond, 250 * time.Millisecond},
			budget: Budget{Mode: On, Kind: "concurrent", Ratio: 0.2, Floor: 3}, breaker: Breaker{Mode: Off, Consecutive: math.MaxUint32}, outlier: istio, panic: -1, spill: 1.4,
			hashing: Hashing{-1, 1024, 8_388_608, 65_537}, locality: On,
		},
		PresetLinkerd: {
			balance: "peak-ewma", choices: "2", connect: s, retry: Retry{Mode: Off, Attempts: 2},
			budget: Budget{Mode: On, Kind: "ratio", Ratio: 0.2, Floor: 10, Window: 10 * s}, breaker: Breaker{Mode: Off, Consecutive: math.MaxUint32},
			outlier: Outlier{
				Mode: On, Consecutive: 7, FailureRatio: -1, Ejection: s, MaxEjection: 60 * s, Jitter: 0.5, MaxEjected: 1, Absolute: On,
			},
			panic: -1, locality: Off,
		},
		PresetGRPC: {
			balance: "weighted-round-robin", choices: "2 with replacement", connect: s, retry: Retry{Mode: Off, Attempts: 5},
			budget: Budget{Mode: On, Kind: "grpc", Tokens: 10, Ratio: 0.1}, breaker: Breaker{Mode: Off, Consecutive: math.MaxUint32}, outlier: grpc, panic: -1, spill: 1000,
			hashing: Hashing{-1, 1024, 4096, 0}, locality: Off,
		},
		PresetSpringCloud: {
			balance: "weighted-round-robin", choices: "2", timeout: s, connect: s, retry: Retry{On, 2, 1, 1},
			budget: Budget{Mode: Off}, breaker: Breaker{On, math.MaxUint32, 0.5, 100, 0, 100, 60 * s, 0, 1, 60 * s, 60 * s, -1, 10},
			outlier: Outlier{Mode: Off}, panic: -1, locality: Off,
		},
	} {
		p := (&Spec{}).complete(Policy{Preset: name})
		choices := "2"
		if p.LeastRequest == (LeastRequest{2, On}) {
			choices = "2 with replacement"
		}
		got := want
		got.balance, got.choices, got.timeout, got.connect = p.Balance, choices, p.Timeout, p.Connect.Timeout
		got.retry, got.budget, got.breaker, got.outlier = p.Retry, p.Budget, p.ServiceBreaker, p.Outlier
		got.panic, got.spill, got.hashing, got.locality = p.Panic, p.OverProvisioning, p.Hashing, p.Locality.Mode
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(want)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if p.Breaker.Mode != Off || p.Backup.Mode != Off || p.SlowStart.Mode != Off || p.HealthCheck.Mode != Off {
			t.Errorf("%s has backups %q, slow starts %q, health checks %q, want none of them", name, p.Backup.Mode, p.SlowStart.Mode, p.HealthCheck.Mode)
		}
	}
}

func TestPresetsAreValid(t *testing.T) {
	for name, p := range presets {
		if err := p.validate(name, nil); err != nil {
			t.Error(err)
		}
		if p.Preset != "" || len(p.Hash) > 0 {
			t.Errorf("%s has a preset %q or keys %v", name, p.Preset, p.Hash)
		}
		m := open(t, Config{Resolver: orders(3), Spec: Spec{Defaults: Policy{Preset: name}}})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Errorf("call under %s: %v", name, err)
		}
	}
}

func TestPresetsTakeThePlaceOfTheBuiltInDefaults(t *testing.T) {
	spec := Spec{
		Defaults: Policy{Preset: PresetEnvoy, Timeout: time.Minute, Outlier: Outlier{Consecutive: 3}},
		Services: map[string]Policy{
			"envoy":   {Retry: Retry{Mode: On}},
			"linkerd": {Preset: PresetLinkerd, Outlier: Outlier{MaxEjected: 0.3}},
		},
	}
	m := open(t, Config{Resolver: discovery.Static{}, Spec: spec})
	for service, want := range map[string]struct {
		preset, balance      string
		timeout              time.Duration
		retry                Switch
		attempts             int
		propagate            Switch
		consecutive          int
		maxEjected, panicked float64
	}{
		// Built-in, preset, defaults and service, each where those after it say nothing.
		"envoy":   {PresetEnvoy, "weighted-round-robin", time.Minute, On, 2, On, 3, 0.1, 0.5},
		"other":   {PresetEnvoy, "weighted-round-robin", time.Minute, Off, 2, On, 3, 0.1, 0.5},
		"linkerd": {PresetLinkerd, "peak-ewma", time.Minute, Off, 2, On, 3, 0.3, -1},
	} {
		s, err := m.service(service)
		if err != nil {
			t.Fatal(err)
		}
		got, p := want, s.policy
		got.preset, got.balance, got.timeout, got.retry, got.attempts = p.Preset, p.Balance, p.Timeout, p.Retry.Mode, p.Retry.Attempts
		got.propagate, got.consecutive, got.maxEjected, got.panicked = p.Propagate, p.Outlier.Consecutive, p.Outlier.MaxEjected, p.Panic
		if got != want {
			t.Errorf("policy of %s = %+v, want %+v", service, got, want)
		}
	}
}

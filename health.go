package zerohop

import (
	"time"

	"github.com/zerohop/zerohop/loadbalance"
)

// Outlier says when an endpoint is ejected, which is to say gets no calls for a while because it fails more than others; see
// loadbalance.OutlierConfig for the fields. When an ejection is over one call probes the endpoint. While more
// than half of the endpoints are ejected, ejections do not count.
type Outlier struct {
	// Mode switches ejection. The built-in default is On.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Consecutive failures that eject. The built-in default is 5; less than 0 means that none do.
	Consecutive int `json:"consecutive,omitempty" yaml:"consecutive,omitempty"`
	// FailureRatio is the share of failures within Window above which an endpoint is ejected. The built-in default is 0.2; less
	// than 0 means that none ejects.
	FailureRatio float64 `json:"failureRatio,omitempty" yaml:"failureRatio,omitempty"`
	// MinResponses is the volume below which FailureRatio says nothing. The built-in default is 5.
	MinResponses int `json:"minResponses,omitempty" yaml:"minResponses,omitempty"`
	// Deviations below the mean success rate of the siblings that eject. The built-in default is not to look at them.
	Deviations float64 `json:"deviations,omitempty" yaml:"deviations,omitempty"`
	// MinHosts is how many endpoints Deviations and Latency compare at least. The built-in default is 5.
	MinHosts int `json:"minHosts,omitempty" yaml:"minHosts,omitempty"`
	// MinVolume is the volume below which Deviations says nothing. The built-in default is 100.
	MinVolume int `json:"minVolume,omitempty" yaml:"minVolume,omitempty"`
	// Latency is how many times the median latency of the siblings ejects. The built-in default is not to look at it.
	Latency float64 `json:"latency,omitempty" yaml:"latency,omitempty"`
	// Window is the time over which responses count. The built-in default is 10 s.
	Window time.Duration `json:"window,omitempty" yaml:"window,omitempty"`
	// Ejection and MaxEjection are how long the first ejection and the longest one last. The built-in defaults are 1 s
	// and 60 s.
	Ejection    time.Duration `json:"ejection,omitempty" yaml:"ejection,omitempty"`
	MaxEjection time.Duration `json:"maxEjection,omitempty" yaml:"maxEjection,omitempty"`
	// Jitter is the share of an ejection that may be left out at random. The built-in default is 0.5; less than 0 means none.
	Jitter float64 `json:"jitter,omitempty" yaml:"jitter,omitempty"`
	// MaxEjected is the largest share of the endpoints that may be ejected. The built-in default is 0.5.
	MaxEjected float64 `json:"maxEjected,omitempty" yaml:"maxEjected,omitempty"`
	// Linear makes each ejection longer than the one before by Ejection, instead of twice as long. The built-in default is Off.
	Linear Switch `json:"linear,omitempty" yaml:"linear,omitempty"`
	// Absolute takes the thresholds as they stand, however the siblings fare. The built-in default is Off: where all fail
	// alike it is the service that fails.
	Absolute Switch `json:"absolute,omitempty" yaml:"absolute,omitempty"`
	// One allows the ejection of one endpoint where MaxEjected allows none. The built-in default is Off.
	One Switch `json:"one,omitempty" yaml:"one,omitempty"`
}

func (o Outlier) config() loadbalance.OutlierConfig {
	return loadbalance.OutlierConfig{
		Consecutive: o.Consecutive, FailureRatio: o.FailureRatio, MinResponses: o.MinResponses,
		Deviations: o.Deviations, MinHosts: o.MinHosts, MinVolume: o.MinVolume, Latency: o.Latency,
		Window: o.Window, Ejection: o.Ejection, MaxEjection: o.MaxEjection,
		Jitter: o.Jitter, MaxEjected: o.MaxEjected, One: o.One == On,
		Linear: o.Linear == On, Absolute: o.Absolute == On,
	}
}

func (o Outlier) over(wide Outlier) Outlier {
	return Outlier{
		Mode:         pick(o.Mode, wide.Mode),
		Consecutive:  pick(o.Consecutive, wide.Consecutive),
		FailureRatio: pick(o.FailureRatio, wide.FailureRatio),
		MinResponses: pick(o.MinResponses, wide.MinResponses),
		Deviations:   pick(o.Deviations, wide.Deviations),
		MinHosts:     pick(o.MinHosts, wide.MinHosts),
		MinVolume:    pick(o.MinVolume, wide.MinVolume),
		Latency:      pick(o.Latency, wide.Latency),
		Window:       pick(o.Window, wide.Window),
		Ejection:     pick(o.Ejection, wide.Ejection),
		MaxEjection:  pick(o.MaxEjection, wide.MaxEjection),
		Jitter:       pick(o.Jitter, wide.Jitter),
		MaxEjected:   pick(o.MaxEjected, wide.MaxEjected),
		Linear:       pick(o.Linear, wide.Linear),
		Absolute:     pick(o.Absolute, wide.Absolute),
		One:          pick(o.One, wide.One),
	}
}

// SlowStart lets endpoints that are new, or back from an ejection, come up to their share of the calls over a while; see
// loadbalance.SlowStart for the fields. Those of the first answer of the resolver have nobody to be compared with.
type SlowStart struct {
	// Mode switches it. The built-in default is On.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Window is how long it takes. The built-in default is 10 s.
	Window time.Duration `json:"window,omitempty" yaml:"window,omitempty"`
	// Min is the least part of a share. The built-in default is 0.1.
	Min float64 `json:"min,omitempty" yaml:"min,omitempty"`
	// Aggression above 1 makes the beginning steeper. The built-in default is 1.
	Aggression float64 `json:"aggression,omitempty" yaml:"aggression,omitempty"`
}

func (s SlowStart) config() loadbalance.SlowStart {
	return loadbalance.SlowStart{Window: s.Window, Min: s.Min, Aggression: s.Aggression}
}

func (s SlowStart) over(wide SlowStart) SlowStart {
	return SlowStart{
		Mode:       pick(s.Mode, wide.Mode),
		Window:     pick(s.Window, wide.Window),
		Min:        pick(s.Min, wide.Min),
		Aggression: pick(s.Aggression, wide.Aggression),
	}
}

// Locality keeps calls in Config.Zone as long as its endpoints can carry them; see loadbalance.Locality.
type Locality struct {
	// Mode switches it. The built-in default is On. It matters only if the zone of the process is known; see Config.Zone.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Low and High bound the calls in flight per endpoint of the zone: above High, or when the zone is twice as slow as
	// usual, and while it is slower than others, calls leave it, and below Low they return. The built-in defaults are 0.8
	// and 2.
	Low  float64 `json:"low,omitempty" yaml:"low,omitempty"`
	High float64 `json:"high,omitempty" yaml:"high,omitempty"`
}

func (l Locality) config(zone string, late bool) loadbalance.Locality {
	return loadbalance.Locality{Zone: zone, Late: late, Low: l.Low, High: l.High}
}

func (l Locality) over(wide Locality) Locality {
	return Locality{Mode: pick(l.Mode, wide.Mode), Low: pick(l.Low, wide.Low), High: pick(l.High, wide.High)}
}

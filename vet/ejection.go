package vet

import (
	"math"

	"github.com/zerohop/zerohop"
)

// ejection looks at whether an endpoint that fails can be ejected at all, and whether that has an effect.
func (r *runner) ejection(u *use) {
	o := u.p.Outlier
	if o.Mode != zerohop.On {
		return
	}
	if u.p.Panic >= 1 && u.explicit("panic") {
		r.report(u, panicUndoesEjection, Warning, u.blame("panic"), "panic is %v: as soon as one endpoint is ejected or fails its checks calls go to all of them again. Set it to 0.5, or to less than 0 to have ejections count always", u.p.Panic)
		return
	}
	if u.load == nil || u.load.endpoints < 2 {
		return
	}
	n := float64(u.load.endpoints)
	if s := u.p.Subset; s > 0 && n > fewEndpoints {
		n = math.Min(n, math.Max(float64(s), 1))
	}
	if capped := o.MaxEjected * n * (1 + 1e-9); capped < 1 && o.One != zerohop.On {
		r.report(u, ejectionCapZero, Warning, u.blame("outlier.maxEjected", "outlier.mode"), "%.3g of %v endpoints (maxEjected) is less than one, so none is ever ejected: set outlier.maxEjected to %.2g or more, or outlier.one to on",
			o.MaxEjected, n, math.Ceil(100/n)/100)
		return
	}
	if u.p.Panic > 0 && n-1 < u.p.Panic*n {
		r.report(u, panicUndoesEjection, Warning, u.blame("panic"), "with one of %v endpoints ejected %.3g of them are in service, less than the threshold of %.3g, so calls go to all of them again: set panic to %.3g or less",
			n, (n-1)/n, u.p.Panic, math.Floor(100*(n-1)/n)/100)
		return
	}
	_, rate := u.perProcess()
	responses := rate / n * o.Window.Seconds() // of an endpoint within the window
	if rate == 0 || o.Consecutive > 0 || o.Latency > 0 {
		return
	}
	ratio := o.FailureRatio >= 0 && responses >= float64(o.MinResponses)
	deviations := o.Deviations > 0 && responses >= float64(o.MinVolume) && n >= float64(o.MinHosts)
	if !ratio && !deviations {
		r.report(u, outlierNeverEjects, Warning, u.blame("outlier.minResponses", "outlier.minVolume", "outlier.window", "outlier.consecutive"),
			"at %.3g calls per second and process each of %v endpoints gives %.3g responses within %v, and failureRatio needs %d, deviations %d of %d endpoints: lower these, lengthen the window, or set consecutive",
			rate, n, responses, o.Window, o.MinResponses, o.MinVolume, o.MinHosts)
	}
}

// fewEndpoints are so few that every process knows them all; see loadbalance.Subset.
const fewEndpoints = 32

package vet

import "github.com/zerohop/zerohop"

// limits compares what refuses calls with the load.
func (r *runner) limits(u *use) {
	if u.load == nil {
		return
	}
	rate, all := u.perProcess()
	if u.policy != "" && !u.own("rateLimit") {
		rate = all // the route shares the limit of the service
	}
	if l := u.p.RateLimit; l.Mode == zerohop.On && rate > l.Rate*(1+1e-9) {
		r.report(u, rateLimitBelowRate, Error, u.blame("rateLimit.rate"), "each of %d processes makes %.4g calls per second and may make %.4g, so %.3g %% are refused: raise rateLimit.rate above %.4g",
			u.load.processes, rate, l.Rate, 100*(1-l.Rate/rate), rate)
	}
	rate, _ = u.perProcess()
	if u.policy != "" && !u.own("limit") {
		rate = all
	}
	if l, busy := u.p.Limit, rate*u.load.latency.P50.Seconds(); l.Mode == zerohop.On && busy > float64(l.Max) {
		r.report(u, limitBelowLoad, Error, u.blame("limit.max", "limit.mode"), "%.4g calls per second and process that take %v (p50) are %.4g in flight, and %d may be: raise limit.max to %.0f or more",
			rate, u.load.latency.P50, busy, l.Max, 2*busy)
	}
	n := u.load.endpoints
	if l, busy := u.p.EndpointLimit, all*u.load.latency.P50.Seconds(); l.Mode == zerohop.On && n > 0 && busy > float64(l.Max)*float64(n) {
		r.report(u, endpointLimitBelowLoad, Error, u.blame("endpointLimit.max", "endpointLimit.mode"), "%.4g calls per second and process that take %v (p50) are %.4g in flight, and %d endpoints take %d each: raise endpointLimit.max to %.0f or more",
			all, u.load.latency.P50, busy, n, l.Max, 2*busy/float64(n))
	}
}

// own reports whether the policy of the route sets anything of a stage, and so has one of its own.
func (u *use) own(stage string) bool {
	p, ok := u.doc.Spec.Policies[u.policy]
	switch {
	case !ok:
		return false
	case stage == "limit":
		return p.Limit != zerohop.Limit{}
	default:
		return p.RateLimit != zerohop.RateLimit{}
	}
}

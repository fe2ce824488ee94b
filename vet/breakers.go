package vet

import (
	"fmt"
	"time"

	"github.com/zerohop/zerohop"
)

// breakers looks at whether they can open, and not too easily.
func (r *runner) breakers(u *use) {
	if b := u.p.ServiceBreaker; b.Mode == zerohop.On || b.Mode == zerohop.Observe {
		_, rate := u.perProcess()
		r.breaker(u, "serviceBreaker", b, rate)
		if n := u.attempts(); b.Consecutive <= uint32(n) && n > 1 {
			r.report(u, breakerTripsOnOneCall, Warning, u.blame("serviceBreaker.consecutive"), "%d failures in a row open the breaker, and one call makes up to %d attempts: raise serviceBreaker.consecutive above %d", b.Consecutive, n, 5*n)
		}
	}
	if b := u.p.Breaker; b.Mode == zerohop.On {
		_, rate := u.perProcess()
		if u.load != nil && u.load.endpoints > 0 {
			r.breaker(u, "breaker", b, rate/float64(u.load.endpoints))
		} else {
			r.breaker(u, "breaker", b, 0)
		}
	}
}

// breaker looks at one that sees so many attempts per second, 0 if that is not known.
func (r *runner) breaker(u *use, field string, b zerohop.Breaker, rate float64) {
	if bound := least(u.p.AttemptTimeout, u.p.Timeout); b.SlowAfter > 0 && bound > 0 && b.SlowAfter >= bound && u.explicit(field+".slowAfter") {
		r.report(u, breakerSlowAfterNever, Warning, u.blame(field+".slowAfter"), "an answer is slow after %v, and attempts are cut after %v: lower %s.slowAfter below that", b.SlowAfter, bound, field)
	}
	if rate == 0 || b.Calls > 0 {
		return
	}
	const many = 1 << 20 // of failures in a row: nobody waits for so many
	seen := rate * b.Window.Seconds()
	if seen >= float64(b.MinRequests) {
		return
	}
	ratio, slow := field+".minRequests", ""
	if b.SlowAfter > 0 || b.SlowFactor > 0 {
		slow = " and slowRatio"
	}
	switch {
	case b.Consecutive >= many:
		r.report(u, breakerNeverTrips, Warning, u.blame(ratio, field+".window", field+".mode"),
			"at %.3g calls per second %.3g come within the window of %v, and it needs %d (minRequests) to open: lower minRequests to %v, or lengthen the window to %v",
			rate, seen, b.Window, b.MinRequests, max(int(seen/2), 1), longer(b.MinRequests, rate))
	case u.explicit(ratio, field+".ratio") || slow != "" && u.explicit(field+".slowAfter", field+".slowFactor"):
		r.report(u, breakerNeverTrips, Warning, u.blame(ratio, field+".ratio", field+".slowAfter", field+".slowFactor"),
			"at %.3g calls per second %.3g come within the window of %v, and ratio%s needs %d (minRequests): only %s open it. Lower minRequests to %v, or lengthen the window to %v",
			rate, seen, b.Window, slow, b.MinRequests, plural(b.Consecutive, "failure")+" in a row", max(int(seen/2), 1), longer(b.MinRequests, rate))
	}
}

// longer returns a window in which there are twice as many calls as it takes.
func longer(n uint32, rate float64) time.Duration {
	return time.Duration(2*float64(n)/rate*float64(time.Second)).Round(time.Second) + time.Second
}

func plural(n uint32, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

package zerohop

import (
	"math"
	"strconv"
	"time"

	"github.com/zerohop/zerohop/routing"
)

// The headers by which calls ask for faults where routing.Fault.ByHeader lets them. They go on to the service like others.
const (
	faultDelayHeader = "Zerohop-Fault-Delay"
	faultAbortHeader = "Zerohop-Fault-Abort"
	faultCodeHeader  = "Zerohop-Fault-Code"
)

const (
	defaultMaxHeld = 100         // routing.Fault.MaxActive
	maxDelay       = time.Minute // as for routing.Fault.Delay
	leastAbort     = 400
	mostAbort      = 599
	mostCode       = 16
)

// injection is what a fault does to one call. The zero value does nothing.
type injection struct {
	delay  time.Duration
	status int    // that the call fails with; 0 if it does not
	code   uint32 // the same for RPCs
}

// inject decides what a fault does to a call with the given headers. Random words are taken only for percentages that leave
// something to chance.
func inject(f *routing.Fault, h routing.Values, random func() uint64) (in injection) {
	in = injection{delay: f.Delay, status: f.Abort, code: f.AbortCode}
	if f.ByHeader {
		in = askedFor(f, h)
	}
	if in.delay > 0 && !among(f.DelayPercent, random) {
		in.delay = 0
	}
	if in.status > 0 && !among(f.AbortPercent, random) {
		in.status, in.code = 0, 0
	}
	if in.status > 0 && in.code == 0 {
		in.code = codeOf(in.status)
	}
	return in
}

// askedFor returns what a call asks for, as far as the fault lets it. What makes no sense is not asked for.
func askedFor(f *routing.Fault, h routing.Values) (in injection) {
	if h == nil {
		return in
	}
	if ms, ok := asked(h, faultDelayHeader, 1, math.MaxInt32); ok {
		in.delay = min(time.Duration(ms)*time.Millisecond, maxDelay)
		if f.Delay > 0 {
			in.delay = min(in.delay, f.Delay)
		}
	}
	status, byStatus := asked(h, faultAbortHeader, leastAbort, mostAbort)
	code, byCode := asked(h, faultCodeHeader, 1, mostCode)
	switch {
	case !byStatus && !byCode:
	case f.Abort > 0:
		in.status, in.code = f.Abort, f.AbortCode
	case byStatus:
		in.status, in.code = status, uint32(code)
	default:
		in.status, in.code = statusOf(uint32(code)), uint32(code)
	}
	return in
}

// asked returns the value of a header as a number in the given range.
func asked(h routing.Values, name string, least, most int) (n int, ok bool) {
	v := h.Get(name)
	if v == "" || len(v) > 10 {
		return 0, false
	}
	u, err := strconv.ParseUint(v, 10, 31)
	if n = int(u); err != nil || n < least || n > most {
		return 0, false
	}
	return n, true
}

// among reports whether a call is among so many percent of all. nil means all.
func among(percent *float64, random func() uint64) bool {
	switch {
	case percent == nil || *percent >= 100:
		return true
	case !(*percent > 0):
		return false
	}
	return float64(random()>>11) < *percent/100*(1<<53) // exact: a float64 has 53 bits
}

package serviceconfig

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/resilience"
)

// method returns the policy of a method.
func (im *importer) method(at string, m *methodConfig) zerohop.Policy {
	p := zerohop.Policy{Timeout: im.duration(at+".timeout", importing.Take(&m.Timeout))}
	retry, hedging := importing.Take(&m.RetryPolicy), importing.Take(&m.HedgingPolicy)
	if retry != nil && hedging != nil {
		im.Fail(at+".hedgingPolicy", "excludes retryPolicy")
		return p
	}
	if retry != nil {
		im.retry(at+".retryPolicy", retry, &p)
	}
	if hedging != nil {
		im.hedging(at+".hedgingPolicy", hedging, &p)
	}
	return p
}

func (im *importer) attempts(at string, n int) int {
	if n < 2 {
		im.Fail(at, "must be 2 or more, got %d", n)
		return 2
	}
	if n > resilience.MaxAttempts {
		im.Lose(at, importing.Approximated, "%d become %d, as in gRPC", n, resilience.MaxAttempts)
	}
	return min(n, resilience.MaxAttempts)
}

func (im *importer) retry(at string, r *retryPolicy, p *zerohop.Policy) {
	p.Idempotent = zerohop.On
	p.Retry = zerohop.Retry{
		Mode: zerohop.On, Attempts: im.attempts(at+".maxAttempts", r.MaxAttempts),
		Base: im.duration(at+".initialBackoff", r.InitialBackoff), Max: im.duration(at+".maxBackoff", r.MaxBackoff),
	}
	if p.Retry.Max == 0 || p.Retry.Base == 0 {
		im.Fail(at, "initialBackoff and maxBackoff must be more than 0")
		return
	}
	if p.Retry.Base > p.Retry.Max {
		p.Retry.Base = p.Retry.Max
		im.Lose(at+".initialBackoff", importing.Approximated, "becomes maxBackoff, which is less")
	}
	if r.BackoffMultiplier != 2 {
		im.Lose(at+".backoffMultiplier", importing.Approximated, "%v becomes 2", r.BackoffMultiplier)
	}
	p.Backup.Mode = zerohop.Off // gRPC has none beside retries
	im.codes(at+".retryableStatusCodes", r.RetryableStatusCodes, "is not repeated but by Config.Classify")
}

func (im *importer) hedging(at string, h *hedgingPolicy, p *zerohop.Policy) {
	p.Idempotent = zerohop.On
	p.Retry.Mode = zerohop.On
	p.Retry.Attempts = im.attempts(at+".maxAttempts", h.MaxAttempts)
	p.Backup = zerohop.Backup{Mode: zerohop.On, Min: im.duration(at+".hedgingDelay", h.HedgingDelay)}
	im.Lose(at+".hedgingDelay", importing.Approximated, "%q is the least that an attempt runs before another one joins it; that follows what the method usually takes", h.HedgingDelay)
	if h.MaxAttempts > 2 {
		im.Lose(at+".maxAttempts", importing.Approximated, "one slow attempt is joined by one other; the rest are for retries")
	}
	im.codes(at+".nonFatalStatusCodes", h.NonFatalStatusCodes, "ends the call but by Config.Classify")
}

// names of gRPC codes, by number.
var names = strings.Fields(`OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED
	RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED`)

// codes reports those that zerohop does otherwise about.
func (im *importer) codes(at string, list []any, otherwise string) {
	unavailable := false
	for i, c := range list {
		at := fmt.Sprintf("%s[%d]", at, i)
		code := -1
		switch c := c.(type) {
		case string:
			code = slices.Index(names, strings.ToUpper(c))
		case float64:
			if c == float64(int(c)) {
				code = int(c)
			}
		}
		switch {
		case code < 0 || code >= len(names):
			im.Fail(at, "%v is no status code", c)
		case names[code] == "UNAVAILABLE":
			unavailable = true
		case names[code] == "RESOURCE_EXHAUSTED":
			im.Lose(at, importing.Approximated, "RESOURCE_EXHAUSTED is repeated where the server names a pause")
		default:
			im.Lose(at, importing.Refused, "%s %s", names[code], otherwise)
		}
	}
	if !unavailable {
		im.Lose(at, importing.Approximated, "UNAVAILABLE is repeated, too")
	}
}

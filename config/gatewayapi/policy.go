package gatewayapi

import (
	"fmt"
	"slices"
	"time"

	gateway "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/resilience"
)

// duration returns a duration of the Gateway API (GEP-2257), 0 if it is unset or none.
func (im *importer) duration(at string, p *gateway.Duration) time.Duration {
	if p == nil {
		return 0
	}
	d, err := time.ParseDuration(string(*p))
	switch {
	case err != nil || d < 0:
		im.Fail(at, "%q is no duration", string(*p))
		return 0
	case d == 0:
		im.Lose(at, importing.Approximated, "0 is the default of zerohop, which is no limit where nothing else sets one")
	}
	return d
}

func (im *importer) timeouts(at string, t *gateway.HTTPRouteTimeouts) zerohop.Policy {
	if t == nil {
		return zerohop.Policy{}
	}
	return zerohop.Policy{
		Timeout:        im.duration(at+".request", t.Request),
		AttemptTimeout: im.duration(at+".backendRequest", t.BackendRequest),
	}
}

// retry sets when calls are repeated. Attempts of the Gateway API are those after the first one.
func (im *importer) retry(at string, r *gateway.HTTPRouteRetry, p *zerohop.Policy) {
	if r == nil {
		return
	}
	p.Retry.Mode = zerohop.On
	p.Retry.Base = im.duration(at+".backoff", r.Backoff)
	if r.Attempts != nil {
		switch n := *r.Attempts; {
		case n <= 0:
			p.Retry = zerohop.Retry{Mode: zerohop.Off}
			return
		case n >= resilience.MaxAttempts:
			im.Lose(at+".attempts", importing.Approximated, "%d retries become %d: a call is sent %d times at most", n, resilience.MaxAttempts-1, resilience.MaxAttempts)
			p.Retry.Attempts = resilience.MaxAttempts
		default:
			p.Retry.Attempts = n + 1
		}
	}
	if p.Retry.Base > defaultMax {
		p.Retry.Max = p.Retry.Base
	}
	im.Lose(at, importing.Approximated, "only calls that are idempotent are repeated, and others that were not sent")
	for i, code := range r.Codes {
		if !resilience.HTTPStatus(int(code), -1).Retry {
			im.Lose(fmt.Sprintf("%s.codes[%d]", at, i), importing.Refused, "%d is not worth repeating but by Config.Classify", code)
		}
	}
	for _, code := range []gateway.HTTPRouteRetryStatusCode{429, 502, 503, 504} {
		if len(r.Codes) > 0 && !slices.Contains(r.Codes, code) {
			im.Lose(at+".codes", importing.Approximated, "%d is repeated, too, but by Config.Classify", code)
		}
	}
}

// defaultMax is the longest pause of the built-in policy.
const defaultMax = 250 * time.Millisecond

// session sets what keeps calls on one endpoint.
func (im *importer) session(at string, s *gateway.SessionPersistence, p *zerohop.Policy) {
	if s == nil {
		return
	}
	name := value(s.SessionName, "")
	if name == "" {
		name = "session"
		im.Lose(at+".sessionName", importing.Approximated, "is chosen to be %q", name)
	}
	lifetime := im.duration(at+".absoluteTimeout", s.AbsoluteTimeout)
	switch t := value(s.Type, gateway.CookieBasedSessionPersistence); t {
	case gateway.CookieBasedSessionPersistence:
		p.Sticky.Cookie.Name = name
		kind := gateway.SessionCookieLifetimeType
		if s.CookieConfig != nil {
			kind = value(s.CookieConfig.LifetimeType, kind)
		}
		if kind == gateway.PermanentCookieLifetimeType {
			p.Sticky.Cookie.TTL = lifetime.Round(time.Second)
			lifetime = 0
		}
	case gateway.HeaderBasedSessionPersistence:
		p.Sticky.Header = name
		if s.CookieConfig != nil {
			im.Lose(at+".cookieConfig", importing.Ignored, "there is no cookie")
		}
	default:
		im.Lose(at+".type", importing.Refused, "%q is no type that is known: there are no sessions", string(t))
		return
	}
	if lifetime > 0 {
		im.Lose(at+".absoluteTimeout", importing.Approximated, "the session lasts as long as the client keeps it")
	}
}

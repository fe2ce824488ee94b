//lint:file-ignore SA1019 manifests still have the deprecated fields

package istio

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"istio.io/api/networking/v1alpha3"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// action sets what a route does, and returns what takes the place of the path or of the prefix that matched.
func (im *importer) action(d *importing.Document, b *draft, r *v1alpha3.HTTPRoute) (rewrite string) {
	rule, p := &b.rule, &b.policy
	if t := importing.Take(&r.Timeout); t != nil {
		p.Timeout = im.duration(b.at+".timeout", t)
	}
	im.retries(b.at+".retries", importing.Take(&r.Retries), p)
	im.fault(b.at+".fault", importing.Take(&r.Fault), &rule.Fault)
	var perDestination routing.Headers // of the response
	im.headers(b.at+".headers", importing.Take(&r.Headers), &rule.Rewrite.Request, &rule.Rewrite.Response)
	if w := importing.Take(&r.Rewrite); w != nil {
		rule.Rewrite.Host, rewrite = w.Authority, w.Uri
		if w.UriRegexRewrite != nil {
			rule.Rewrite.Path.Regex, rule.Rewrite.Path.Replacement = w.UriRegexRewrite.Match, replacement(w.UriRegexRewrite.Rewrite)
		}
	}
	im.mirrors(d, b, r)
	im.destinations(d, b, importing.Take(&r.Route), &perDestination)

	refuse := func(field, note string) {
		im.Lose(b.at+"."+field, importing.Refused, "%s: calls are answered with 500", note)
		rule.Response = importing.Failure()
	}
	switch {
	case r.Redirect != nil:
		refuse("redirect", "a client does not redirect itself")
	case r.Delegate != nil:
		refuse("delegate", "delegation is not followed")
	case r.DirectResponse != nil:
		im.directResponse(rule, r.DirectResponse)
	case len(rule.Backends) == 0 && rule.Response == nil:
		refuse("route", "there is no destination")
	}
	r.Redirect, r.Delegate, r.DirectResponse = nil, nil, nil
	if rule.Response != nil {
		if len(rule.Mirrors)+len(rule.Backends) > 0 {
			im.Lose(b.at+".mirrors", importing.Ignored, "calls that are answered at once go nowhere else")
		}
		*rule = routing.Rule{Name: rule.Name, Response: rule.Response}
		return ""
	}
	return rewrite
}

// replacement turns \1 into ${1}.
func replacement(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && '0' <= s[i+1] && s[i+1] <= '9':
			i++
			fmt.Fprintf(&b, "${%c}", s[i])
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '\\':
			i++
			b.WriteByte('\\')
		case s[i] == '$':
			b.WriteString("$$")
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func (im *importer) directResponse(rule *routing.Rule, d *v1alpha3.HTTPDirectResponse) {
	rule.Response = &routing.Response{Status: int(d.Status)}
	if d.Status < 300 {
		rule.Response.Code = 12 // RPCs have no fixed replies
	}
	switch body := d.GetBody().GetSpecifier().(type) {
	case *v1alpha3.HTTPBody_String_:
		rule.Response.Body = body.String_
	case *v1alpha3.HTTPBody_Bytes:
		rule.Response.Body = string(body.Bytes)
	}
}

// duration returns a duration, 0 if it is none.
func (im *importer) duration(at string, d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	v := d.AsDuration()
	switch {
	case v < 0:
		im.Fail(at, "must not be negative, got %v", v)
		return 0
	case v == 0:
		im.Lose(at, importing.Approximated, "0 is the default of zerohop, which is no limit where nothing else sets one")
	}
	return v
}

// retried are the conditions of Envoy that zerohop repeats calls for, or repeats more for.
var retried = map[string]bool{
	"gateway-error": true, "reset": true, "reset-before-request": true, "connect-failure": true, "refused-stream": true,
	"unavailable": true, "envoy-ratelimited": true, "http3-post-connect-failure": true, "503": true, "502": true, "504": true, "429": true,
}

func (im *importer) retries(at string, r *v1alpha3.HTTPRetry, p *zerohop.Policy) {
	if r == nil {
		return
	}
	p.AttemptTimeout = im.duration(at+".perTryTimeout", r.PerTryTimeout)
	for _, on := range strings.Split(r.RetryOn, ",") {
		if on = strings.TrimSpace(on); on == "" || retried[on] {
			continue
		}
		im.Lose(at+".retryOn", importing.Approximated, "%q: 429, 502, 503, 504, UNAVAILABLE and broken connections are repeated, others but by Config.Classify", on)
	}
	if r.RetryOn != "" {
		im.Lose(at+".retryOn", importing.Approximated, "%q: only calls that are idempotent are repeated, and others that were not sent", r.RetryOn)
	}
	switch n := int(r.Attempts); {
	case n <= 0:
		p.Retry.Mode = zerohop.Off
	case n >= resilience.MaxAttempts:
		im.Lose(at+".attempts", importing.Approximated, "%d retries become %d: a call is sent %d times at most", n, resilience.MaxAttempts-1, resilience.MaxAttempts)
		p.Retry = zerohop.Retry{Mode: zerohop.On, Attempts: resilience.MaxAttempts}
	default:
		p.Retry = zerohop.Retry{Mode: zerohop.On, Attempts: n + 1}
	}
	if base := im.duration(at+".backoff", r.Backoff); base > 0 {
		p.Retry.Base, p.Retry.Max = base, 10*base // as in Envoy
	}
	im.rest((&v1alpha3.HTTPRetry{RetryRemoteLocalities: r.RetryRemoteLocalities, RetryIgnorePreviousHosts: r.RetryIgnorePreviousHosts}).ProtoReflect(), at, why)
}

// codes are the names of gRPC codes.
var codes = strings.Fields(`OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED
	RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED`)

func (im *importer) fault(at string, f *v1alpha3.HTTPFaultInjection, to *routing.Fault) {
	if d := f.GetDelay(); d != nil {
		at := at + ".delay"
		percent := float64(d.Percent)
		if d.Percentage != nil {
			percent = d.Percentage.Value
		}
		if d.Percent != 0 && d.Percentage != nil {
			im.Lose(at+".percent", importing.Ignored, "percentage counts")
		}
		switch t := d.HttpDelayType.(type) {
		case *v1alpha3.HTTPFaultInjection_Delay_FixedDelay:
			to.Delay, to.DelayPercent = im.duration(at+".fixedDelay", t.FixedDelay), &percent
			if to.Delay > time.Minute {
				im.Lose(at+".fixedDelay", importing.Approximated, "%v becomes 1m", to.Delay)
				to.Delay = time.Minute
			}
		case *v1alpha3.HTTPFaultInjection_Delay_ExponentialDelay:
			im.Lose(at+".exponentialDelay", importing.Ignored, "delays are fixed")
		}
		if percent == 0 || to.Delay == 0 {
			im.Lose(at, importing.Ignored, "it holds up no call")
			to.Delay, to.DelayPercent = 0, nil
		}
	}
	a := f.GetAbort()
	if a == nil {
		return
	}
	at += ".abort"
	percent := a.GetPercentage().GetValue()
	switch t := a.ErrorType.(type) {
	case *v1alpha3.HTTPFaultInjection_Abort_HttpStatus:
		to.Abort = int(t.HttpStatus)
	case *v1alpha3.HTTPFaultInjection_Abort_GrpcStatus:
		code := slices.Index(codes, t.GrpcStatus)
		if n, err := strconv.Atoi(t.GrpcStatus); err == nil && n < len(codes) {
			code = n
		}
		if code <= 0 {
			im.Lose(at+".grpcStatus", importing.Refused, "%q is no code that calls fail with", t.GrpcStatus)
			return
		}
		to.Abort, to.AbortCode = 500, uint32(code)
		im.Lose(at+".grpcStatus", importing.Approximated, "calls by HTTP fail with 500")
	case *v1alpha3.HTTPFaultInjection_Abort_Http2Error:
		im.Lose(at+".http2Error", importing.Ignored, "calls fail with a status")
	}
	to.AbortPercent = &percent
	if percent == 0 || to.Abort == 0 {
		im.Lose(at, importing.Ignored, "no call fails by it")
		to.Abort, to.AbortCode, to.AbortPercent = 0, 0, nil
	}
}

// headers takes what is to be done to headers.
func (im *importer) headers(at string, h *v1alpha3.Headers, request, response *routing.Headers) {
	for _, f := range []struct {
		at string
		of *v1alpha3.Headers_HeaderOperations
		to *routing.Headers
	}{{at + ".request", h.GetRequest(), request}, {at + ".response", h.GetResponse(), response}} {
		im.pairs(f.at+".set", f.of.GetSet(), &f.to.Set)
		im.pairs(f.at+".add", f.of.GetAdd(), &f.to.Add)
		for i, name := range f.of.GetRemove() {
			if im.changeable(fmt.Sprintf("%s.remove[%d]", f.at, i), routing.Headers{Remove: []string{name}}) {
				f.to.Remove = append(f.to.Remove, name)
			}
		}
	}
}

func (im *importer) pairs(at string, list map[string]string, to *map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		at, v := importing.Join(at, name), list[name]
		if strings.Count(v, "%") > 1 {
			im.Lose(at, importing.Refused, "%q: variables of Envoy are not known", v)
			continue
		}
		if _, have := (*to)[name]; !have && im.changeable(at, routing.Headers{Set: map[string]string{name: v}}) {
			if *to == nil {
				*to = map[string]string{}
			}
			(*to)[name] = v
		}
	}
}

// changeable reports whether a rule may change such a header, and loses it if not.
func (im *importer) changeable(at string, h routing.Headers) bool {
	_, err := routing.Compile([]routing.Rule{{Rewrite: routing.Rewrite{Request: h}}})
	if err != nil {
		im.Lose(at, importing.Refused, "the header is left as it is: %s", strings.ReplaceAll(strings.TrimPrefix(err.Error(), "routes[0].rewrite.request."), "\n", "; "))
	}
	return err == nil
}

package gatewayapi

import (
	"fmt"
	"strconv"
	"strings"

	gateway "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/routing"
)

// why says why fields mean nothing to a client.
var why = func() importing.Why {
	w := importing.Why{"status": {Severity: importing.Ignored, Note: "is what controllers say of the route"}}
	for _, filter := range []string{
		"requestHeaderModifier", "responseHeaderModifier", "requestMirror", "urlRewrite", "requestRedirect", "cors", "externalAuth", "extensionRef",
	} {
		for _, at := range []string{"spec.rules[].filters[].", "spec.rules[].backendRefs[].filters[]."} {
			w[at+filter] = importing.Reason{Severity: importing.Ignored, Note: "does not belong to the type of the filter"}
		}
	}
	return w
}()

func (im *importer) httpRoute(r *route) {
	h := r.http
	im.metadata(&h.ObjectMeta)
	hosts := im.hosts(r, &h.Spec.CommonRouteSpec, &h.Spec.Hostnames)
	if len(h.Spec.Rules) == 0 {
		h.Spec.Rules = make([]gateway.HTTPRouteRule, 1) // the default is one for every call
	}
	if len(hosts) > 0 {
		for i := range h.Spec.Rules {
			im.httpRule(r, i, hosts, &h.Spec.Rules[i])
		}
		im.Rest(h.Spec, "spec", why)
	}
	im.Rest(h.Status, "status", why)
}

func (im *importer) httpRule(r *route, i int, hosts []string, rule *gateway.HTTPRouteRule) {
	at := fmt.Sprintf("spec.rules[%d]", i)
	matches := across(hosts, im.httpMatches(at, importing.Take(&rule.Matches)))
	out := routing.Rule{Name: ruleName(r, i, importing.Take(&rule.Name))}
	p := im.timeouts(at+".timeouts", importing.Take(&rule.Timeouts))
	im.retry(at+".retry", importing.Take(&rule.Retry), &p)
	im.session(at+".sessionPersistence", importing.Take(&rule.SessionPersistence), &p)

	var e effects
	im.filters(at, rule.Filters, r.doc.Namespace, &e)
	im.backends(at, r.doc.Namespace, rule.BackendRefs, &out, &e)
	out.Rewrite, out.Mirrors = e.rewrite, e.mirrors
	im.answer(at, &out, e.failing)
	if e.replace == nil || out.Response != nil {
		im.add(at, out, matches, p)
		return
	}
	var rooted, named []routing.Match
	for _, m := range matches {
		switch {
		case m.Path == routing.Path{}:
			rooted = append(rooted, m)
		case m.Path.Prefix != "":
			named = append(named, m)
		default:
			im.Lose(at+".matches", importing.Refused, "without a prefix there is none to replace: the match is left out")
		}
	}
	out.Rewrite.Path.Prefix = e.replace
	im.add(at, out, named, p)
	// The prefix "/" is no condition in a match, so something goes before the path.
	before := strings.ReplaceAll(strings.TrimSuffix(*e.replace, "/"), "$", "$$")
	out.Rewrite.Path = routing.PathRewrite{Regex: "^/?", Replacement: before + "/"}
	im.add(at, out, rooted, p)
}

func (im *importer) add(at string, r routing.Rule, matches []routing.Match, p zerohop.Policy) {
	if len(matches) == 0 {
		return
	}
	r.Match, r.Or = matches[0], matches[1:]
	im.rules.Add(at, r, p)
}

// answer makes the rule one that fails if calls must not get past it, and leaves out what such a rule cannot have.
func (im *importer) answer(at string, r *routing.Rule, failing bool) {
	if failing {
		r.Response = importing.Failure()
	}
	if r.Response == nil {
		return
	}
	if len(r.Mirrors) > 0 {
		im.Lose(at+".filters", importing.Ignored, "calls that are answered with an error are not mirrored")
	}
	*r = routing.Rule{Name: r.Name, Response: r.Response}
}

// ruleName returns "namespace/name/rule".
func ruleName(r *route, i int, name *gateway.SectionName) string {
	rule := strconv.Itoa(i)
	if name != nil {
		rule = string(*name)
	}
	return r.name() + "/" + rule
}

func (im *importer) grpcRoute(r *route) {
	g := r.grpc
	im.metadata(&g.ObjectMeta)
	hosts := im.hosts(r, &g.Spec.CommonRouteSpec, &g.Spec.Hostnames)
	if len(g.Spec.Rules) == 0 {
		g.Spec.Rules = make([]gateway.GRPCRouteRule, 1)
	}
	if len(hosts) > 0 {
		for i := range g.Spec.Rules {
			im.grpcRule(r, i, hosts, &g.Spec.Rules[i])
		}
		im.Rest(g.Spec, "spec", why)
	}
	im.Rest(g.Status, "status", why)
}

func (im *importer) grpcRule(r *route, i int, hosts []string, rule *gateway.GRPCRouteRule) {
	at := fmt.Sprintf("spec.rules[%d]", i)
	matches := across(hosts, im.grpcMatches(at, importing.Take(&rule.Matches)))
	out := routing.Rule{Name: ruleName(r, i, importing.Take(&rule.Name))}
	var p zerohop.Policy
	im.session(at+".sessionPersistence", importing.Take(&rule.SessionPersistence), &p)
	var e effects
	filters := httpFilters(importing.Take(&rule.Filters))
	im.filters(at, filters, r.doc.Namespace, &e)
	refs := importing.Take(&rule.BackendRefs)
	backends := make([]gateway.HTTPBackendRef, len(refs))
	for i := range refs {
		backends[i] = gateway.HTTPBackendRef{BackendRef: refs[i].BackendRef, Filters: httpFilters(refs[i].Filters)}
	}
	im.backends(at, r.doc.Namespace, backends, &out, &e)
	out.Rewrite, out.Mirrors = e.rewrite, e.mirrors
	im.answer(at, &out, e.failing)
	im.add(at, out, matches, p)
	im.Rest(filters, at+".filters", why)
	im.Rest(backends, at+".backendRefs", why)
}

// httpFilters returns the filters of a GRPCRoute as those of an HTTPRoute, which have the same fields and more.
func httpFilters(list []gateway.GRPCRouteFilter) []gateway.HTTPRouteFilter {
	var filters []gateway.HTTPRouteFilter
	for _, f := range list {
		filters = append(filters, gateway.HTTPRouteFilter{
			Type: gateway.HTTPRouteFilterType(f.Type), RequestHeaderModifier: f.RequestHeaderModifier,
			ResponseHeaderModifier: f.ResponseHeaderModifier, RequestMirror: f.RequestMirror, ExtensionRef: f.ExtensionRef,
		})
	}
	return filters
}

package gatewayapi

import (
	"fmt"
	"regexp"
	"strings"

	gateway "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/routing"
)

// httpMatches returns the matches of a rule, without the service. A match that cannot be expressed is left out.
func (im *importer) httpMatches(at string, list []gateway.HTTPRouteMatch) []routing.Match {
	if len(list) == 0 {
		return []routing.Match{{}}
	}
	var matches []routing.Match
	for i := range list {
		h, at := &list[i], fmt.Sprintf("%s.matches[%d]", at, i)
		m, ok := routing.Match{}, true
		if path := importing.Take(&h.Path); path != nil {
			m.Path, ok = im.path(at+".path", path)
		}
		if method := importing.Take(&h.Method); method != nil {
			m.Method = string(*method)
		}
		var conditions []condition
		for _, c := range importing.Take(&h.Headers) {
			conditions = append(conditions, condition{string(c.Name), c.Value, string(value(c.Type, gateway.HeaderMatchExact))})
		}
		m.Headers = im.fields(at+".headers", conditions, true, &ok)
		conditions = nil
		for _, c := range importing.Take(&h.QueryParams) {
			conditions = append(conditions, condition{string(c.Name), c.Value, string(value(c.Type, gateway.QueryParamMatchExact))})
		}
		m.Query = im.fields(at+".queryParams", conditions, false, &ok)
		if ok && im.valid(at, m) {
			matches = append(matches, m)
		}
	}
	return matches
}

// path returns the condition on the path. The prefix "/" is none, so that it fits ambiguous paths, too; that changes no precedence,
// as it is the shortest one there is.
func (im *importer) path(at string, p *gateway.HTTPPathMatch) (routing.Path, bool) {
	v := value(p.Value, "/")
	switch t := value(p.Type, gateway.PathMatchPathPrefix); {
	case t == gateway.PathMatchPathPrefix && v == "/":
		return routing.Path{}, true
	case t == gateway.PathMatchPathPrefix:
		return routing.Path{Prefix: v}, true
	case t == gateway.PathMatchExact:
		return routing.Path{Exact: v}, true
	case t == gateway.PathMatchRegularExpression:
		return routing.Path{Regex: v}, true
	default:
		im.Lose(at+".type", importing.Refused, "%q is no type of a path that is known: the match is left out", string(t))
		return routing.Path{}, false
	}
}

type condition struct{ name, value, how string }

// fields returns conditions on headers or parameters. Of those on one name the first counts.
func (im *importer) fields(at string, list []condition, fold bool, ok *bool) []routing.Field {
	var fields []routing.Field
	seen := map[string]bool{}
	for i, c := range list {
		key := c.name
		if fold {
			key = strings.ToLower(key)
		}
		if seen[key] {
			im.Lose(fmt.Sprintf("%s[%d]", at, i), importing.Ignored, "the first condition on %q counts", c.name)
			continue
		}
		seen[key] = true
		f := routing.Field{Name: c.name}
		switch {
		case c.how == "Exact":
			f.Value = c.value
		case c.how == "RegularExpression":
			f.Regex = c.value
		default:
			im.Lose(fmt.Sprintf("%s[%d].type", at, i), importing.Refused, "%q is no type that is known: the match is left out", c.how)
			*ok = false
		}
		fields = append(fields, f)
	}
	return fields
}

// valid reports whether there can be such a match, and loses it if not.
func (im *importer) valid(at string, m routing.Match) bool {
	_, err := routing.Compile([]routing.Rule{{Match: m}})
	if err != nil {
		im.Lose(at, importing.Refused, "the match is left out: %s", strings.ReplaceAll(strings.ReplaceAll(err.Error(), "routes[0].match.", ""), "\n", "; "))
	}
	return err == nil
}

// grpcMatches returns the matches of a rule, without the service. A match that cannot be expressed is left out.
func (im *importer) grpcMatches(at string, list []gateway.GRPCRouteMatch) []routing.Match {
	if len(list) == 0 {
		return []routing.Match{{}}
	}
	var matches []routing.Match
	for i := range list {
		g, at := &list[i], fmt.Sprintf("%s.matches[%d]", at, i)
		m, ok := routing.Match{}, true
		if rpc := importing.Take(&g.Method); rpc != nil {
			service, method := value(rpc.Service, ""), value(rpc.Method, "")
			switch t := value(rpc.Type, gateway.GRPCMethodMatchExact); {
			case t == gateway.GRPCMethodMatchExact:
				m.RPC = routing.RPC{Service: service, Method: method}
			case t == gateway.GRPCMethodMatchRegularExpression:
				m.Path.Regex = "/" + part(service) + "/" + part(method)
				for _, r := range []string{service, method} { // a bracket too many would close ours
					if _, err := regexp.Compile(r); err != nil {
						im.Lose(at+".method", importing.Refused, "the match is left out: %v", err)
						ok = false
					}
				}
			default:
				im.Lose(at+".method.type", importing.Refused, "%q is no type that is known: the match is left out", string(t))
				ok = false
			}
		}
		var conditions []condition
		for _, c := range importing.Take(&g.Headers) {
			conditions = append(conditions, condition{string(c.Name), c.Value, string(value(c.Type, gateway.GRPCHeaderMatchExact))})
		}
		m.Headers = im.fields(at+".headers", conditions, true, &ok)
		if ok && im.valid(at, m) {
			matches = append(matches, m)
		}
	}
	return matches
}

// part returns the expression for a part of the path of an RPC.
func part(expr string) string {
	if expr == "" {
		return "[^/]+"
	}
	return "(?:" + expr + ")"
}

// across returns the matches for each of the hosts.
func across(hosts []string, matches []routing.Match) []routing.Match {
	var all []routing.Match
	for _, host := range hosts {
		for _, m := range matches {
			m.Service = host
			all = append(all, m)
		}
	}
	return all
}

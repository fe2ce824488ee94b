package istio

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"istio.io/api/networking/v1alpha3"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/routing"
)

// mesh is the gateway that stands for the sidecars.
const mesh = "mesh"

// draft is a rule whose matches may become more.
type draft struct {
	at     string
	rule   routing.Rule
	policy zerohop.Policy
	prefix string // to be replaced by rewrite; empty if none
	with   string
}

func (im *importer) virtualService(d *importing.Document, vs *v1alpha3.VirtualService) {
	hosts, gateways := importing.Take(&vs.Hosts), importing.Take(&vs.Gateways)
	if len(gateways) == 0 {
		gateways = []string{mesh}
	}
	if len(hosts) == 0 {
		im.Lose("spec", importing.Refused, "there are no hosts: a VirtualService that others delegate to is not imported")
		proto.Reset(vs)
		return
	}
	ports := map[uint32]bool{} // of the matches
	for _, r := range vs.Http {
		for _, m := range r.Match {
			if m.GetPort() != 0 {
				ports[m.Port] = true
			}
		}
	}
	var drafts []draft
	var matches [][]routing.Match
	for i, r := range vs.Http {
		at := at("spec.http", i)
		name := importing.Take(&r.Name)
		base := draft{at: at, rule: routing.Rule{Name: d.Namespace + "/" + d.Name + "/" + cmp.Or(name, strconv.Itoa(i))}}
		whole, prefixes := im.matches(d, at, r, hosts, gateways, ports)
		rewrite := im.action(d, &base, r)
		if rewrite == "" {
			for _, prefix := range slices.Sorted(maps.Keys(prefixes)) {
				whole = append(whole, prefixes[prefix]...)
			}
			prefixes = nil
		} else if base.rule.Response == nil {
			base.rule.Rewrite.Path.Full = rewrite
		}
		add := func(b draft, m []routing.Match) {
			if len(m) > 0 {
				drafts, matches = append(drafts, b), append(matches, m)
			}
		}
		add(base, whole)
		for _, prefix := range slices.Sorted(maps.Keys(prefixes)) {
			own := base
			own.prefix, own.with = prefix, rewrite
			add(own, prefixes[prefix])
		}
	}
	if !firstWins(matches) {
		im.Fail("spec.http", "too many matches: where later ones would come before earlier ones, they are more than %d", maxMatches)
		return
	}
	for i, b := range drafts {
		r := b.rule
		r.Match, r.Or = matches[i][0], matches[i][1:]
		if b.prefix != "" && r.Response == nil {
			r.Rewrite.Path = rewritten(b.prefix, b.with, matches[i])
		}
		im.rules.Add(b.at, r, b.policy)
	}
}

// rewritten returns what replaces a prefix in paths that fit one of the matches.
func rewritten(prefix, with string, matches []routing.Match) routing.PathRewrite {
	if !slices.ContainsFunc(matches, func(m routing.Match) bool { return m.Path.Prefix != prefix }) {
		return routing.PathRewrite{Prefix: &with}
	}
	segments := strings.TrimSuffix(prefix, "/")
	return routing.PathRewrite{
		Regex:       "^" + regexp.QuoteMeta(segments) + "(?:/|$)",
		Replacement: strings.ReplaceAll(strings.TrimSuffix(with, "/"), "$", "$$") + "/",
	}
}

// matches returns the matches of a route: those by prefix by their prefix, and all others.
func (im *importer) matches(d *importing.Document, path string, r *v1alpha3.HTTPRoute, hosts, gateways []string, ports map[uint32]bool) (whole []routing.Match, prefixes map[string][]routing.Match) {
	prefixes = map[string][]routing.Match{}
	if len(r.Match) == 0 {
		for _, s := range im.services(d, path, hosts, gateways) {
			prefixes["/"] = append(prefixes["/"], routing.Match{Service: s})
		}
		return nil, prefixes
	}
	for i, h := range r.Match {
		path := at(path+".match", i)
		m, ok := im.match(d, path, h)
		if port := importing.Take(&h.Port); port != 0 && len(ports) > 1 {
			im.Lose(path+".port", importing.Refused, "the match is left out: a service has one port, and the matches are for several")
			ok = false
		} else if port != 0 {
			im.Lose(path+".port", importing.Approximated, "the match is for all ports, not only %d", port)
		}
		among := gateways
		if own := importing.Take(&h.Gateways); len(own) > 0 {
			among = slices.DeleteFunc(slices.Clone(own), func(g string) bool { return !im.calledThrough(d, g) })
			if len(among) == 0 {
				im.Lose(path+".gateways", importing.Refused, "the match is left out: it is for calls through %s, for which the options name no host", strings.Join(own, ", "))
				ok = false
			}
		}
		services := im.services(d, path, hosts, among)
		if authority := h.Authority; authority != nil {
			exact, is := authority.MatchType.(*v1alpha3.StringMatch_Exact)
			h.Authority = nil
			if !is {
				im.Lose(path+".authority", importing.Refused, "the match is left out: only an exact host can be one")
				ok = false
			} else {
				named := im.named(d, exact.Exact)
				services = slices.DeleteFunc(services, func(s string) bool { return !covers(s, named) })
				for i := range services {
					services[i] = named
				}
				services = slices.Compact(services)
				if len(services) == 0 {
					im.Lose(path+".authority", importing.Ignored, "is none of the hosts: the match fits no call")
				}
			}
		}
		list := routing.Rule{Match: m}
		if _, err := routing.Compile([]routing.Rule{list}); ok && err != nil {
			im.Lose(path, importing.Refused, "the match is left out: %s", strings.ReplaceAll(strings.ReplaceAll(err.Error(), "routes[0].match.", ""), "\n", "; "))
			ok = false
		}
		for _, s := range services {
			if m.Service = s; !ok {
				continue
			}
			switch {
			case m.Path.Prefix != "":
				prefixes[m.Path.Prefix] = append(prefixes[m.Path.Prefix], m)
			case m.Path == routing.Path{}:
				prefixes["/"] = append(prefixes["/"], m)
			default:
				whole = append(whole, m)
			}
		}
	}
	return whole, prefixes
}

// calledThrough reports whether calls of the process go through a gateway, or through none if it is mesh.
func (im *importer) calledThrough(d *importing.Document, gateway string) bool {
	_, given := im.Gateway(gatewayName(d, gateway))
	return given || gateway == mesh
}

// gatewayName returns the namespace and the name of a gateway that an object names.
func gatewayName(d *importing.Document, gateway string) (namespace, name string) {
	if ns, name, ok := strings.Cut(gateway, "/"); ok {
		return ns, name
	}
	return d.Namespace, gateway
}

// services returns the services that calls are for to those hosts through those gateways.
func (im *importer) services(d *importing.Document, path string, hosts, gateways []string) []string {
	var services []string
	add := func(s string) {
		if !slices.Contains(services, s) {
			services = append(services, s)
		}
	}
	for _, g := range gateways {
		ns, name := gatewayName(d, g)
		stands, given := im.Gateway(ns, name)
		within := g == mesh || slices.Contains(gateways, mesh)
		for _, h := range hosts {
			switch {
			case h != "*" && !within && !given && importing.HostRef(h, d.Namespace, false).Namespace != "":
				im.Lose("spec.gateways", importing.Refused, "%s is a service of the cluster: calls to it do not go through gateway %s/%s, for which the options name no host", h, ns, name)
			case h != "*":
				add(im.named(d, h))
				switch {
				case g == mesh || given:
				case within:
					im.Lose("spec.gateways", importing.Ignored, "the process makes its calls without gateway %s/%s", ns, name)
				default:
					im.Lose("spec.gateways", importing.Approximated, "the routes are for calls to the hosts, not only through gateway %s/%s", ns, name)
				}
			case g == mesh, given && stands == "*":
				add("")
				im.Lose(path, importing.Approximated, "host * makes the routes rules for every call of the process, and calls that none is for go where they name")
			case given:
				add(strings.ToLower(stands))
			default:
				im.Lose("spec.gateways", importing.Refused, "the host is *, and the options name none for gateway %s/%s", ns, name)
			}
		}
	}
	return services
}

// named returns the service that a host stands for.
func (im *importer) named(d *importing.Document, host string) string {
	if strings.HasPrefix(host, "*") {
		return strings.ToLower(host)
	}
	return im.Service(importing.HostRef(host, d.Namespace, false), 0)
}

// match returns a match without the service, and false if it cannot be expressed.
func (im *importer) match(d *importing.Document, path string, h *v1alpha3.HTTPMatchRequest) (m routing.Match, ok bool) {
	ok = true
	refuse := func(field, format string, args ...any) {
		ok = false
		im.Lose(path+"."+field, importing.Refused, "the match is left out: "+format, args...)
	}
	fold := importing.Take(&h.IgnoreUriCase)
	if uri := importing.Take(&h.Uri); uri != nil {
		m.Path = im.uri(path+".uri", uri, fold)
	} else if fold {
		im.Lose(path+".ignoreUriCase", importing.Ignored, "there is no uri")
	}
	if method := importing.Take(&h.Method); method != nil {
		if exact, is := method.MatchType.(*v1alpha3.StringMatch_Exact); is {
			m.Method = exact.Exact
		} else {
			refuse("method", "only an exact method can be one")
		}
	}
	m.Headers = im.fields(path, "headers", importing.Take(&h.Headers), false, refuse)
	m.Headers = append(m.Headers, im.fields(path, "withoutHeaders", importing.Take(&h.WithoutHeaders), true, refuse)...)
	m.Query = im.fields(path, "queryParams", importing.Take(&h.QueryParams), false, refuse)
	if scheme := importing.Take(&h.Scheme); scheme != nil {
		refuse("scheme", "zerohop does not tell http from https")
	}
	labels := importing.Take(&h.SourceLabels)
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		switch v, have := im.Options.Labels[k]; {
		case im.Options.Labels == nil:
			refuse("sourceLabels", "the labels of the process are not known")
		case !have || v != labels[k]:
			refuse("sourceLabels", "is for callers with %s=%s", k, labels[k])
		default:
			im.Lose(path+".sourceLabels", importing.Ignored, "the process has %s=%s", k, v)
		}
	}
	if ns := importing.Take(&h.SourceNamespace); ns != "" && ns != im.Namespace() {
		refuse("sourceNamespace", "is for callers in %s, not for those in %s", ns, im.Namespace())
	} else if ns != "" {
		im.Lose(path+".sourceNamespace", importing.Ignored, "the process is in %s", ns)
	}
	return m, ok
}

// uri returns the condition on the path. The prefix "/" is none, so that it fits ambiguous paths, too.
func (im *importer) uri(path string, s *v1alpha3.StringMatch, fold bool) routing.Path {
	switch t := s.MatchType.(type) {
	case *v1alpha3.StringMatch_Exact:
		if fold {
			return routing.Path{Regex: "(?i:" + regexp.QuoteMeta(t.Exact) + ")"}
		}
		return routing.Path{Exact: t.Exact}
	case *v1alpha3.StringMatch_Regex:
		return routing.Path{Regex: t.Regex}
	case *v1alpha3.StringMatch_Prefix:
		if t.Prefix == "/" || t.Prefix == "" {
			return routing.Path{}
		}
		if fold {
			return routing.Path{Regex: "(?i:" + regexp.QuoteMeta(t.Prefix) + ").*"}
		}
		if strings.HasSuffix(t.Prefix, "/") {
			im.Lose(path, importing.Approximated, "%q also fits %q", t.Prefix, strings.TrimSuffix(t.Prefix, "/"))
		} else {
			im.Lose(path, importing.Approximated, "%q fits whole segments: %q, but not %q", t.Prefix, t.Prefix+"/x", t.Prefix+"x")
		}
		return routing.Path{Prefix: t.Prefix}
	}
	return routing.Path{}
}

// fields returns conditions on headers or parameters, in the order of their names.
func (im *importer) fields(path, field string, list map[string]*v1alpha3.StringMatch, not bool, refuse func(string, string, ...any)) []routing.Field {
	var fields []routing.Field
	for _, name := range slices.Sorted(maps.Keys(list)) {
		f := routing.Field{Name: name, Not: not}
		value := ""
		if s := list[name]; s != nil {
			switch t := s.MatchType.(type) {
			case *v1alpha3.StringMatch_Exact:
				f.Value, value = t.Exact, t.Exact
			case *v1alpha3.StringMatch_Prefix:
				f.Prefix, value = t.Prefix, t.Prefix
			case *v1alpha3.StringMatch_Regex:
				f.Regex, value = t.Regex, t.Regex
			}
		}
		f.Present = value == ""
		if field != "queryParams" {
			switch strings.ToLower(name) {
			case "uri", "scheme", "method", "authority", ":authority", ":method", ":path", ":scheme":
				refuse(field, "%q has a field of its own", name)
				continue
			}
		}
		fields = append(fields, f)
	}
	return fields
}

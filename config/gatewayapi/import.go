package gatewayapi

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"

	gateway "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
)

// group is the API group of routes.
const group = "gateway.networking.k8s.io"

// versions are those that have the types of v1.
var versions = map[string][]string{
	"HTTPRoute": {"v1", "v1beta1"},
	"GRPCRoute": {"v1", "v1alpha2"},
}

// Import turns the HTTPRoutes and GRPCRoutes in docs, YAML or JSON with any number of documents, into a Spec. Objects of other
// kinds are skipped. The error joins every mistake, such as fields that do not exist. The Spec is valid if there is none.
func Import(docs []byte, opts importing.Options) (zerohop.Spec, importing.Report, error) {
	all, err := importing.Documents(docs, opts)
	if err != nil {
		return zerohop.Spec{}, importing.Report{}, err
	}
	im := &importer{Importer: importing.NewImporter(opts)}
	im.rules = importing.NewRules(im.Importer, &im.spec)
	var routes []*route
	for i := range all {
		if r := im.read(&all[i]); r != nil {
			routes = append(routes, r)
		}
	}
	slices.SortStableFunc(routes, func(a, b *route) int {
		return cmp.Or(a.doc.Created.Compare(b.doc.Created), strings.Compare(a.name(), b.name()))
	})
	for _, r := range routes {
		im.Begin(r.doc)
		if r.http != nil {
			im.httpRoute(r)
		} else {
			im.grpcRoute(r)
		}
	}
	im.rules.Close(false)
	report, err := im.Finish()
	if err == nil {
		err = im.spec.Validate()
	}
	if err != nil {
		return zerohop.Spec{}, report, err
	}
	return im.spec, report, nil
}

type importer struct {
	*importing.Importer
	spec  zerohop.Spec
	rules *importing.Rules
}

// route is a document with its type.
type route struct {
	doc  *importing.Document
	http *gateway.HTTPRoute
	grpc *gateway.GRPCRoute
}

func (r *route) name() string { return r.doc.Namespace + "/" + r.doc.Name }

// read returns the route in a document, nil if it is none.
func (im *importer) read(d *importing.Document) *route {
	im.Begin(d)
	g, version, _ := strings.Cut(d.APIVersion, "/")
	known := versions[d.Kind]
	if g != group || known == nil {
		im.Report.Skipped = append(im.Report.Skipped, d.Object)
		return nil
	}
	im.Report.Imported = append(im.Report.Imported, d.Object)
	if !slices.Contains(known, version) {
		im.Lose("apiVersion", importing.Refused, "%q is not known, only %s", d.APIVersion, strings.Join(known, ", "))
		return nil
	}
	r := &route{doc: d}
	var into any
	if d.Kind == "HTTPRoute" {
		r.http = new(gateway.HTTPRoute)
		into = r.http
	} else {
		r.grpc = new(gateway.GRPCRoute)
		into = r.grpc
	}
	mistakes, err := json.UnmarshalStrict(d.JSON, into)
	if err != nil {
		mistakes = append(mistakes, err)
	}
	for _, err := range mistakes {
		im.Fail("", "%v", err)
	}
	if d.Name == "" {
		im.Fail("metadata.name", "must not be empty")
	}
	if len(mistakes) > 0 || d.Name == "" {
		return nil
	}
	return r
}

// metadata reports what metadata says that may mean something to somebody. The rest is what the cluster keeps in its books.
func (im *importer) metadata(m *metav1.ObjectMeta) {
	for _, key := range slices.Sorted(maps.Keys(m.Annotations)) {
		if key != "kubectl.kubernetes.io/last-applied-configuration" {
			im.Lose("metadata.annotations", importing.Ignored, "%s: annotations are for other programs", key)
		}
	}
}

// hosts returns the services that a route is for.
func (im *importer) hosts(r *route, spec *gateway.CommonRouteSpec, hostnames *[]gateway.Hostname) []string {
	var hosts []string
	add := func(host string) {
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	parents := importing.Take(&spec.ParentRefs)
	if use := importing.Take(&spec.UseDefaultGateways); use != "" && use != gateway.GatewayDefaultScopeNone {
		parents = append(parents, gateway.ParentReference{Name: "default"})
		im.Lose("spec.useDefaultGateways", importing.Approximated, `stands for a gateway "default"`)
	}
	if len(parents) == 0 {
		im.Lose("spec.parentRefs", importing.Refused, "the route has no parent, so it is for no call")
		return nil
	}
	names := importing.Take(hostnames)
	used := false
	for i, p := range parents {
		at := fmt.Sprintf("spec.parentRefs[%d]", i)
		ns := string(value(p.Namespace, gateway.Namespace(r.doc.Namespace)))
		switch kind := string(value(p.Group, group)) + "/" + string(value(p.Kind, "Gateway")); kind {
		case "/Service", "core/Service":
			if ns != r.doc.Namespace && r.doc.Namespace != im.Namespace() {
				im.Lose(at, importing.Refused, "is for callers in namespace %s, not for those in %s", r.doc.Namespace, im.Namespace())
				continue
			}
			if p.SectionName != nil {
				im.Lose(at+".sectionName", importing.Approximated, "the rules are for all ports of the service")
			}
			add(im.Service(importing.Ref{Namespace: ns, Name: string(p.Name)}, port(p.Port)))
		case group + "/Gateway", group + "/ListenerSet": // which stands for listeners of a gateway
			if p.SectionName != nil {
				im.Lose(at+".sectionName", importing.Approximated, "the rules are for all listeners of the gateway")
			}
			if p.Port != nil {
				im.Lose(at+".port", importing.Approximated, "the rules are for all ports of the gateway")
			}
			used = true
			host, ok := im.Gateway(ns, string(p.Name))
			switch {
			case len(names) > 0:
				if !ok {
					im.Lose(at, importing.Approximated, "the rules are for calls to the hosts of the route, not only through gateway %s/%s", ns, p.Name)
				}
				for _, h := range names {
					add(strings.ToLower(string(h)))
				}
			case !ok:
				im.Lose(at, importing.Refused, "the route names no host, and the options none for gateway %s/%s", ns, p.Name)
			case host == "*":
				im.Lose(at, importing.Approximated, "the rules are for every call of the process, and calls that none is for go where they name")
				add("")
			default:
				add(strings.ToLower(host))
			}
		default:
			im.Lose(at, importing.Refused, "%s is no parent that calls can go to", kind)
		}
	}
	if len(names) > 0 && !used {
		im.Lose("spec.hostnames", importing.Ignored, "the parents are services, for which hostnames mean nothing")
	}
	return hosts
}

func value[T any](p *T, unset T) T {
	if p == nil {
		return unset
	}
	return *p
}

func port(p *gateway.PortNumber) int { return int(value(p, 0)) }

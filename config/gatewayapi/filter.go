package gatewayapi

import (
	"fmt"
	"strings"

	gateway "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/routing"
)

// effects is what the filters of a rule or of a backend come to.
type effects struct {
	rewrite routing.Rewrite
	mirrors []routing.Mirror
	replace *string // what takes the place of the prefix that matched
	failing bool    // calls must not get past a filter
}

// filters adds what filters come to.
func (im *importer) filters(at string, list []gateway.HTTPRouteFilter, namespace string, e *effects) {
	for i := range list {
		f, at := &list[i], fmt.Sprintf("%s.filters[%d]", at, i)
		kind := importing.Take(&f.Type)
		refuse := func(note string) {
			e.failing = true
			im.Lose(at, importing.Refused, "%s: %s; calls are answered with 500", kind, note)
		}
		switch kind {
		case gateway.HTTPRouteFilterRequestHeaderModifier:
			im.headers(at+".requestHeaderModifier", importing.Take(&f.RequestHeaderModifier), &e.rewrite.Request)
		case gateway.HTTPRouteFilterResponseHeaderModifier:
			im.headers(at+".responseHeaderModifier", importing.Take(&f.ResponseHeaderModifier), &e.rewrite.Response)
		case gateway.HTTPRouteFilterURLRewrite:
			if u := importing.Take(&f.URLRewrite); u != nil {
				e.rewrite.Host = string(value(u.Hostname, ""))
				if u.Path != nil {
					im.pathRewrite(at+".urlRewrite.path", u.Path, e)
				}
			}
		case gateway.HTTPRouteFilterRequestMirror:
			if m := importing.Take(&f.RequestMirror); m != nil {
				im.mirror(at+".requestMirror", m, namespace, e)
			}
		case gateway.HTTPRouteFilterCORS:
			f.CORS = nil
			im.Lose(at, importing.Ignored, "CORS is between a browser and a gateway")
		case gateway.HTTPRouteFilterRequestRedirect:
			f.RequestRedirect = nil
			refuse("a client does not redirect itself")
		case gateway.HTTPRouteFilterExternalAuth:
			f.ExternalAuth = nil
			refuse("zerohop asks no other service first")
		case gateway.HTTPRouteFilterExtensionRef:
			f.ExtensionRef = nil
			refuse("zerohop does not know the extension")
		default:
			refuse("zerohop does not know the filter")
		}
	}
}

func (im *importer) headers(at string, f *gateway.HTTPHeaderFilter, to *routing.Headers) {
	if f == nil {
		return
	}
	im.pairs(at+".set", f.Set, &to.Set)
	im.pairs(at+".add", f.Add, &to.Add)
	for i, name := range f.Remove {
		if im.changeable(fmt.Sprintf("%s.remove[%d]", at, i), routing.Headers{Remove: []string{name}}) {
			to.Remove = append(to.Remove, name)
		}
	}
}

// pairs adds headers to a map. Of several with one name the first counts.
func (im *importer) pairs(at string, list []gateway.HTTPHeader, to *map[string]string) {
	for i, h := range list {
		name, at := string(h.Name), fmt.Sprintf("%s[%d]", at, i)
		twice := false
		for have := range *to {
			twice = twice || strings.EqualFold(have, name)
		}
		switch {
		case twice:
			im.Lose(at, importing.Ignored, "the first value of %q counts", name)
		case im.changeable(at, routing.Headers{Set: map[string]string{name: h.Value}}):
			if *to == nil {
				*to = map[string]string{}
			}
			(*to)[name] = h.Value
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

func (im *importer) pathRewrite(at string, p *gateway.HTTPPathModifier, e *effects) {
	full, prefix := importing.Take(&p.ReplaceFullPath), importing.Take(&p.ReplacePrefixMatch)
	switch p.Type {
	case gateway.FullPathHTTPPathModifier:
		e.rewrite.Path.Full = value(full, "/")
		full = nil
	case gateway.PrefixMatchHTTPPathModifier:
		e.replace = new(value(prefix, "/"))
		prefix = nil
	default:
		im.Lose(at+".type", importing.Refused, "%q is no type that is known: the path stays", string(p.Type))
	}
	if full != nil || prefix != nil {
		im.Lose(at, importing.Ignored, "what does not belong to the type is not looked at")
	}
}

func (im *importer) mirror(at string, m *gateway.HTTPRequestMirrorFilter, namespace string, e *effects) {
	ref, ok := im.service(at+".backendRef", &m.BackendRef, namespace)
	if !ok {
		return
	}
	mirror := routing.Mirror{Service: ref}
	switch {
	case m.Percent != nil:
		p := float64(*m.Percent)
		mirror.Percent = &p
	case m.Fraction != nil:
		if d := value(m.Fraction.Denominator, 100); d > 0 {
			p := 100 * float64(m.Fraction.Numerator) / float64(d)
			mirror.Percent = &p
		}
	}
	im.Lose(at, importing.Approximated, "copies have no Authorization and no Cookie, and requests of more than 64 KiB are not copied")
	e.mirrors = append(e.mirrors, mirror)
}

// service returns the logical name of a backend, and false if there cannot be one.
func (im *importer) service(at string, ref *gateway.BackendObjectReference, namespace string) (string, bool) {
	kind := string(value(ref.Group, "")) + "/" + string(value(ref.Kind, "Service"))
	switch kind {
	case "/Service", "core/Service":
	case "multicluster.x-k8s.io/ServiceImport":
		im.Lose(at+".kind", importing.Approximated, "a ServiceImport is called by the name of the service")
	default:
		im.Lose(at, importing.Refused, "%s is no kind of backend that can be called: its share is answered with 500", kind)
		return "", false
	}
	if ref.Name == "" {
		im.Lose(at+".name", importing.Refused, "is empty: the share of the backend is answered with 500")
		return "", false
	}
	return im.Service(importing.Ref{Namespace: string(value(ref.Namespace, gateway.Namespace(namespace))), Name: string(ref.Name)}, port(ref.Port)), true
}

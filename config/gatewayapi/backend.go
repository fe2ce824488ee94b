package gatewayapi

import (
	"fmt"

	gateway "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/routing"
)

// backends sets where the calls of a rule go. The share of what cannot be called is answered with 500, and so are all calls if
// nothing can be called or all weights are 0.
func (im *importer) backends(at, namespace string, refs []gateway.HTTPBackendRef, r *routing.Rule, e *effects) {
	var good, bad uint64
	for i := range refs {
		ref, at := &refs[i], fmt.Sprintf("%s.backendRefs[%d]", at, i)
		weight := uint64(max(0, value(importing.Take(&ref.Weight), 1)))
		target := importing.Take(&ref.BackendObjectReference)
		name, ok := im.service(at, &target, namespace)
		b := routing.Backend{Service: name, Weight: uint32(weight)}
		if ok {
			ok = im.backendFilters(at, namespace, ref, &b, len(refs) == 1, e)
		}
		if !ok {
			bad += weight
			continue
		}
		good += weight
		r.Backends = append(r.Backends, b)
	}
	switch {
	case good == 0:
		if len(refs) == 0 && !e.failing {
			im.Lose(at+".backendRefs", importing.Approximated, "there are none, so calls are answered with 500")
		}
		r.Response = importing.Failure()
	case bad > 0:
		share := 100 * float64(bad) / float64(good+bad)
		r.Fault = routing.Fault{Abort: 500, AbortCode: 14, AbortPercent: &share}
	}
}

// backendFilters takes the filters of a backend, and reports whether calls can get to it. Those of the only backend of a rule are
// those of the rule.
func (im *importer) backendFilters(at, namespace string, ref *gateway.HTTPBackendRef, b *routing.Backend, only bool, e *effects) bool {
	if only {
		im.filters(at, ref.Filters, namespace, e)
		return true
	}
	var own effects
	im.filters(at, ref.Filters, namespace, &own)
	b.Headers = own.rewrite.Request
	own.rewrite.Request = routing.Headers{}
	for _, f := range []struct {
		set  bool
		what string
	}{
		{len(own.rewrite.Response.Set)+len(own.rewrite.Response.Add)+len(own.rewrite.Response.Remove) > 0, "headers of the response"},
		{own.rewrite.Path != routing.PathRewrite{} || own.replace != nil, "the path"},
		{own.rewrite.Host != "", "the host"},
		{len(own.mirrors) > 0, "mirrors"},
	} {
		if f.set {
			im.Lose(at+".filters", importing.Refused, "%s belong to a rule, not to one of several backends: they stay as they are", f.what)
		}
	}
	return !own.failing
}

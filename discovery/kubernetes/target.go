package kubernetes

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/validation"

	"github.com/zerohop/zerohop/internal/kubeapi"
)

// target is a service in the terms of Kubernetes.
type target struct {
	name, namespace, port string
}

func (t target) String() string {
	return fmt.Sprintf("EndpointSlices of %q in namespace %q", t.name, t.namespace)
}

// has reports whether slice is one of the target. A server that does not know label selectors sends all.
func (t target) has(slice *discoveryv1.EndpointSlice) bool {
	return slice.Namespace == t.namespace && slice.Labels[discoveryv1.LabelServiceName] == t.name
}

func (t target) resource() kubeapi.Resource {
	return kubeapi.Resource{
		What:  t.String(),
		Path:  []string{"apis/discovery.k8s.io/v1/namespaces", t.namespace, "endpointslices"},
		Query: url.Values{"labelSelector": {discoveryv1.LabelServiceName + "=" + t.name}},
	}
}

// check refuses names that no object can have and that would change the request.
func (t target) check() error {
	if errs := validation.NameIsDNSLabel(t.namespace, false); len(errs) > 0 {
		return fmt.Errorf("kubernetes: namespace %.100q: %s", t.namespace, errs[0])
	}
	if errs := validation.NameIsDNSLabel(t.name, false); len(errs) > 0 {
		return fmt.Errorf("kubernetes: name of the service %.100q: %s", t.name, errs[0])
	}
	return nil
}

// target reads the name of a service: "name", "name.namespace", "name.namespace.svc.cluster.local", each with ":port" or
// without.
func (r Resolver) target(service string) target {
	service = strings.ToLower(service)
	if means, ok := r.Services[service]; ok {
		service = means
	}
	host, port, _ := strings.Cut(service, ":")
	name, rest, _ := strings.Cut(host, ".")
	namespace := rest
	if first, domain, ok := strings.Cut(rest, "."); ok && (domain == "svc" || strings.HasPrefix(domain, "svc.")) {
		namespace = first
	}
	t := target{name: name, namespace: cmp.Or(namespace, r.Namespace), port: cmp.Or(port, r.Port)}
	t.namespace = cmp.Or(t.namespace, r.Client.Namespace())
	return t
}

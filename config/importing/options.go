package importing

import "strings"

// Options say for whom configuration is imported. The zero value is for a process in namespace "default".
type Options struct {
	// Name is what errors call the input. Empty means "input".
	Name string
	// Namespace is that of the process that the Spec is for. Objects that name none are in it, and services in it have short
	// names. Empty means "default".
	Namespace string
	// Labels are those of the process, for rules that are for some callers only. nil means that they are not known: such rules
	// are refused.
	Labels map[string]string
	// Gateways says by which names calls go through gateways: the host that stands for a gateway, by "namespace/name" or "name" of
	// the gateway, or by "*" for all others. Routes of a gateway that name no host of their own are for calls to that host; "*"
	// makes them rules for every call of the process. Without an entry such routes are refused, as a process is no gateway.
	Gateways map[string]string
	// Target is the service that a gRPC service config is for, which does not say so itself. Others have no use for it.
	Target string
	// Service returns the logical name of a service. nil means [Options.Short].
	Service func(Ref) string
}

// Ref names a service of Kubernetes, or a host outside if Namespace is empty.
type Ref struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String returns the name with its namespace.
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Name
	}
	return r.Namespace + "/" + r.Name
}

// Short returns the names that discovery/kubernetes resolves: "orders" for a service in the namespace of the process,
// "orders.shop" for one in namespace shop, and the host itself for one outside.
func (o Options) Short(r Ref) string {
	if r.Namespace == "" || r.Namespace == o.namespace() {
		return strings.ToLower(r.Name)
	}
	return strings.ToLower(r.Name + "." + r.Namespace)
}

func (o Options) namespace() string {
	if o.Namespace == "" {
		return "default"
	}
	return o.Namespace
}

// HostRef returns what a host stands for in an object of that namespace: a name without dots is a service of the namespace,
// "orders.shop.svc" with or without the domain of the cluster is one of shop. Two labels are one, too, if dotted is true; else
// they are a host outside.
func HostRef(host, namespace string, dotted bool) Ref {
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	switch {
	case len(labels) == 1:
		return Ref{Namespace: namespace, Name: host}
	case len(labels) >= 3 && labels[2] == "svc", dotted && len(labels) == 2:
		return Ref{Namespace: labels[1], Name: labels[0]}
	}
	return Ref{Name: host}
}

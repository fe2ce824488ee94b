package kubernetes

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/zerohop/zerohop/discovery"
)

// Keys of Meta that do not come from labels.
const (
	podKey   = "kubernetes-pod"
	nodeKey  = "kubernetes-node"
	zonesKey = "kubernetes-for-zones"
)

// record is an endpoint of a slice.
type record struct {
	endpoint discovery.Endpoint
	// pod is the identity of the pod and its port; empty if the endpoint is no pod.
	pod  string
	ipv6 bool
	// left out: it is not ready, and such are not wanted.
	left bool
}

// records returns the endpoints of a slice. port is a name, a number or empty; see Resolver.Port.
func records(slice *discoveryv1.EndpointSlice, port string, notReady bool) ([]record, error) {
	if len(slice.Endpoints) == 0 {
		return nil, nil // has no ports, either
	}
	number, err := portOf(slice.Ports, port)
	if err != nil {
		return nil, err
	}
	labels := labelsOf(slice.Labels)
	all := make([]record, 0, len(slice.Endpoints))
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		if len(e.Addresses) == 0 {
			continue
		}
		r := record{ipv6: slice.AddressType == discoveryv1.AddressTypeIPv6}
		// Nothing is said of addresses beyond the first.
		r.endpoint = discovery.Endpoint{Addr: net.JoinHostPort(e.Addresses[0], number), Weight: 1, Zone: value(e.Zone), Meta: metaOf(e, labels)}
		if e.TargetRef != nil && e.TargetRef.UID != "" {
			r.pod = string(e.TargetRef.UID) + ":" + number
		}
		var serving bool
		r.endpoint.Health, serving = health(e.Conditions)
		r.left = !serving && !notReady
		all = append(all, r)
	}
	return all, nil
}

// health maps conditions as KEP-1672 reads them. An endpoint that does not serve is of no use to new calls, whether it
// terminates or not.
func health(c discoveryv1.EndpointConditions) (h discovery.Health, serving bool) {
	ready := c.Ready == nil || *c.Ready
	switch {
	case c.Terminating != nil && *c.Terminating:
		// Both are set where the Service has publishNotReadyAddresses.
		if c.Serving == nil || *c.Serving || c.Ready != nil && ready {
			return discovery.Terminating, true
		}
		return discovery.Unhealthy, false
	case ready:
		return discovery.Healthy, true
	}
	return discovery.Unhealthy, false
}

// portOf chooses the port of a slice.
func portOf(ports []discoveryv1.EndpointPort, want string) (string, error) {
	number, err := strconv.ParseUint(want, 10, 16)
	if err != nil {
		number = 0
	}
	named := make(map[string]string)
	for _, p := range ports {
		if p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			continue
		}
		if p.Port == nil { // stands for all ports
			if number > 0 {
				return strconv.FormatUint(number, 10), nil
			}
			continue
		}
		if number > 0 && uint64(max(*p.Port, 0)) == number {
			return strconv.FormatUint(number, 10), nil
		}
		named[value(p.Name)] = strconv.Itoa(int(*p.Port))
	}
	if want != "" {
		if p, ok := named[want]; ok {
			return p, nil
		}
		if number > 0 && len(ports) == 0 { // a Service without ports
			return strconv.FormatUint(number, 10), nil
		}
		return "", fmt.Errorf("no port %.100q: %s", want, has(named))
	}
	if len(named) == 1 {
		for _, p := range named {
			return p, nil
		}
	}
	for _, name := range []string{"http", "https", "grpc"} {
		if p, ok := named[name]; ok {
			return p, nil
		}
	}
	return "", fmt.Errorf("no port to choose: %s: set Resolver.Port", has(named))
}

var errNoPorts = errors.New("no TCP ports")

// has lists ports for an error.
func has(named map[string]string) string {
	const most = 10
	if len(named) == 0 {
		return "there are " + errNoPorts.Error()
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if len(list) == most {
			list = append(list, "...")
			break
		}
		list = append(list, fmt.Sprintf("%.63q (%s)", name, named[name]))
	}
	return "there is " + strings.Join(list, ", ")
}

// labelsOf returns the labels that are not those of Kubernetes itself.
func labelsOf(labels map[string]string) map[string]string {
	kept := make(map[string]string)
	for k, v := range labels {
		if domain, _, _ := strings.Cut(k, "/"); domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io") {
			kept[k] = v
		}
	}
	return kept
}

func metaOf(e *discoveryv1.Endpoint, labels map[string]string) map[string]string {
	meta := maps.Clone(labels)
	if e.TargetRef != nil && e.TargetRef.Kind == "Pod" && e.TargetRef.Name != "" {
		meta[podKey] = e.TargetRef.Name
	}
	if node := value(e.NodeName); node != "" {
		meta[nodeKey] = node
	}
	if e.Hints != nil && len(e.Hints.ForZones) > 0 {
		zones := make([]string, len(e.Hints.ForZones))
		for i, z := range e.Hints.ForZones {
			zones[i] = z.Name
		}
		meta[zonesKey] = strings.Join(zones, ",")
	}
	if len(meta) == 0 {
		return nil
	}
	return meta
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// better reports whether a is to be taken rather than b, another record of the same pod or address.
func better(a, b record, preferIPv6 bool) bool {
	if a.ipv6 != b.ipv6 {
		return a.ipv6 == preferIPv6
	}
	return cmp.Less(a.endpoint.Health, b.endpoint.Health)
}

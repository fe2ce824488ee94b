package consul

import (
	"maps"
	"math"
	"net"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
)

// Keys of service metadata that have a field of discovery.Endpoint, and the one that stands for the tags.
const (
	zoneKey     = "zone"   // as in Spring Cloud
	weightKey   = "weight" // as in Spring Cloud
	priorityKey = "zerohop-priority"
	tagsKey     = "consul-tags"
)

// endpoints returns the instances that have a port. What is no instance at all becomes an endpoint without an address, which
// discovery.Run counts and leaves out: an answer of nothing else is not one without instances.
func endpoints(entries []*api.ServiceEntry) []discovery.Endpoint {
	set := make([]discovery.Endpoint, 0, len(entries))
	for _, entry := range entries {
		if ep, ok := endpoint(entry); ok {
			set = append(set, ep)
		}
	}
	return set
}

func endpoint(entry *api.ServiceEntry) (discovery.Endpoint, bool) {
	if entry == nil || entry.Service == nil {
		return discovery.Endpoint{}, true
	}
	service, node := entry.Service, entry.Node
	if node == nil {
		node = new(api.Node)
	}
	host, port := service.Address, service.DefaultPort()
	if host == "" {
		host = node.Address
	}
	if port == 0 {
		return discovery.Endpoint{}, false
	}
	if host == "" || port < 0 || port > 65535 {
		return discovery.Endpoint{}, true
	}
	ep := discovery.Endpoint{Addr: net.JoinHostPort(host, strconv.Itoa(port)), Meta: metadata(service)}
	ep.Weight, ep.Health = rate(entry.Checks, service.Weights, ep.Meta[weightKey])
	if marked(ep.Meta[weightKey]) > 0 {
		delete(ep.Meta, weightKey)
	}
	ep.Zone = firstOf(ep.Meta[zoneKey], zone(service.Locality), node.Meta[zoneKey], zone(node.Locality))
	delete(ep.Meta, zoneKey)
	if level, err := strconv.ParseUint(ep.Meta[priorityKey], 10, 8); err == nil {
		ep.Priority = uint8(level)
		delete(ep.Meta, priorityKey)
	}
	if len(ep.Meta) == 0 {
		ep.Meta = nil
	}
	return ep, true
}

// metadata returns the metadata of a service with its tags: "key=value" as such, where the metadata has no such key, the
// others joined.
func metadata(service *api.AgentService) map[string]string {
	if len(service.Meta)+len(service.Tags) == 0 {
		return nil
	}
	meta := make(map[string]string, len(service.Meta)+len(service.Tags))
	var plain []string
	for _, tag := range service.Tags {
		key, value, pair := strings.Cut(tag, "=")
		if !pair || key == "" {
			plain = append(plain, tag)
		} else if _, known := meta[key]; !known {
			meta[key] = value
		}
	}
	maps.Copy(meta, service.Meta)
	if len(plain) > 0 {
		meta[tagsKey] = strings.Join(plain, ",")
	}
	return meta
}

// rate returns weight and health from the worst of the checks. A check in a state that Consul does not have counts
// as critical. mark is the weight in the metadata, which counts where Consul knows none but its default.
func rate(checks api.HealthChecks, weights api.AgentWeights, mark string) (uint32, discovery.Health) {
	if n := marked(mark); n > 0 && (weights.Passing == 0 || weights.Passing == 1) {
		weights.Passing = n
	}
	warning, critical := false, false
	for _, check := range checks {
		if check == nil {
			continue
		}
		if check.CheckID == api.NodeMaint || strings.HasPrefix(check.CheckID, api.ServiceMaintPrefix) {
			return weight(weights.Passing), discovery.Draining
		}
		switch check.Status {
		case api.HealthPassing:
		case api.HealthWarning:
			warning = true
		default:
			critical = true
		}
	}
	switch {
	case critical:
		return weight(weights.Passing), discovery.Unhealthy
	case warning && weights.Warning < 1:
		return weight(weights.Passing), discovery.Draining
	case warning:
		return weight(weights.Warning), discovery.Healthy
	}
	return weight(weights.Passing), discovery.Healthy
}

// weight hands on what an agent says, though Consul takes no weights but 1 to 65535: discovery limits those that make no
// sense, and tells. Negative ones stay recognizable.
func weight(w int) uint32 {
	if w == 0 { // none is given
		return 1
	}
	return uint32(int32(min(max(w, math.MinInt32), math.MaxInt32)))
}

// marked returns the weight that the metadata names, 0 if it names none.
func marked(text string) int {
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// union returns set and those of last that are not in it.
func union(set, last []discovery.Endpoint) []discovery.Endpoint {
	known := make(map[string]bool, len(set))
	for _, ep := range set {
		known[ep.Addr] = true
	}
	for _, ep := range last {
		if !known[ep.Addr] {
			set = append(set, ep)
		}
	}
	return set
}

func zone(l *api.Locality) string {
	if l == nil {
		return ""
	}
	return l.Zone
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

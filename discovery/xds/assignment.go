package xds

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/zerohop/zerohop/discovery"
)

// maxPriority is the last failover level that the protocol has.
const maxPriority = 128

// Keys of metadata that stand for other fields of an endpoint, and the namespaces of its metadata that are taken over.
const (
	regionKey   = "xds-region"
	subZoneKey  = "xds-sub-zone"
	hostnameKey = "xds-hostname"

	lbNamespace    = "envoy.lb"
	istioNamespace = "istio"
)

// assignment is a ClusterLoadAssignment: the endpoints of one cluster.
type assignment struct {
	set []discovery.Endpoint
	// levels is how many failover levels there are, empty ones included.
	levels int
}

// decodeAssignment reads a ClusterLoadAssignment in the encoding of the wire.
func decodeAssignment(data []byte) (assignment, error) {
	if err := countEndpoints(data); err != nil {
		return assignment{}, err
	}
	load := new(endpointv3.ClusterLoadAssignment)
	if err := unmarshal(data, load); err != nil {
		return assignment{}, errors.New(cut(err.Error()))
	}
	var wrong mistakes
	a := parseAssignment(load, false, &wrong)
	return a, wrong.err()
}

// countEndpoints refuses a ClusterLoadAssignment with too many parts before they take memory: an empty one has two bytes on
// the wire and fifty times as many when it is decoded.
func countEndpoints(data []byte) error {
	const endpoints, lbEndpoints = 2, 2 // of ClusterLoadAssignment, of LocalityLbEndpoints
	n := 0
	var nested error
	err := fields(data, func(number protowire.Number, locality []byte) {
		if number != endpoints || nested != nil {
			return
		}
		n++
		nested = fields(locality, func(number protowire.Number, _ []byte) {
			if number == lbEndpoints {
				n++
			}
		})
	})
	if err := errors.Join(err, nested); err != nil {
		return errors.New(cut(err.Error()))
	}
	if n > 2*maxEndpoints {
		return fmt.Errorf("endpoints: %d localities and endpoints are more than %d", n, 2*maxEndpoints)
	}
	return nil
}

// parseAssignment returns the endpoints of load; names says that hosts may be names.
func parseAssignment(load *endpointv3.ClusterLoadAssignment, names bool, wrong *mistakes) assignment {
	var a assignment
	var groups []group
	total := 0
	for i, locality := range load.GetEndpoints() {
		at := fmt.Sprintf("endpoints[%d]", i)
		if locality.GetLbConfig() != nil {
			wrong.addf("%s: only lb_endpoints are supported", at)
		}
		level := locality.GetPriority()
		if level > maxPriority {
			wrong.addf("%s.priority: %d is above %d", at, level, maxPriority)
			continue
		}
		a.levels = max(a.levels, int(level)+1)
		g := group{level: uint8(level), from: len(a.set)}
		if w := locality.GetLoadBalancingWeight(); w != nil {
			g.weight, g.weighted = w.GetValue(), true
		}
		region, zone, subZone := locality.GetLocality().GetRegion(), locality.GetLocality().GetZone(), locality.GetLocality().GetSubZone()
		for k, lb := range locality.GetLbEndpoints() {
			at := fmt.Sprintf("%s.lb_endpoints[%d]", at, k)
			addr, err := address(lb.GetEndpoint().GetAddress(), names)
			if err != nil {
				wrong.addf("%s.endpoint.address%v", at, err)
				continue
			}
			weight := uint32(1)
			if w := lb.GetLoadBalancingWeight(); w != nil {
				if weight = w.GetValue(); weight == 0 {
					wrong.addf("%s.load_balancing_weight: 0", at)
				}
			}
			meta := metadata(lb.GetMetadata())
			for _, m := range [...][2]string{{regionKey, region}, {subZoneKey, subZone}, {hostnameKey, lb.GetEndpoint().GetHostname()}} {
				if m[1] != "" {
					if meta == nil {
						meta = make(map[string]string, 3)
					}
					meta[m[0]] = m[1]
				}
			}
			a.set = append(a.set, discovery.Endpoint{
				Addr: addr, Weight: weight, Zone: zone, Priority: g.level, Health: health(lb.GetHealthStatus()), Meta: meta,
			})
		}
		total += len(locality.GetLbEndpoints())
		g.to = len(a.set)
		groups = append(groups, g)
	}
	if total > maxEndpoints {
		wrong.addf("endpoints: %d are more than %d", total, maxEndpoints)
	}
	a.set = weigh(a.set, groups)
	return a
}

// address returns "host:port". Its errors begin with the field they are about.
func address(a *corev3.Address, names bool) (string, error) {
	var socket *corev3.SocketAddress
	switch a := a.GetAddress().(type) {
	case nil:
		return "", errors.New(": missing")
	case *corev3.Address_SocketAddress:
		socket = a.SocketAddress
	case *corev3.Address_Pipe:
		return "", errors.New(".pipe: Unix sockets are not supported")
	case *corev3.Address_EnvoyInternalAddress:
		return "", errors.New(".envoy_internal_address: not supported")
	default:
		return "", errors.New(": of no known kind")
	}
	if p := socket.GetProtocol(); p != corev3.SocketAddress_TCP {
		return "", fmt.Errorf(".socket_address.protocol: %v is not TCP", p)
	}
	if name := socket.GetNamedPort(); name != "" {
		return "", fmt.Errorf(".socket_address.named_port: %s: named ports are not supported", cut(name))
	}
	port := socket.GetPortValue()
	if port == 0 || port > math.MaxUint16 {
		return "", fmt.Errorf(".socket_address.port_value: %d is not in 1..65535", port)
	}
	host := socket.GetAddress()
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		return netip.AddrPortFrom(ip.Unmap(), uint16(port)).String(), nil
	}
	if !names {
		return "", fmt.Errorf(".socket_address.address: %s is not an IP address", cut(host))
	}
	if name := socket.GetResolverName(); name != "" {
		return "", fmt.Errorf(".socket_address.resolver_name: %s: resolvers are not supported", cut(name))
	}
	if host == "" || len(host) > 253 {
		return "", fmt.Errorf(".socket_address.address: %s is not a host name", cut(host))
	}
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10)), nil
}

// health maps what the control plane says. Degraded endpoints get traffic in Envoy when there are not enough healthy ones:
// Draining is the state with the same rule.
func health(s corev3.HealthStatus) discovery.Health {
	switch s {
	case corev3.HealthStatus_UNKNOWN, corev3.HealthStatus_HEALTHY:
		return discovery.Healthy
	case corev3.HealthStatus_DRAINING, corev3.HealthStatus_DEGRADED:
		return discovery.Draining
	default:
		return discovery.Unhealthy
	}
}

// metadata returns the entries of envoy.lb as they are, and those of istio with "istio." before their name.
func metadata(m *corev3.Metadata) map[string]string {
	lb, istio := m.GetFilterMetadata()[lbNamespace].GetFields(), m.GetFilterMetadata()[istioNamespace].GetFields()
	if len(lb)+len(istio) == 0 {
		return nil
	}
	meta := make(map[string]string, len(lb)+len(istio))
	for key, v := range istio {
		if s, ok := text(v); ok {
			meta[istioNamespace+"."+key] = s
		}
	}
	for key, v := range lb {
		if s, ok := text(v); ok {
			meta[key] = s
		}
	}
	return meta
}

// text returns a string, a number or a bool as text.
func text(v *structpb.Value) (string, bool) {
	switch v := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return v.StringValue, true
	case *structpb.Value_NumberValue:
		return strconv.FormatFloat(v.NumberValue, 'f', -1, 64), true
	case *structpb.Value_BoolValue:
		return strconv.FormatBool(v.BoolValue), true
	default:
		return "", false
	}
}

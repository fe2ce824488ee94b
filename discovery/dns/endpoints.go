package dns

import (
	"cmp"
	"iter"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/zerohop/zerohop/discovery"
)

// targetKey is the key of metadata that holds the target of an SRV record, without the dot at the end.
const targetKey = "dns-target"

// shares is by what SRV weights are multiplied when a target has several addresses, among which its weight is divided.
// It can be divided by most small numbers, and 65535 times it is below the limit of discovery.
const shares = 12

// record is one SRV record.
type record struct {
	target           string
	port             uint16
	priority, weight uint16
}

// hosts returns the endpoints of A and AAAA records.
func hosts(addrs []netip.Addr, port uint16) []discovery.Endpoint {
	set := make([]discovery.Endpoint, len(addrs))
	for i, a := range addrs {
		set[i] = discovery.Endpoint{Addr: netip.AddrPortFrom(a, port).String()}
	}
	return set
}

// available returns the records that name an instance. A target of "." says that the service is not available
// there (RFC 2782), a port of 0 that there is nothing to connect to.
func available(records []record) []record {
	return slices.DeleteFunc(slices.Clone(records), func(r record) bool { return r.target == "." || r.port == 0 })
}

// names yields each target once.
func names(records []record) iter.Seq[string] {
	return func(yield func(string) bool) {
		seen := make(map[string]bool, len(records))
		for _, r := range records {
			if !seen[r.target] {
				seen[r.target] = true
				if !yield(r.target) {
					return
				}
			}
		}
	}
}

// instances returns the endpoints of SRV records whose targets have addresses.
func instances(records []record, addresses func(target string) []netip.Addr) []discovery.Endpoint {
	// What comes first stays if two records name the same address and port.
	records = slices.Clone(records)
	slices.SortStableFunc(records, func(a, b record) int { return cmp.Compare(a.priority, b.priority) })
	byTarget := make(map[string][]netip.Addr, len(records))
	scale := 1
	for name := range names(records) {
		byTarget[name] = addresses(name)
		if len(byTarget[name]) > 1 {
			scale = shares
		}
	}
	set := make([]discovery.Endpoint, 0, len(records))
	level := -1
	for i, r := range records {
		if i == 0 || r.priority != records[i-1].priority {
			level++
		}
		addrs := byTarget[r.target]
		meta := map[string]string{targetKey: strings.TrimSuffix(r.target, ".")}
		for _, a := range addrs {
			set = append(set, discovery.Endpoint{
				Addr:     netip.AddrPortFrom(a, r.port).String(),
				Weight:   uint32(max(int(max(r.weight, 1))*scale/len(addrs), 1)),
				Priority: uint8(min(level, math.MaxUint8)),
				Meta:     meta,
			})
		}
	}
	return set
}

// pick returns those of the addresses that Resolver.Network asks for.
func pick(network string, addrs []netip.Addr) []netip.Addr {
	is4 := slices.ContainsFunc(addrs, netip.Addr.Is4)
	switch {
	case network == "ip4", network == "" && is4:
		return only(addrs, netip.Addr.Is4)
	case network == "ip6":
		return only(addrs, netip.Addr.Is6)
	}
	return addrs
}

func only(addrs []netip.Addr, family func(netip.Addr) bool) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !family(a) })
}

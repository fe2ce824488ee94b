package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
)

// AddressPolicy says which addresses a remote source may name. Whoever can write to a registry could otherwise make the
// process call itself, its neighbours on the machine, or the metadata service of a cloud, which hands out credentials.
//
// The zero value refuses what no instance of a service that others call can have: loopback (127.0.0.0/8, ::1, and the name
// localhost with all below it), link-local (169.254.0.0/16, fe80::/10), unspecified (0.0.0.0/8, ::), multicast, broadcast
// and reserved addresses (240.0.0.0/4), the metadata services of clouds outside of those, IPv6 zones, and IPv6
// addresses by which NAT64, 6to4, Teredo and the like reach a refused IPv4 address. Private addresses are
// allowed: that is where services live. IPv4 addresses that are mapped to IPv6 count as IPv4.
//
// It is checked when a source names an address, and again when a connection is made, on the address that is connected to:
// a name may lead elsewhere then. The fields are read-only while the policy is in use.
type AddressPolicy struct {
	// AllowLoopback allows loopback addresses and localhost, for development and tests on one machine.
	AllowLoopback bool
	// Allow lists what is allowed although the default refuses it. IPv6 addresses that lead to an IPv4 address are allowed
	// by a prefix of their own.
	Allow []netip.Prefix
	// Only lists where addresses must lie, if it is not empty. It allows nothing that the default refuses.
	Only []netip.Prefix
	// Ports lists the ports that are allowed. Empty means all but 0.
	Ports []PortRange
	// NoNames refuses names of hosts instead of addresses. The connections of some dialers cannot be checked against what a
	// name leads to; see the transports.
	NoNames bool
	// Everywhere applies the policy also to sources that are not remote, such as Static and files.
	Everywhere bool
}

// PortRange is the ports from First to Last. A Last of 0 means First alone.
type PortRange struct {
	First, Last uint16
}

// AddressError says that an AddressPolicy refuses an address.
type AddressError struct {
	// Addr is "host:port", quoted and cut in the text of the error.
	Addr string
	// Reason says what the address is, and how to allow it.
	Reason string
}

// Error returns the address and the reason.
func (e *AddressError) Error() string { return addrError(e.Addr, "refused: "+e.Reason).Error() }

// Validate returns an error that names every field with a mistake.
func (p AddressPolicy) Validate() error {
	var errs []error
	for _, list := range []struct {
		name     string
		prefixes []netip.Prefix
	}{{"allow", p.Allow}, {"only", p.Only}} {
		for i, prefix := range list.prefixes {
			switch {
			case !prefix.IsValid():
				errs = append(errs, fmt.Errorf("%s[%d]: not a valid prefix", list.name, i))
			case prefix.Addr().Is4In6():
				errs = append(errs, fmt.Errorf("%s[%d]: %v matches nothing, write it as an IPv4 prefix", list.name, i, prefix))
			}
		}
	}
	for i, r := range p.Ports {
		if r.First == 0 || r.Last != 0 && r.Last < r.First {
			errs = append(errs, fmt.Errorf("ports[%d]: %d-%d is not a range of ports from 1 to 65535", i, r.First, r.Last))
		}
	}
	return errors.Join(errs...)
}

// appliesTo reports whether the policy is to be checked for what r finds.
func (p *AddressPolicy) appliesTo(r Resolver) bool { return p.Everywhere || IsRemote(r) }

// Check returns nil if addr, "host:port", is allowed, an *AddressError if it is refused, and another error if it is no
// address. A host name is looked at as such; it is not resolved.
func (p AddressPolicy) Check(addr string) error {
	a, err := parseAddress(addr)
	if err != nil {
		return err
	}
	return p.check(a)
}

// Control is the ControlContext of a net.Dialer whose connections are to obey the policy. The error of the dialer wraps its
// *AddressError, and no packet was sent then.
func (p AddressPolicy) Control(_ context.Context, network, addr string, _ syscall.RawConn) error {
	if strings.HasPrefix(network, "unix") {
		return nil
	}
	return p.Check(addr)
}

func (p *AddressPolicy) check(a address) error {
	if reason := p.reason(a); reason != "" {
		return &AddressError{Addr: a.String(), Reason: reason}
	}
	return nil
}

// reason returns why an address is refused, or "".
func (p *AddressPolicy) reason(a address) string {
	if len(p.Ports) > 0 && !p.listens(a.port) {
		return "its port is not in Ports of the address policy"
	}
	if a.name != "" {
		return p.reasonOfName(a.name)
	}
	if what := refusedRange(a.ip); what != "" && !(p.AllowLoopback && a.ip.IsLoopback()) && !contains(p.Allow, a.ip) {
		if a.ip.IsLoopback() {
			return "it is " + what + "; AllowLoopback in the address policy (zerohop.Config.Addresses) allows those"
		}
		return fmt.Sprintf("it is %s; a prefix in Allow of the address policy (zerohop.Config.Addresses) allows it", what)
	}
	if len(p.Only) > 0 && !contains(p.Only, a.ip) {
		return "it is in no prefix in Only of the address policy"
	}
	return ""
}

// reasonOfName judges the name of a host. What it leads to is checked at each connection.
func (p *AddressPolicy) reasonOfName(name string) string {
	if p.NoNames {
		return "it is a name, and NoNames of the address policy is set"
	}
	name = strings.TrimSuffix(name, ".")
	if name != "localhost" && !strings.HasSuffix(name, ".localhost") || p.AllowLoopback ||
		contains(p.Allow, netip.AddrFrom4([4]byte{127, 0, 0, 1})) || contains(p.Allow, netip.IPv6Loopback()) {
		return ""
	}
	return "it is the loopback; AllowLoopback in the address policy (zerohop.Config.Addresses) allows that"
}

func (p *AddressPolicy) listens(port uint16) bool {
	for _, r := range p.Ports {
		if port == r.First || port >= r.First && port <= r.Last {
			return true
		}
	}
	return false
}

func contains(list []netip.Prefix, ip netip.Addr) bool {
	for _, prefix := range list {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
}

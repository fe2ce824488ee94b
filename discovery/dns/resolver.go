package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/zerohop/zerohop/discovery"
)

// Resolver watches services in DNS. It is a [discovery.Resolver], safe for concurrent use.
//
// A watch asks again when its answers expire: after their time to live, but at least 1 s and at most 30 s, and up to a
// tenth later, so that callers spread. A service that has no records is an empty set, as DNS does not tell
// an unknown service from one whose last instance is gone; it is asked for again after 1 s, 2 s, 4 s and so on, up
// to the time that the zone sets for that (RFC 2308) or 30 s.
//
// The name of the service costs at most one question a second (three in a row). SRV targets that come without an
// address cost one or two more each, per time to live, and all of them together no more than one a second
// or, from 30 questions on, one round in 30 s.
type Resolver struct {
	// Name is the name to ask for. "{service}" in it stands for the service. It is complete: search lists and the
	// ndots option do not apply. Empty means "{service}": services are named by their full name.
	Name string
	// SRV asks for SRV records, which tell the port. The underscores belong to Name:
	// "_http._tcp.{service}.example.com".
	SRV bool
	// Port is the port of all endpoints. Required without SRV, and an error with it.
	Port uint16
	// Network says which addresses are used: "ip4", "ip6", or "ip" for both. Empty means IPv4 addresses where a name
	// has any, else IPv6: an instance with one of each would count as two endpoints otherwise.
	Network string
	// Servers are the addresses of DNS servers, as IP address or "ip:port", at most 8. They are asked in turn until one
	// answers, beginning with the one that did last. Empty means the first three of ResolvConf. They must answer
	// for all names, so those of other zones have to be resolving ones.
	Servers []string
	// ResolvConf is the file that names the servers if Servers is empty. It is read again each time something is
	// asked. Empty means "/etc/resolv.conf". If it names no server, System is used.
	ResolvConf string
	// TCP asks over TCP only. Consul, for example, gives three instances over UDP and does not say that there are
	// more. By default TCP is used for answers that are too long for UDP.
	TCP bool
	// System, if set, is asked instead of any server, every 10 s as it does not tell the time to live. It reads what
	// the operating system reads, such as /etc/hosts. nil means net.DefaultResolver, where no server is known.
	System *net.Resolver
}

var _ discovery.Resolver = Resolver{}

// Remote reports that the addresses come from elsewhere.
func (Resolver) Remote() bool { return true }

// Watch implements [discovery.Resolver]. Its errors name the question and what each server said. Servers that answer
// SERVFAIL or REFUSED do not make it a *discovery.RefusedError, because they do so for as long as a zone
// loads, and must be asked soon again. It ends with an error when the name of the service could not be
// asked for, or none of its SRV targets; it goes on with the known addresses of targets that fail alone.
func (r Resolver) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	servers, err := r.validate()
	if err != nil {
		return err
	}
	name, err := r.name(service)
	if err != nil {
		return err
	}
	w := &watch{name: name, srv: r.SRV, port: r.Port, network: r.Network}
	w.source = func() source {
		if r.System != nil {
			return system{r.System}
		}
		if len(servers) == 0 {
			if s := configured(r.ResolvConf); len(s) > 0 {
				return w.client(s, r.TCP)
			}
			return system{net.DefaultResolver}
		}
		return w.client(servers, r.TCP)
	}
	return w.run(ctx, update)
}

// validate returns Servers in the form of addresses to dial.
func (r Resolver) validate() ([]string, error) {
	var errs []error
	if !r.SRV && r.Port == 0 {
		errs = append(errs, errors.New("dns: Resolver.Port is 0 and Resolver.SRV is not set"))
	}
	if r.SRV && r.Port != 0 {
		errs = append(errs, errors.New("dns: Resolver.Port and Resolver.SRV are both set"))
	}
	if !slices.Contains([]string{"", "ip", "ip4", "ip6"}, r.Network) {
		errs = append(errs, fmt.Errorf(`dns: Resolver.Network is %q, want "ip", "ip4" or "ip6"`, r.Network))
	}
	if len(r.Servers) > maxServers {
		errs = append(errs, fmt.Errorf("dns: Resolver.Servers has %d entries, want at most %d", len(r.Servers), maxServers))
	}
	var servers []string
	for i, s := range r.Servers {
		addr, ok := serverAddr(s)
		if !ok {
			errs = append(errs, fmt.Errorf("dns: Resolver.Servers[%d] is %q, want an IP address with or without a port", i, s))
		}
		servers = append(servers, addr)
	}
	return servers, errors.Join(errs...)
}

// name returns the name to ask for, in lower case and with the dot at the end.
func (r Resolver) name(service string) (string, error) {
	const placeholder = "{service}"
	if !hostname(service) {
		return "", fmt.Errorf("dns: service name %.256q is not a host name", service)
	}
	pattern := r.Name
	if pattern == "" {
		pattern = placeholder
	}
	name := strings.ToLower(strings.ReplaceAll(pattern, placeholder, strings.TrimSuffix(service, ".")))
	if !hostname(name) {
		return "", fmt.Errorf("dns: Resolver.Name %.256q makes %.256q of service %q, which is no host name", r.Name, name, service)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", fmt.Errorf("dns: service %q is an address", service)
	}
	return strings.TrimSuffix(name, ".") + ".", nil
}

// hostname reports whether s is a name of letters, digits, hyphens and underscores that fits into a question.
func hostname(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) < 1 || len(label) > 63 || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

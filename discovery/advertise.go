package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
)

// Advertising says which address of this host others are told. The zero value is ready to use.
type Advertising struct {
	// Addr is "host" or "host:port" that others reach the server at, for example where ports are mapped. Empty means to
	// find it out.
	Addr string
	// Prefer holds the networks whose addresses are taken, the most preferred one first, in place of all private
	// ones. Public addresses are taken only from here.
	Prefer []netip.Prefix
	// Ignore holds the names of interfaces whose addresses are not taken, as patterns of path.Match. nil means those
	// that connect a host with its own containers and virtual machines: "docker*", "br-*", "veth*" and the like.
	Ignore []string
	// AllowLoopback lets servers that only callers on this host can reach be advertised. A server that listens
	// on all addresses gets one of loopback only if there is no other.
	AllowLoopback bool
}

// ownNetworks are the interfaces of networks that end on the host.
var ownNetworks = []string{
	"docker*", "br-*", "veth*", "podman*", "cni*", "virbr*", "lxcbr*", "lxdbr*", "flannel*", "cilium*", "kube-*", "nodelocaldns*",
}

// advertised are the environment variables that hold an address of this process, the first one that is set counts.
// POD_IP is what pods usually call the field status.podIP.
var advertised = []string{"ZEROHOP_ADDR", "POD_IP"}

// Advertise returns the "host:port" at which others reach a server that listens on listen, the address of its
// listener: net.Listen("tcp", ":8080").Addr().String(). Registrars call it; call it once the server listens, as only
// then a port 0 has become one.
//
// The host is the first of these that is given: that of a.Addr; that of listen, unless it stands for all addresses
// of the host (":8080", "0.0.0.0:8080", "[::]:8080"); that of the environment variable ZEROHOP_ADDR or
// POD_IP, which may have a port too; the only address of the interfaces that are up and not ignored that is in the
// first network of a.Prefer with any. Without a.Prefer these are the private IPv4 networks (RFC 1918) and the shared one
// (RFC 6598), then the unique local ones of IPv6 (RFC 4193).
//
// It never guesses: where several addresses are as good, the error names them. Loopback needs a.AllowLoopback, and
// link-local, multicast and unspecified addresses are always refused: registered, they would send callers to themselves
// or nowhere.
func Advertise(listen string, a Advertising) (string, error) {
	return a.choose(listen, os.Getenv, hostAddrs)
}

// hostAddr is an address of an interface of this host.
type hostAddr struct {
	Interface string
	netip.Addr
}

func (h hostAddr) String() string { return h.Addr.String() + " of " + h.Interface }

func (a Advertising) choose(listen string, getenv func(string) string, hosts func() ([]hostAddr, error)) (string, error) {
	if a.Addr != "" {
		return a.spell("Advertising.Addr", a.Addr, listen)
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", addrError(listen, `address of the listener is not "host:port"`)
	}
	ip, _ := netip.ParseAddr(host) // invalid if host is a name
	if host != "" && !ip.Unmap().IsUnspecified() {
		return a.spell("address of the listener", listen, listen)
	}
	for _, name := range advertised {
		if value := getenv(name); value != "" {
			return a.spell("environment variable "+name, value, listen)
		}
	}
	found, err := hosts()
	if err != nil {
		return "", fmt.Errorf("discovery: interfaces of this host: %w", err)
	}
	if ip.Is4() {
		found = slices.DeleteFunc(found, func(h hostAddr) bool { return !h.Is4() })
	}
	best, err := a.pick(found)
	if err != nil {
		return "", fmt.Errorf("discovery: address that others reach %q at: %w; set Advertising.Addr or .Prefer, or %s", listen, err, advertised[0])
	}
	return a.spell("interface "+best.Interface, best.Addr.String(), net.JoinHostPort("", port))
}

// spell returns the canonical form of value, which is a host with or without a port and comes from source. A port that
// it lacks is that of listen.
func (a Advertising) spell(source, value, listen string) (string, error) {
	addr := value
	if bare, ok := portless(value); ok {
		_, port, err := net.SplitHostPort(listen)
		if err != nil {
			return "", addrError(listen, `address of the listener is not "host:port"`)
		}
		addr = net.JoinHostPort(bare, port)
	}
	addr, err := canonicalAddr(addr)
	if err != nil {
		return "", fmt.Errorf("%w (%s)", err, source)
	}
	host, _, _ := net.SplitHostPort(addr)
	ip, _ := netip.ParseAddr(host)
	switch {
	case host == "localhost", strings.HasSuffix(host, ".localhost"), ip.IsLoopback():
		if !a.AllowLoopback {
			return "", fmt.Errorf("discovery: %s: only this host reaches %s: set Advertising.AllowLoopback if all callers are on it", source, addr)
		}
	case ip.IsUnspecified(), ip.IsMulticast(), ip.IsLinkLocalUnicast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "", fmt.Errorf("discovery: %s: others cannot reach %s", source, addr)
	}
	return addr, nil
}

// portless reports whether value is a host alone, and returns it without brackets.
func portless(value string) (string, bool) {
	if inner, ok := strings.CutPrefix(value, "["); ok {
		return strings.CutSuffix(inner, "]")
	}
	_, err := netip.ParseAddr(value)
	return value, err == nil || !strings.Contains(value, ":")
}

// pick returns the one address of found to advertise.
func (a Advertising) pick(found []hostAddr) (hostAddr, error) {
	ignore := a.Ignore
	if ignore == nil {
		ignore = ownNetworks
	}
	for _, pattern := range ignore {
		if _, err := path.Match(pattern, ""); err != nil {
			return hostAddr{}, fmt.Errorf("Advertising.Ignore %q: %w", pattern, err)
		}
	}
	var usable, local []hostAddr
	for _, h := range found {
		ignored := slices.ContainsFunc(ignore, func(pattern string) bool {
			matched, _ := path.Match(pattern, h.Interface)
			return matched
		})
		switch {
		case ignored:
		case h.IsLoopback():
			local = append(local, h)
		case h.IsGlobalUnicast():
			usable = append(usable, h)
		}
	}
	networks := make([][]netip.Prefix, len(a.Prefer))
	for i, p := range a.Prefer {
		networks[i] = []netip.Prefix{p}
	}
	if len(a.Prefer) == 0 {
		networks = [][]netip.Prefix{private4, private6}
	}
	for _, network := range networks {
		var in []hostAddr
		for _, h := range usable {
			if slices.ContainsFunc(network, func(p netip.Prefix) bool { return p.Contains(h.Addr) }) {
				in = append(in, h)
			}
		}
		switch len(in) {
		case 0:
		case 1:
			return in[0], nil
		default:
			return hostAddr{}, fmt.Errorf("several are as good: %s", list(in))
		}
	}
	switch {
	case a.AllowLoopback && len(local) > 0:
		return local[0], nil
	case len(usable) == 0:
		return hostAddr{}, errors.New("no interface has one")
	case len(a.Prefer) > 0:
		return hostAddr{}, fmt.Errorf("none is in Advertising.Prefer: %s", list(usable))
	}
	return hostAddr{}, fmt.Errorf("none is private: %s", list(usable))
}

var (
	private4 = []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10"),
	}
	private6 = []netip.Prefix{netip.MustParsePrefix("fc00::/7")}
)

func list(hosts []hostAddr) string {
	text := make([]string, len(hosts))
	for i, h := range hosts {
		text[i] = h.String()
	}
	return strings.Join(text, ", ")
}

// hostAddrs returns the addresses of the interfaces that are up, those of IPv4 first in each.
func hostAddrs() ([]hostAddr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var found []hostAddr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it was removed since
		}
		for _, addr := range addrs {
			if prefix, err := netip.ParsePrefix(addr.String()); err == nil {
				found = append(found, hostAddr{i.Name, prefix.Addr().Unmap()})
			}
		}
	}
	return found, nil
}

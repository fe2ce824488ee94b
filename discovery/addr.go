package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// canonicalAddr returns the one spelling of addr that serves as identity.
func canonicalAddr(addr string) (string, error) {
	a, err := parseAddress(addr)
	if err != nil {
		return "", err
	}
	return a.String(), nil
}

// address is a parsed "host:port".
type address struct {
	ip   netip.Addr // unmapped; not valid if there is a name
	name string     // in lower case
	port uint16
}

// String returns the one spelling that serves as identity: the address of an IPv4 host without the mapping to IPv6, the name
// of a host in lower case, the port without leading zeros.
func (a address) String() string {
	if a.name == "" {
		return netip.AddrPortFrom(a.ip, a.port).String()
	}
	return net.JoinHostPort(a.name, strconv.Itoa(int(a.port)))
}

func parseAddress(addr string) (address, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return address{}, addrError(addr, `not "host:port"`)
	}
	// Digits only: ParseUint refuses signs, but names of services such as "http" need a look-up that may
	// differ from host to host.
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return address{}, addrError(addr, "port is not in 1..65535")
	}
	bracketed := addr[0] == '['
	if ip, err := netip.ParseAddr(host); err == nil {
		switch {
		case ip.Zone() != "":
			return address{}, addrError(addr, "IPv6 zone")
		case bracketed != ip.Is6():
			return address{}, addrError(addr, "brackets belong to IPv6 only")
		}
		return address{ip: ip.Unmap(), port: uint16(n)}, nil
	}
	if bracketed || !hostname(host) {
		return address{}, addrError(addr, "host is neither an IP address nor a host name")
	}
	return address{name: strings.ToLower(host), port: uint16(n)}, nil
}

// addrError quotes and cuts addr, because it comes from outside and ends in logs.
func addrError(addr, reason string) error {
	const longest = 256
	if len(addr) > longest {
		addr = addr[:longest]
	}
	return fmt.Errorf("discovery: address %q: %s", addr, reason)
}

// hostname reports whether s is a name that DNS can carry: labels of 1 to 63 letters, digits, hyphens and
// underscores (container names have them), 253 bytes in all, with one dot at the end or without.
func hostname(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return false
	}
	var label string
	for label = range strings.SplitSeq(s, ".") {
		if len(label) < 1 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !alphanumeric(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return !numeric(label)
}

// numeric reports whether a label is a number to the C library. A name that ends in one ("127.1",
// "0x7f.1", "1.2.3.256") is an IPv4 address in disguise to some resolvers, and a name to others.
func numeric(label string) bool {
	digits := "0123456789"
	label = strings.ToLower(label)
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		label, digits = hex, "0123456789abcdef"
	}
	return strings.Trim(label, digits) == ""
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

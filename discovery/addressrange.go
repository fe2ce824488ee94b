package discovery

import "net/netip"

// refused are the ranges that remote sources must not name.
var refused = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address, where clouds hand out credentials"},
	{netip.MustParsePrefix("0.0.0.0/8"), "an unspecified address, which is the machine itself to some systems"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved or broadcast address"},
	{netip.MustParsePrefix("100.100.100.200/32"), "the metadata service of a cloud"}, // Alibaba
	{netip.MustParsePrefix("168.63.129.16/32"), "the metadata service of a cloud"},   // Azure
	{netip.MustParsePrefix("192.0.0.192/32"), "the metadata service of a cloud"},     // Oracle
	{netip.MustParsePrefix("::1/128"), "a loopback address"},
	{netip.MustParsePrefix("::/128"), "an unspecified address, which is the machine itself to some systems"},
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "the metadata service of a cloud"},          // AWS: ::254, ::23 and others
	{netip.MustParsePrefix("fd20:ce::254/128"), "the metadata service of a cloud"},       // Google
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), "the metadata service of a cloud"}, // Oracle
}

// refusedRange returns what is wrong with an address, or "".
func refusedRange(ip netip.Addr) string {
	if ip.Zone() != "" {
		return "an address with an IPv6 zone"
	}
	for i := range refused {
		if refused[i].prefix.Contains(ip) {
			return refused[i].what
		}
	}
	if ip.Is6() && leadsAstray(ip.As16()) {
		return "an IPv6 address that leads to a refused IPv4 address"
	}
	return ""
}

var (
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291, deprecated
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
)

// leadsAstray reports whether an IPv6 address carries a refused IPv4 address that translators and tunnels would send to.
func leadsAstray(b [16]byte) bool {
	ip := netip.AddrFrom16(b)
	refused := func(b ...byte) bool { return refusedRange(netip.AddrFrom4([4]byte(b))) != "" }
	switch {
	case compatible.Contains(ip), translated.Contains(ip), nat64.Contains(ip):
		return refused(b[12:]...)
	case sixToFour.Contains(ip):
		return refused(b[2:6]...)
	case teredo.Contains(ip): // by a relay, to the client
		return refused(b[4:8]...) || refused(^b[12], ^b[13], ^b[14], ^b[15])
	case localNAT64.Contains(ip):
		// It is not known which of the places in RFC 6052, section 2.2, is in use. Of those that are not, most hold zeros.
		nothing := true
		for _, v4 := range [][]byte{
			{b[6], b[7], b[9], b[10]}, {b[7], b[9], b[10], b[11]}, {b[9], b[10], b[11], b[12]}, {b[12], b[13], b[14], b[15]},
		} {
			if v4[0] != 0 {
				nothing = false
				if refused(v4...) {
					return true
				}
			}
		}
		return nothing
	}
	return false
}

package dns

import (
	"io"
	"net/netip"
	"os"

	"github.com/miekg/dns"
)

const (
	// maxServers bounds the servers of one question: each must have time to answer within two seconds.
	maxServers = 8
	// maxConfigured is how many of them resolv.conf(5) allows; the C library reads no more.
	maxConfigured = 3
)

// serverAddr returns the address to dial of a server with or without a port.
func serverAddr(s string) (string, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.String(), ap.Port() != 0
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53).String(), true
	}
	return "", false
}

// configured returns the servers that a file like resolv.conf names; none if it cannot be read.
func configured(path string) []string {
	if path == "" {
		path = "/etc/resolv.conf"
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	config, err := dns.ClientConfigFromReader(io.LimitReader(f, 64<<10))
	if err != nil {
		return nil
	}
	var servers []string
	for _, s := range config.Servers {
		if addr, ok := serverAddr(s); ok && len(servers) < maxConfigured {
			servers = append(servers, addr)
		}
	}
	return servers
}

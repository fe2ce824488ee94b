package console

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Bounds of what a Console keeps. What is beyond them is left out of its counts, or is the oldest that gives way; it is in State all
// the same. With all of them reached a Console takes at most 110 MB, with 500 services of 20 endpoints that all have traffic about 40.
const (
	// MaxServices and MaxEndpoints are how many have counts, over all meshes, at 18 KB and 2.7 KB each.
	MaxServices  = 2000
	MaxEndpoints = 20_000
	// MaxRoutes is how many pairs of a rule and a backend have counts.
	MaxRoutes = 2000
	// MaxEvents and MaxFailures are how many are kept.
	MaxEvents   = 1000
	MaxFailures = 512
	// MaxMeshes is how many meshes are shown, and MaxServers how many servers of the process.
	MaxMeshes  = 64
	MaxServers = 16
)

// Config is the set-up of a Console. The zero value is good for a port that is reached from the same machine.
type Config struct {
	// Name is that of the program, for people. Empty means the name of its file.
	Name string
	// Hosts are further names or addresses under which the console may be reached: those in the address bar, such as
	// "console.internal", with a port if only that one is meant. localhost and loopback addresses are always allowed. Requests that
	// name another host are refused, so that a web page cannot make a browser read the console under a name of its own.
	Hosts []string
	// AdminPath is the path of an Admin on the same host, such as "/debug/zerohop-admin", for the page to show what operators can do. Empty
	// means none. The Admin is to be mounted there by the program.
	AdminPath string
	// MaxStreams is how many streams there may be at once. 0 means 16, and the most is 1000.
	MaxStreams int
}

func (c *Config) validate() error {
	var errs []error
	for i, h := range c.Hosts {
		if name, _ := splitHost(h); name == "" || strings.ContainsAny(h, "/ @\\*?#") {
			errs = append(errs, fmt.Errorf("hosts[%d]: must be a host with or without a port, got %q", i, h))
		}
	}
	if c.AdminPath != "" && (!strings.HasPrefix(c.AdminPath, "/") || strings.HasPrefix(c.AdminPath, "//") || strings.ContainsAny(c.AdminPath, "\\?#") || visible(c.AdminPath, maxText) != c.AdminPath) {
		errs = append(errs, fmt.Errorf("adminPath: must be a path that begins with a slash, got %q", c.AdminPath))
	}
	if c.MaxStreams < 0 || c.MaxStreams > 1000 {
		errs = append(errs, fmt.Errorf("maxStreams: must be between 0 and 1000, got %d", c.MaxStreams))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("console: invalid configuration: %w", err)
	}
	return nil
}

// splitHost returns the name, in lower case and without brackets or a dot at its end, and the port of a host, empty if it has none. The
// name is empty if it is no host: a port is a number, and in brackets are addresses.
func splitHost(host string) (name, port string) {
	if n, p, err := net.SplitHostPort(host); err == nil {
		if strings.Trim(p, "0123456789") != "" || strings.HasPrefix(host, "[") && !isAddr(n) {
			return "", ""
		}
		name, port = n, p
	} else if name = host; strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		if name = host[1 : len(host)-1]; !isAddr(name) {
			return "", ""
		}
	} else if strings.Contains(host, ":") && !isAddr(host) {
		return "", ""
	}
	return strings.ToLower(strings.TrimSuffix(name, ".")), port
}

func isAddr(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// hosts is the list of hosts that are allowed.
type hosts map[[2]string]bool

func newHosts(list []string) hosts {
	h := hosts{}
	for _, s := range list {
		name, port := splitHost(s)
		h[[2]string{name, port}] = true
	}
	return h
}

// allow reports whether a request that names the host is let in.
func (h hosts) allow(host string) bool {
	name, port := splitHost(host)
	if name == "" {
		return false
	}
	if addr, err := netip.ParseAddr(name); name == "localhost" || strings.HasSuffix(name, ".localhost") && name[0] != '.' || err == nil && addr.Zone() == "" && addr.Unmap().IsLoopback() {
		return true
	}
	return h[[2]string{name, ""}] || port != "" && h[[2]string{name, port}]
}

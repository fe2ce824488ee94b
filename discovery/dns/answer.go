package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// maxAliases bounds a chain of CNAME records, and with it those that lead in a circle. The longest of those that big
// providers use have five.
const maxAliases = 16

// answer is what a source says to a question. One without records says that there are none.
type answer struct {
	addrs   []netip.Addr            // of A and AAAA
	targets []record                // of SRV
	glue    map[string][]netip.Addr // addresses of targets that came along
	ttl     time.Duration           // how long it is good for
}

func (a answer) empty() bool { return len(a.addrs) == 0 && len(a.targets) == 0 }

var (
	errReferral    = errors.New("the server does not resolve the name but refers to others")
	errContradicts = errors.New("the answer says that the name does not exist, and has records")
	errAliases     = fmt.Errorf("more than %d aliases", maxAliases)
)

// codeError is the code of an answer that is none.
type codeError int

func (c codeError) Error() string {
	if s, ok := dns.RcodeToString[int(c)]; ok {
		return s
	}
	return fmt.Sprintf("response code %d", int(c))
}

// read returns what a message says about q. If it ends with an alias of another name, next is that name. Records of
// other names are not looked at.
func read(m *dns.Msg, q question) (a answer, next string, err error) {
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return answer{}, "", codeError(m.Rcode)
	}
	name, ttl, err := follow(m, q)
	if err != nil {
		return answer{}, "", err
	}
	a.ttl = ttl
	for _, rr := range m.Answer {
		if h := rr.Header(); h.Rrtype != q.kind || h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != name {
			continue
		}
		if srv, ok := rr.(*dns.SRV); ok {
			target := dns.CanonicalName(srv.Target)
			a.targets = append(a.targets, record{target, srv.Port, srv.Priority, srv.Weight})
		} else if ip, ok := addrOf(rr); ok {
			a.addrs = append(a.addrs, ip)
		} else {
			continue
		}
		a.ttl = min(a.ttl, life(rr.Header().Ttl))
	}
	switch {
	case !a.empty() && m.Rcode == dns.RcodeNameError:
		return answer{}, "", errContradicts
	case !a.empty():
		a.readGlue(m.Extra)
		return a, "", nil
	}
	soa, delegated := authority(m.Ns)
	switch {
	case soa != nil:
		a.ttl = min(a.ttl, life(soa.Hdr.Ttl), life(soa.Minttl)) // RFC 2308, section 5
	case m.Rcode == dns.RcodeNameError:
		a.ttl = 0
	case name != q.name:
		return a, name, nil
	case delegated && !m.Authoritative:
		return answer{}, "", errReferral
	default:
		a.ttl = 0 // RFC 2308: without SOA it is not to be kept
	}
	return a, "", nil
}

// follow returns the name at the end of the aliases of q in a message, and how long all of them are good for.
func follow(m *dns.Msg, q question) (name string, ttl time.Duration, err error) {
	name, ttl = q.name, longestLife
	var aliases map[string]*dns.CNAME
	for _, rr := range m.Answer {
		if alias, ok := rr.(*dns.CNAME); ok && alias.Hdr.Class == dns.ClassINET {
			if aliases == nil {
				aliases = make(map[string]*dns.CNAME)
			}
			aliases[dns.CanonicalName(alias.Hdr.Name)] = alias
		}
	}
	for range maxAliases {
		alias, ok := aliases[name]
		if !ok {
			return name, ttl, nil
		}
		name, ttl = dns.CanonicalName(alias.Target), min(ttl, life(alias.Hdr.Ttl))
	}
	return "", 0, errAliases
}

// readGlue takes the addresses of SRV targets from the additional records.
func (a *answer) readGlue(extra []dns.RR) {
	if len(a.targets) == 0 || len(extra) == 0 {
		return
	}
	a.glue = make(map[string][]netip.Addr, len(a.targets))
	for name := range names(a.targets) {
		a.glue[name] = nil
	}
	for _, rr := range extra {
		ip, ok := addrOf(rr)
		if !ok || rr.Header().Class != dns.ClassINET {
			continue
		}
		name := dns.CanonicalName(rr.Header().Name)
		if list, ok := a.glue[name]; ok {
			a.glue[name] = append(list, ip)
			a.ttl = min(a.ttl, life(rr.Header().Ttl))
		}
	}
}

// authority looks at the records that say who is responsible for a name.
func authority(ns []dns.RR) (soa *dns.SOA, delegated bool) {
	for _, rr := range ns {
		switch rr := rr.(type) {
		case *dns.SOA:
			return rr, false
		case *dns.NS:
			delegated = true
		}
	}
	return nil, delegated
}

func addrOf(rr dns.RR) (netip.Addr, bool) {
	var ip net.IP
	switch rr := rr.(type) {
	case *dns.A:
		ip = rr.A
	case *dns.AAAA:
		ip = rr.AAAA
	}
	a, ok := netip.AddrFromSlice(ip)
	if _, v4 := rr.(*dns.A); v4 {
		a = a.Unmap()
	}
	return a, ok
}

// life returns a time to live. One with the highest bit set counts as 0 (RFC 2181, section 8).
func life(seconds uint32) time.Duration {
	if seconds > 1<<31-1 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

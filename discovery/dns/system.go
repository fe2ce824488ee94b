package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

const (
	// systemLife is how long answers of the operating system are used, which do not say how long they are good for.
	systemLife = 10 * time.Second
	// systemTime bounds one question to it. Its own retries take longer than ours.
	systemTime = 10 * time.Second
)

// system asks the operating system, and is a source.
type system struct{ resolver *net.Resolver }

func (s system) ask(ctx context.Context, q question) (answer, error) {
	limited, cancel := context.WithTimeout(ctx, systemTime)
	defer cancel()
	a := answer{ttl: systemLife}
	var err error
	switch q.kind {
	case dns.TypeSRV:
		a.targets, err = s.srv(limited, q.name)
	case dns.TypeA:
		a.addrs, err = s.addrs(limited, "ip4", q.name)
	default:
		a.addrs, err = s.addrs(limited, "ip6", q.name)
	}
	if ctx.Err() != nil {
		return answer{}, ctx.Err()
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return a, nil
	}
	if err != nil && a.empty() {
		return answer{}, &failure{q: q, err: err, answered: true}
	}
	return a, nil
}

func (s system) addrs(ctx context.Context, network, name string) ([]netip.Addr, error) {
	addrs, err := s.resolver.LookupNetIP(ctx, network, name)
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	return addrs, err
}

// srv returns records and an error if some of them are not valid.
func (s system) srv(ctx context.Context, name string) ([]record, error) {
	_, list, err := s.resolver.LookupSRV(ctx, "", "", name)
	records := make([]record, 0, len(list))
	for _, r := range list {
		records = append(records, record{dns.CanonicalName(r.Target), r.Port, r.Priority, r.Weight})
	}
	return records, err
}

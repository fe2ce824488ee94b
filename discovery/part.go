package discovery

import (
	"context"
	"fmt"
)

// watchPart is the Watch of a combinator that takes part of what one source finds. Endpoints whose address is good go through
// choose, which may use their slice, with addresses in canonical form. The others are left to Run, which counts them; but an
// answer of which nothing is chosen is empty.
func watchPart(ctx context.Context, name string, r Resolver, service string, choose func([]Endpoint) []Endpoint, update func([]Endpoint)) error {
	if r == nil {
		return fmt.Errorf("discovery: the source of %s is nil", name)
	}
	var policy *AddressPolicy
	if s, ok := ctx.Value(supervisorKey{}).(*supervisor); ok && !s.unchecked && s.opts.Addresses.appliesTo(r) {
		policy = &s.opts.Addresses
	}
	return r.Watch(ctx, service, func(answer []Endpoint) {
		if len(answer) > maxEndpoints {
			update(answer) // Run is to reject it
			return
		}
		good, bad := make([]Endpoint, 0, len(answer)), []Endpoint(nil)
		for _, e := range answer {
			addr, err := parseAddress(e.Addr)
			if err == nil && policy != nil {
				err = policy.check(addr)
			}
			if err != nil {
				bad = append(bad, e)
				continue
			}
			e.Addr = addr.String()
			good = append(good, e)
		}
		any := len(good) > 0
		set := choose(good)
		if len(set) > 0 || !any {
			set = append(set, bad...)
		}
		update(set)
	})
}

package discoverytest

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/conformance"
)

// queue is how many sets a watch may deliver beyond what a check has read. More is a flood.
const queue = 4096

// newsOf says how the sets are read that a watch delivers.
func newsOf(timeout time.Duration) conformance.Config[[]discovery.Endpoint] {
	return conformance.Config[[]discovery.Endpoint]{
		Noun: "set", Queue: queue, Timeout: timeout,
		Text: addrs, Clear: func(set []discovery.Endpoint) { clear(set) },
	}
}

// watch is one running call of Watch, or of Run.
type watch struct {
	*conformance.Watch[[]discovery.Endpoint]
	check *check
}

// start calls Watch of service in the background. The watch ends with the check, at the latest.
func (c *check) start(ctx context.Context, service string) *watch {
	return c.startFunc(ctx, func(ctx context.Context, update func([]discovery.Endpoint)) error {
		return c.src.Resolver.Watch(ctx, service, update)
	})
}

func (c *check) startFunc(ctx context.Context, call func(context.Context, func([]discovery.Endpoint)) error) *watch {
	return &watch{c.watches.Start(ctx, call), c}
}

// until reads sets until one is want. Each of them must hold the addresses in always and none that is not in
// possible.
func (w *watch) until(want []discovery.Endpoint, always, possible []discovery.Endpoint) {
	w.check.t.Helper()
	for {
		got := strings.Fields(w.Next())
		for _, addr := range strings.Fields(addrs(always)) {
			if !slices.Contains(got, addr) {
				w.check.t.Fatalf("set %v lacks %s, which the source never dropped", got, addr)
			}
		}
		for _, addr := range got {
			if !slices.Contains(strings.Fields(addrs(possible)), addr) {
				w.check.t.Fatalf("set %v has %s, which the source does not list", got, addr)
			}
		}
		if strings.Join(got, " ") == addrs(want) {
			return
		}
	}
}

// addrs returns the sorted addresses of a set in canonical form.
func addrs(set []discovery.Endpoint) string {
	list := make([]string, len(set))
	for i, e := range set {
		list[i] = e.Addr
		if ap, err := netip.ParseAddrPort(e.Addr); err == nil {
			list[i] = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

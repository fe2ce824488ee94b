package consul

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/zerohop/zerohop/discovery"
)

// datacenterKey is the metadata of instances of another datacenter.
const datacenterKey = "consul-datacenter"

func checkFailover(local string, others []string) error {
	for i, name := range others {
		if name == "" || name == local || slices.Contains(others[:i], name) {
			return fmt.Errorf("consul: Resolver.Failover: %q is empty or named twice", name)
		}
	}
	return nil
}

// chain watches datacenters in order, each while none before it has a healthy instance.
type chain struct {
	resolver Resolver
	service  string
	update   func([]discovery.Endpoint)
	watches  sync.WaitGroup // of all levels but the first

	mu     sync.Mutex // guards levels, and makes the calls of update sequential
	levels []level
}

// level is a datacenter.
type level struct {
	name string
	set  []discovery.Endpoint
	said bool               // it has answered, or failed to
	stop context.CancelFunc // ends its watch; nil if there is none
}

func newChain(r Resolver, service string, update func([]discovery.Endpoint)) *chain {
	c := &chain{resolver: r, service: service, update: update, levels: []level{{name: r.Datacenter}}}
	for _, name := range r.Failover {
		c.levels = append(c.levels, level{name: name})
	}
	return c
}

// watch watches until the watch of the first datacenter ends.
func (c *chain) watch(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer c.watches.Wait()
	defer stop()
	return c.resolver.watch(ctx, c.service, func(set []discovery.Endpoint) { c.accept(ctx, ctx, 0, set) })
}

// accept takes what datacenter i has. own ends with its watch, all with those of all.
func (c *chain) accept(all, own context.Context, i int, set []discovery.Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if own.Err() != nil {
		return
	}
	c.levels[i].set, c.levels[i].said = set, true
	c.turn(all)
}

// fail notes that datacenter i cannot be asked. What it said before stays.
func (c *chain) fail(all, own context.Context, i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if own.Err() != nil || c.levels[i].said {
		return
	}
	c.levels[i].said = true
	c.turn(all)
}

// turn starts and ends watches as it needs, and tells what there is once all that are needed have answered.
func (c *chain) turn(all context.Context) {
	needed := true
	for i := range c.levels {
		l := &c.levels[i]
		switch {
		case i > 0 && needed && l.stop == nil:
			c.start(all, i)
		case i > 0 && !needed && l.stop != nil:
			l.stop()
			*l = level{name: l.name}
		}
		if needed && !l.said {
			return
		}
		needed = needed && !slices.ContainsFunc(l.set, healthy)
	}
	c.update(c.join())
}

func healthy(ep discovery.Endpoint) bool { return ep.Health == discovery.Healthy }

// start watches datacenter i.
func (c *chain) start(all context.Context, i int) {
	own, stop := context.WithCancel(all)
	c.levels[i].stop = stop
	r := c.resolver
	r.Datacenter = c.levels[i].name
	c.watches.Go(func() { // ended by stop, awaited by watch
		_ = discovery.Run(own, watchFunc(r.watch), c.service, discovery.RunOptions{
			EmptyGrace: -1, // the Run of our caller knows doubt
			Observe: func(e discovery.Event) {
				if e.Kind != discovery.EventWatchFailed {
					return
				}
				if r.OnError != nil {
					r.OnError(fmt.Errorf("consul: Resolver.Failover %q: %w", r.Datacenter, e.Err))
				}
				c.fail(all, own, i)
			},
		}, func(set []discovery.Endpoint) { c.accept(all, own, i, set) })
	})
}

// join returns all instances, those of each datacenter with higher priorities than those before it.
func (c *chain) join() []discovery.Endpoint {
	var joined []discovery.Endpoint
	next := 0
	for i, l := range c.levels {
		base := max(i, next)
		for _, ep := range l.set {
			if i > 0 {
				ep.Priority = uint8(min(base+int(ep.Priority), math.MaxUint8))
				meta := maps.Clone(ep.Meta)
				if meta == nil {
					meta = make(map[string]string, 1)
				}
				meta[datacenterKey] = l.name
				ep.Meta = meta
			}
			next = max(next, int(ep.Priority)+1)
			joined = append(joined, ep)
		}
	}
	return joined
}

// watchFunc is a Resolver that is not remote: addresses are checked where the set is used.
type watchFunc func(ctx context.Context, service string, update func([]discovery.Endpoint)) error

func (f watchFunc) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	return f(ctx, service, update)
}

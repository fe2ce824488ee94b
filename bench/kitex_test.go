package bench

import (
	"context"

	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/loadbalance"
)

func kitexRoundRobin(list []string) subject {
	return kitex(loadbalance.NewWeightedRoundRobinBalancer(), list)
}

func kitexRandom(list []string) subject { return kitex(loadbalance.NewWeightedRandomBalancer(), list) }

// kitex drives a balancer as its client does: it is told of changes and asked for the picker of each call.
func kitex(lb loadbalance.Loadbalancer, list []string) subject {
	known := map[string]discovery.Instance{}
	var result discovery.Result
	update := func(list []string) func() {
		next := discovery.Result{Cacheable: true, CacheKey: "orders", Instances: make([]discovery.Instance, len(list))}
		for i, addr := range list {
			if known[addr] == nil {
				known[addr] = discovery.NewInstance("tcp", addr, 10, nil)
			}
			next.Instances[i] = known[addr]
		}
		return func() {
			result = next
			lb.(loadbalance.Rebalancer).Rebalance(discovery.Change{Result: next})
		}
	}
	update(list)()
	ctx := context.Background()
	return subject{
		caller: func() func() {
			return func() {
				p := lb.GetPicker(result)
				if p.Next(ctx, nil) == nil {
					panic("no instance")
				}
				if r, ok := p.(interface{ Recycle() }); ok {
					r.Recycle()
				}
			}
		},
		update: update,
	}
}

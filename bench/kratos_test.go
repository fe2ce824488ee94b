package bench

import (
	"context"

	"github.com/go-kratos/kratos/v2/registry"
	"github.com/go-kratos/kratos/v2/selector"
	"github.com/go-kratos/kratos/v2/selector/p2c"
	"github.com/go-kratos/kratos/v2/selector/wrr"
)

func kratosP2C(list []string) subject { return kratos(p2c.New(), list) }

func kratosWRR(list []string) subject { return kratos(wrr.New(), list) }

func kratos(s selector.Selector, list []string) subject {
	update := func(list []string) func() {
		nodes := make([]selector.Node, len(list))
		for i, addr := range list {
			nodes[i] = selector.NewNode("http", addr, &registry.ServiceInstance{ID: addr, Name: "orders"})
		}
		return func() { s.Apply(nodes) }
	}
	update(list)()
	ctx := context.Background()
	return subject{
		caller: func() func() {
			return func() {
				_, done, err := s.Select(ctx)
				if err != nil {
					panic(err)
				}
				done(ctx, selector.DoneInfo{})
			}
		},
		update: update,
	}
}

package bench

import (
	"context"

	"github.com/go-kit/kit/sd"
	"github.com/go-kit/kit/sd/lb"
)

func goKitRoundRobin(list []string) subject { return goKit(lb.NewRoundRobin(goKitEndpoints(list))) }

func goKitRandom(list []string) subject { return goKit(lb.NewRandom(goKitEndpoints(list), 1)) }

func goKitEndpoints(list []string) sd.FixedEndpointer {
	eps := make(sd.FixedEndpointer, len(list))
	for i := range eps {
		eps[i] = func(context.Context, any) (any, error) { return nil, nil }
	}
	return eps
}

// goKit measures the choice from a fixed list: it takes in changes in a goroutine of its own.
func goKit(b lb.Balancer) subject {
	return subject{caller: func() func() {
		return func() {
			if _, err := b.Endpoint(); err != nil {
				panic(err)
			}
		}
	}}
}

package bench

import (
	"encoding/json"
	"strings"
	"time"

	orca "github.com/cncf/xds/go/xds/data/orca/v3"
	"github.com/zeromicro/go-zero/core/logx"
	_ "github.com/zeromicro/go-zero/zrpc" // registers p2c_ewma
	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/weightedroundrobin"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	_ "google.golang.org/grpc/xds" // registers outlier_detection_experimental
)

func grpcRoundRobin(list []string) subject { return grpcBalancer("round_robin", `{}`, nil, list) }

func grpcLeastRequest(list []string) subject {
	return grpcBalancer("least_request_experimental", `{"choiceCount":2}`, nil, list)
}

// grpcWeightedRoundRobin has endpoints that report different loads; without reports it is plain round robin.
func grpcWeightedRoundRobin(list []string) subject {
	s := grpcBalancer("weighted_round_robin", `{"blackoutPeriod":"0s","weightUpdatePeriod":"0.1s"}`, func(i int) any {
		return &orca.OrcaLoadReport{ApplicationUtilization: 0.5, RpsFractional: float64(50 + i%7)}
	}, list)
	time.Sleep(300 * time.Millisecond) // until it has made a schedule of the reports
	return s
}

func grpcOutlierDetection(list []string) subject {
	return grpcBalancer("outlier_detection_experimental", `{"interval":"10s","failurePercentageEjection":{},
		"successRateEjection":{},"childPolicy":[{"round_robin":{}}]}`, nil, list)
}

func goZeroP2C(list []string) subject {
	logx.Disable() // or it writes between the results
	return grpcBalancer("p2c_ewma", ``, nil, list)
}

// grpcBalancer drives a policy as a ClientConn does, with connections that are ready as soon as they are asked for. If
// load is given, the answers to one call to each endpoint have it.
func grpcBalancer(name, config string, load func(i int) any, list []string) subject {
	builder := balancer.Get(name)
	async := strings.HasPrefix(name, "outlier_detection") // its pickers come from a goroutine of its own
	cc := &clientConn{}
	cc.policy = builder.Build(cc, balancer.BuildOptions{Target: resolver.Target{}})
	var cfg serviceconfig.LoadBalancingConfig
	if parser, ok := builder.(balancer.ConfigParser); ok {
		var err error
		if cfg, err = parser.ParseConfig(json.RawMessage(config)); err != nil {
			panic(err)
		}
	}
	update := func(list []string) func() {
		state := balancer.ClientConnState{BalancerConfig: cfg}
		for _, addr := range list {
			a := resolver.Address{Addr: addr}
			state.ResolverState.Addresses = append(state.ResolverState.Addresses, a)
			state.ResolverState.Endpoints = append(state.ResolverState.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{a}})
		}
		return func() {
			if err := cc.policy.UpdateClientConnState(state); err != nil {
				panic(err)
			}
			cc.settle(len(list))
			for async && !cc.reaches(len(list)) {
				time.Sleep(100 * time.Microsecond)
				cc.settle(len(list))
			}
		}
	}
	update(list)()
	for i := range list {
		if load != nil {
			cc.call(load(i))
		}
	}
	return subject{
		caller: func() func() { return func() { cc.call(nil) } },
		update: update,
		close:  cc.policy.Close,
	}
}

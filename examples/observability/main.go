// Command observability shows what a mesh tells OpenTelemetry: it makes calls over HTTP and gRPC to services that it starts itself,
// lets faults come and go, and sends metrics and spans to a Collector.
//
//	go run ./examples/observability            # to the Collector at http://127.0.0.1:4318, until it is interrupted
//	go run ./examples/observability -servers   # starts a Collector and Prometheus itself, if their programs are there
//
// Without a Collector it runs all the same and says so: calls do not depend on it. What to look at in Prometheus and Grafana, and how
// to start them, is in docs/observability.md; otelcol.yaml, prometheus.yml, rules.yaml and the dashboards are beside this file. It
// prints:
//
//	no Collector at http://127.0.0.1:4318: metrics and spans are dropped until there is one
//	all is well
//	an instance of orders is killed
//	an instance of stock is slow
//	all instances of payments fail
//	the registry is silent
//	all is well
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/examples/observability/pipeline"
	"github.com/zerohop/zerohop/routing"
	"github.com/zerohop/zerohop/telemetry"
)

// options are the flags.
type options struct {
	collector string
	servers   bool
	step      time.Duration // how long each fault lasts
	every     time.Duration // how often metrics are sent
	rate      int           // calls a second to each service
}

func main() {
	var o options
	flag.StringVar(&o.collector, "collector", "http://127.0.0.1:4318", "where the Collector takes OTLP over HTTP")
	flag.BoolVar(&o.servers, "servers", false, "start otelcol and prometheus on their usual ports of loopback")
	flag.DurationVar(&o.step, "step", 30*time.Second, "how long each fault lasts")
	flag.DurationVar(&o.every, "every", 5*time.Second, "how often metrics are sent")
	flag.IntVar(&o.rate, "rate", 50, "calls a second to each service")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.servers {
		s, err := startServers(usual)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		defer s.end()
		o.collector = "http://" + usual.otlp
		fmt.Printf("Prometheus: http://%s, alerts: http://%[1]s/alerts, logs: %s\n", usual.prometheus, s.dir)
	}
	if err := run(ctx, os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// spec is what the mesh is told: routes give names to calls, payments has limits, and the rest is as built in.
var spec = zerohop.Spec{
	Services: map[string]zerohop.Policy{
		"orders": {
			Balance:     "random", // others soon keep away from a broken instance, and it would never be ejected
			Outlier:     zerohop.Outlier{Consecutive: 2},
			HealthCheck: zerohop.HealthCheck{Mode: zerohop.On, Interval: 2 * time.Second},
			Explain:     zerohop.ExplainPolicy{Sample: 0.05},
		},
		"stock": {},
		"payments": {
			RateLimit:      zerohop.RateLimit{Mode: zerohop.On, Rate: 40, Burst: 5},
			Limit:          zerohop.Limit{Mode: zerohop.On},
			ServiceBreaker: zerohop.Breaker{Mode: zerohop.On, Window: 5 * time.Second, Ratio: 0.3},
			Throttle:       zerohop.Throttle{Mode: zerohop.On},
		},
	},
	Routes: []routing.Rule{
		{Name: "browse", Match: routing.Match{Service: "orders", Method: "GET"}},
		{Name: "buy", Match: routing.Match{Service: "orders", Method: "POST"}},
	},
}

// run makes calls until ctx ends.
func run(ctx context.Context, out io.Writer, o options) error {
	if address, err := url.Parse(o.collector); err != nil {
		return err
	} else if c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address.Host); err != nil {
		fmt.Fprintf(out, "no Collector at %s: metrics and spans are dropped until there is one\n", o.collector)
	} else {
		c.Close()
	}
	otel.SetErrorHandler(seldom(out))

	sent, err := pipeline.New(ctx, pipeline.Config{URL: o.collector, Service: "shop", Instance: "shop-1", Every: o.every})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_ = sent.Shutdown(ctx) // what is lost is lost
	}()
	hooks, err := telemetry.New(telemetry.Config{MeterProvider: sent.Metrics, TracerProvider: sent.Traces, Propagator: propagation.TraceContext{}})
	if err != nil {
		return err
	}
	shop, err := open()
	if err != nil {
		return err
	}
	defer shop.close()
	mesh, err := zerohop.New(zerohop.Config{Resolver: shop.registry, Spec: spec, Hooks: hooks})
	if err != nil {
		return err
	}
	defer mesh.Close()
	return shop.traffic(ctx, mesh, o, func(text string) { fmt.Fprintln(out, text) })
}

// seldom prints what the SDK could not do, once in a minute.
func seldom(out io.Writer) otel.ErrorHandler {
	var last atomic.Int64 // in seconds
	return otel.ErrorHandlerFunc(func(err error) {
		if errors.Is(err, context.Canceled) { // what was on its way at the end
			return
		}
		now, before := time.Now().Unix(), last.Load()
		if now-before >= 60 && last.CompareAndSwap(before, now) {
			fmt.Fprintln(out, "telemetry:", err)
		}
	})
}

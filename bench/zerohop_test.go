package bench

import (
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

func roundRobin(list []string) subject {
	return zerohop(loadbalance.Config{Builder: loadbalance.WeightedRoundRobin}, list, steady)
}

func leastRequest(list []string) subject {
	return zerohop(loadbalance.Config{Builder: loadbalance.LeastRequest}, list, steady)
}

func peakEWMA(list []string) subject {
	return zerohop(loadbalance.Config{Builder: loadbalance.PeakEWMA}, list, steady)
}

// ejecting is what services have by default, without a zone.
var ejecting = loadbalance.Config{
	Builder:   loadbalance.PeakEWMA,
	Outlier:   &loadbalance.OutlierConfig{},
	SlowStart: &loadbalance.SlowStart{},
}

func peakEWMAEjecting(list []string) subject { return zerohop(ejecting, list, steady) }

func peakEWMAReadingTheClock(list []string) subject { return zerohop(ejecting, list, timed) }

func prequal(list []string) subject {
	return zerohop(loadbalance.Config{Builder: loadbalance.Prequal}, list, reporting)
}

const latency = 10 * time.Millisecond

func zerohop(cfg loadbalance.Config, list []string, caller func(*loadbalance.Balancer) func()) subject {
	b := loadbalance.New(cfg)
	update := func(list []string) func() {
		eps := make([]discovery.Endpoint, len(list))
		for i := range eps {
			eps[i] = discovery.Endpoint{Addr: list[i], Weight: 1}
		}
		return func() { b.Update(eps) }
	}
	update(list)()
	return subject{caller: func() func() { return caller(b) }, update: update}
}

// steady calls every 10 us, by a clock of its own: transports read the clock for other ends, too, and hand the time on.
func steady(b *loadbalance.Balancer) func() {
	now := time.Now()
	return func() {
		now = now.Add(10 * time.Microsecond)
		p, err := b.Pick(loadbalance.Info{Now: now})
		if err != nil {
			panic(err)
		}
		p.Done(loadbalance.Report{Now: now, Outcome: resilience.Success, Latency: latency})
	}
}

func timed(b *loadbalance.Balancer) func() {
	return func() {
		p, err := b.Pick(loadbalance.Info{Now: time.Now()})
		if err != nil {
			panic(err)
		}
		p.Done(loadbalance.Report{Now: time.Now(), Outcome: resilience.Success, Latency: latency})
	}
}

// reporting lets each endpoint report its load with each answer.
func reporting(b *loadbalance.Balancer) func() {
	now := time.Now()
	return func() {
		now = now.Add(10 * time.Microsecond)
		p, err := b.Pick(loadbalance.Info{Now: now})
		if err != nil {
			panic(err)
		}
		p.Node().ReportLoad(now, loadbalance.Load{InFlight: 2, Latency: latency})
		p.Done(loadbalance.Report{Now: now, Outcome: resilience.Success, Latency: latency})
	}
}

package loadbalance_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

func ExampleBalancer() {
	b := loadbalance.New(loadbalance.Config{Builder: loadbalance.PeakEWMA})
	b.Update([]discovery.Endpoint{{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}})

	call := func(addr string) error {
		if addr == "10.0.0.1:80" {
			return errors.New("connection refused")
		}
		return nil
	}

	ok := 0
	for range 100 {
		pick, err := b.Pick(loadbalance.Info{Now: time.Now()})
		if err != nil {
			fmt.Println(err)
			return
		}
		outcome := resilience.Success
		if call(pick.Node().Addr()) != nil {
			outcome = resilience.Failure
		} else {
			ok++
		}
		now := time.Now()
		pick.Done(loadbalance.Report{Now: now, Outcome: outcome, Latency: now.Sub(pick.Start())})
	}
	fmt.Println("nearly all calls succeed:", ok >= 95)

	// A retry asks for a node that was not tried.
	tried := b.Set().Nodes()[:1]
	pick, err := b.Pick(loadbalance.Info{Now: time.Now(), Avoid: tried, Other: true})
	fmt.Println(pick.Node().Addr(), err)
	pick.Done(loadbalance.Report{Now: time.Now(), Outcome: resilience.Neutral})
	// Output:
	// nearly all calls succeed: true
	// 10.0.0.2:80 <nil>
}

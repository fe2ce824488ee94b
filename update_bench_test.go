package zerohop

import (
	"fmt"
	"testing"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/routing"
)

// A thousand routes between a hundred services, of which one weight changes each time.
func BenchmarkUpdate(b *testing.B) {
	set := discovery.Static{}
	spec := Spec{Services: map[string]Policy{}}
	for i := range 100 {
		name := fmt.Sprintf("service-%d", i)
		set[name] = endpoints(10)
		spec.Services[name] = Policy{Retry: Retry{Attempts: 2}}
	}
	for i := range 1000 {
		at := fmt.Sprintf("service-%d", i%100)
		spec.Routes = append(spec.Routes, routing.Rule{
			Name: fmt.Sprintf("route-%d", i), Match: routing.Match{Service: at, Path: routing.Path{Prefix: fmt.Sprintf("/v%d", i)}},
			Backends: []routing.Backend{{Service: at, Weight: 90}, {Service: fmt.Sprintf("service-%d", (i+1)%100), Weight: 10}},
		})
	}
	m, err := New(Config{Resolver: set, Spec: spec})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	for name, step := range map[string]uint32{"changed": 1, "unchanged": 0} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				spec.Routes[7].Backends[0].Weight += step
				if spec.Routes[7].Backends[0].Weight > 1000 {
					spec.Routes[7].Backends[0].Weight = 90
				}
				if change, err := m.Update(spec); err != nil || len(change.Fields) != int(step) && step == 0 {
					b.Fatal(change, err)
				}
			}
		})
	}
}

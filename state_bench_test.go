package zerohop

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/zerohop/zerohop/discovery"
)

// crowd opens a mesh of many services, all of which are known.
func crowd(b *testing.B, services, endpoints int) *Mesh {
	b.Helper()
	source, spec := discovery.Static{}, Spec{Services: map[string]Policy{}, Defaults: Policy{
		ServiceBreaker: Breaker{Mode: On}, Breaker: Breaker{Mode: On}, Throttle: Throttle{Mode: On}, Limit: Limit{Mode: On},
	}}
	for i := range services {
		name := fmt.Sprintf("service-%d", i)
		spec.Services[name] = Policy{}
		for j := range endpoints {
			source[name] = append(source[name], discovery.Endpoint{Addr: fmt.Sprintf("10.%d.%d.%d:80", i/256, i%256, j+1), Zone: fmt.Sprint("zone-", j%3)})
		}
	}
	m, err := New(Config{Resolver: source, Spec: spec, Zone: "zone-0"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	for name := range source {
		if err := ping(context.Background(), m, name); err != nil {
			b.Fatal(err)
		}
	}
	return m
}

func BenchmarkState(b *testing.B) {
	for _, n := range []int{10, 500} {
		b.Run(fmt.Sprintf("%dx20", n), func(b *testing.B) {
			m := crowd(b, n, 20)
			b.ReportAllocs()
			for b.Loop() {
				if st := m.State(); len(st.Services) != n || len(st.Services[n-1].Endpoints) != 20 {
					b.Fatal("not all is there")
				}
			}
		})
	}
	b.Run("json/500x20", func(b *testing.B) {
		m := crowd(b, 500, 20)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(m.State()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

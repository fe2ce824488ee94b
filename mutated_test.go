package zerohop

import (
	"context"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
)

// mutate changes a random field in a value of plain data, to something that may be valid or not.
func mutate(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if f := v.Field(r.IntN(v.NumField())); f.CanSet() {
			mutate(r, f)
		}
	case reflect.Pointer:
		if v.IsNil() || r.IntN(4) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
		}
		mutate(r, v.Elem())
	case reflect.Slice:
		switch n := v.Len(); {
		case n == 0 || r.IntN(3) == 0 && n < 20:
			item := reflect.New(v.Type().Elem()).Elem()
			if n > 0 {
				item.Set(v.Index(r.IntN(n)))
			}
			mutate(r, item)
			v.Set(reflect.Append(v, item))
		case r.IntN(3) == 0:
			at := r.IntN(n)
			v.Set(reflect.AppendSlice(v.Slice(0, at), v.Slice(at+1, n)))
		default:
			mutate(r, v.Index(r.IntN(n)))
		}
	case reflect.Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		key := reflect.ValueOf([]string{"a", "b", "orders", "api.example.com", "A", ""}[r.IntN(6)]).Convert(v.Type().Key())
		item := reflect.New(v.Type().Elem()).Elem()
		if old := v.MapIndex(key); old.IsValid() {
			if r.IntN(4) == 0 {
				v.SetMapIndex(key, reflect.Value{})
				return
			}
			item.Set(old)
		}
		mutate(r, item)
		v.SetMapIndex(key, item)
	case reflect.String:
		v.SetString([]string{"", "on", "off", "observe", "orders", "a", "*", "/x", "random", "ring-hash", "GET", "\x00"}[r.IntN(12)])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt([]int64{0, 1, 2, 5, -1, int64(time.Second), int64(time.Minute), 1 << 62}[r.IntN(8)])
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint([]uint64{0, 1, 3, 50}[r.IntN(4)])
	case reflect.Float64:
		v.SetFloat([]float64{0, 0.5, 1, 2, -1, 50}[r.IntN(6)])
	}
}

// Whatever comes from afar, calls go on: what is invalid is refused, and what is valid holds.
func TestMutatedSpecsFailNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		eps := endpoints(5)
		set := discovery.Static{}
		for _, name := range []string{"a", "b", "orders", "shop"} {
			set[name] = eps
		}
		good := Spec{
			Services: map[string]Policy{"orders": {}, "a": {}},
			Routes:   []routing.Rule{{Name: "shop", Match: routing.Match{Service: "shop"}, Backends: []routing.Backend{{Service: "orders", Weight: 1}, {Service: "a", Weight: 1}}}},
		}
		m := open(t, Config{Resolver: set, Spec: good})
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		made := 0
		calls.Go(func() {
			for ; ctx.Err() == nil; made++ {
				if _, err := Do(t.Context(), m, "shop", func(context.Context, *loadbalance.Node) (int, error) { return 0, nil }); err != nil {
					t.Errorf("a call failed: %v", err)
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
		present, accepted := good, 0
		for i := range mutations {
			spec := present.clone()
			if i%10 == 0 {
				spec = good.clone()
			}
			for range 1 + r.IntN(2) {
				mutate(r, reflect.ValueOf(&spec).Elem())
			}
			keepsCalls(&spec)
			if _, err := m.Update(spec); err == nil {
				accepted++
				present = spec
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
		calls.Wait()
		if now, _ := m.Spec(); len(Diff(now, present)) != 0 {
			t.Errorf("the spec in force is not the last good one: %v", Diff(now, present))
		}
		if accepted < mutations/10 || accepted > mutations*9/10 {
			t.Errorf("%d of %d specs were accepted, want some", accepted, mutations)
		}
		t.Logf("%d specs, %d accepted, %d calls", mutations, accepted, made)
	})
}

// keepsCalls takes out of a spec what rightly makes calls fail.
func keepsCalls(s *Spec) {
	calm := func(p *Policy) {
		p.RateLimit, p.Limit, p.EndpointLimit, p.Select, p.Sticky = RateLimit{}, Limit{}, EndpointLimit{}, Select{}, Sticky{}
		p.Timeout, p.AttemptTimeout, p.HealthCheck.Unproven, p.Lane = 0, 0, "", Lane{}
	}
	calm(&s.Defaults)
	for _, policies := range []map[string]Policy{s.Services, s.Policies} {
		for name, p := range policies {
			calm(&p)
			policies[name] = p
		}
	}
	for i := range s.Routes {
		r := &s.Routes[i]
		r.Response, r.Fault = nil, routing.Fault{}
		for j := range r.Backends {
			b := &r.Backends[j]
			if b.Select = nil; b.Service != "orders" && b.Service != "a" && b.Service != "b" {
				b.Service = "orders"
			}
		}
	}
}

const mutations = 2000

package zerohop_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// tally makes calls and returns how many of them each endpoint answered.
func tally(t *testing.T, ctx context.Context, call func(context.Context, string) (string, error)) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for i := range 60 {
		addr, err := call(ctx, fmt.Sprint("user-", i))
		if err != nil {
			t.Fatal(err)
		}
		seen[addr]++
	}
	return seen
}

func TestOperationsActOverEveryTransport(t *testing.T) {
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			var f faults
			p := zerohop.Policy{Idempotent: zerohop.On, SlowStart: zerohop.SlowStart{Mode: zerohop.Off}, Balance: "random", Outlier: zerohop.Outlier{Mode: zerohop.Off}}
			p.Backup.Mode = zerohop.Off
			m, eps, call := d.startMesh(t, &f, p)
			addr := eps[0].Addr
			op := zerohop.Operation{Service: "orders", Addr: addr, For: time.Minute}
			bound := zerohop.WithCall(t.Context(), zerohop.CallOptions{Node: addr})
			check := func(when string, want, wantBound bool) {
				t.Helper()
				if got := tally(t, t.Context(), call)[addr] > 0; got != want {
					t.Errorf("%s: calls go to the endpoint = %v, want %v", when, got, want)
				}
				if d.name == "do" { // which names options of its own
					return
				}
				at, err := call(bound, "user-1")
				if err != nil || (at == addr) != wantBound {
					t.Errorf("%s: a call that is bound to %s went to %s, %v, want it there = %v", when, addr, at, err, wantBound)
				}
			}
			check("at first", true, true)
			if err := m.Eject(op); err != nil {
				t.Fatal(err)
			}
			check("ejected", false, false)
			if err := m.Drain(op); err != nil {
				t.Fatal(err)
			}
			check("draining", false, true)
			if err := m.Release(op); err != nil {
				t.Fatal(err)
			}
			check("released", true, true)

			f.set(1, "")
			if _, err := call(t.Context(), "user-1"); err != nil {
				t.Errorf("a call whose first attempt fails: %v", err)
			}
			op.Addr = ""
			if err := m.PauseRetries(op); err != nil {
				t.Fatal(err)
			}
			f.set(1, "")
			if at, err := call(t.Context(), "user-1"); err == nil {
				t.Errorf("a call whose first attempt fails was answered by %s, although retries are paused", at)
			}
		})
	}
}

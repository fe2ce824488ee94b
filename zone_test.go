package zerohop

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// located is a source that knows the zone of the process.
type located struct {
	discovery.Static
	zone func(ctx context.Context) (string, error)
}

func (l located) Zone(ctx context.Context) (string, error) { return l.zone(ctx) }

// twoZones has an endpoint in each of two zones.
var twoZones = discovery.Static{"orders": {{Addr: "10.0.0.1:80", Zone: "a"}, {Addr: "10.0.0.2:80", Zone: "b"}}}

// callsTo counts calls by endpoint.
func callsTo(t *testing.T, m *Mesh, n int) map[string]int {
	t.Helper()
	count := map[string]int{}
	for range n {
		_, err := Do(t.Context(), m, "orders", func(_ context.Context, node *loadbalance.Node) (int, error) {
			count[node.Addr()]++
			return 0, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return count
}

func TestZoneComesFromTheFirstThatKnowsIt(t *testing.T) {
	for _, tt := range []struct {
		config, environment, resolver string
		zone, source                  string
	}{
		{"a", "b", "c", "a", "config"},
		{"", "b", "c", "b", "environment"},
		{"", "", "b", "b", "resolver"},
		{"", "", "", "", "resolver"},
	} {
		t.Setenv("ZEROHOP_ZONE", tt.environment)
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			r := located{twoZones, func(context.Context) (string, error) { asked++; return tt.resolver, nil }}
			m := open(t, Config{Resolver: r, Zone: tt.config})
			synctest.Wait()
			if zone, source := m.Zone(); zone != tt.zone || source != tt.source {
				t.Errorf("Zone() = %q, %q, want %q, %q", zone, source, tt.zone, tt.source)
			}
			if want := tt.source == "resolver"; (asked > 0) != want {
				t.Errorf("the resolver was asked %d times, want: %v", asked, want)
			}
			if got := len(callsTo(t, m, 20)); (got == 1) != (tt.zone == "a" || tt.zone == "b") {
				t.Errorf("%d endpoints are called in zone %q", got, tt.zone)
			}
		})
	}
	t.Setenv("ZEROHOP_ZONE", "")
	if zone, source := open(t, Config{Resolver: twoZones}).Zone(); zone != "" || source != "" {
		t.Errorf("Zone() = %q, %q, want nothing", zone, source)
	}
}

func TestZoneOfTheResolverIsAppliedWhenItIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32
		r := located{twoZones, func(ctx context.Context) (string, error) {
			switch tries.Add(1) {
			case 1:
				<-ctx.Done() // it hangs
				return "", ctx.Err()
			case 2:
				panic("boom")
			case 3:
				return "", errors.New("no agent")
			case 4:
				return strings.Repeat("x", 300), nil
			}
			return "b", nil
		}}
		begun := time.Now()
		m := open(t, Config{Resolver: r, Spec: Spec{Services: map[string]Policy{"orders": {}}}})
		var told atomic.Int32
		stop, err := m.Subscribe("orders", func(Endpoints) { told.Add(1) })
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		if got := callsTo(t, m, 20); len(got) != 2 {
			t.Errorf("calls go to %v while no zone is known, want both", got)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("New and calls took %v, want no wait for the zone", took)
		}
		before := told.Load()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if zone, source := m.Zone(); zone != "b" || source != "resolver" {
			t.Errorf("Zone() = %q, %q, want that of the resolver", zone, source)
		}
		if got := callsTo(t, m, 20); got["10.0.0.2:80"] != 20 {
			t.Errorf("calls go to %v, want those of zone b", got)
		}
		if told.Load() == before {
			t.Error("subscribers are not told of the zone")
		}
	})
}

func TestCloseEndsTheQuestionForTheZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := located{twoZones, func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }}
		m := open(t, Config{Resolver: r})
		synctest.Wait()
		begun := time.Now()
		m.Close()
		if took := time.Since(begun); took != 0 {
			t.Errorf("Close() took %v", took)
		}
	})
}

func TestZoneIsAppliedToASetThatComesWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := make(chan struct{})
		m := open(t, Config{Resolver: located{twoZones, func(context.Context) (string, error) {
			<-known
			return "b", nil
		}}})
		callsTo(t, m, 1)
		s, err := m.service("orders")
		if err != nil {
			t.Fatal(err)
		}
		m.mu.Lock() // the zone is known, but not to the services yet
		close(known)
		for zone := ""; zone == ""; zone, _ = m.Zone() {
			runtime.Gosched()
		}
		s.update(append([]discovery.Endpoint{{Addr: "10.0.0.0:80", Zone: "a"}}, twoZones["orders"]...))
		m.mu.Unlock()
		synctest.Wait()
		if got := callsTo(t, m, 20); got["10.0.0.2:80"] != 20 {
			t.Errorf("calls go to %v, want those of zone b", got)
		}
	})
}

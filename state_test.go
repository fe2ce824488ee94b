package zerohop

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

func TestStateTellsOfServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(3), Zone: "a", Instance: "me", Spec: Spec{Services: map[string]Policy{
			"orders": {ServiceBreaker: Breaker{Mode: On}, Throttle: Throttle{Mode: On}, Limit: Limit{Mode: On, Max: 7}},
			"Idle":   {Budget: Budget{Mode: Off}},
		}}})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		st := m.State()
		if st.Zone != "a" || st.Instance != "me" || st.Generation != 1 || len(st.Services) != 2 {
			t.Fatalf("State() = %+v", st)
		}
		idle, orders := st.Services[0], st.Services[1]
		if idle.Name != "Idle" || idle.Budget != -1 || idle.Throttle != -1 || idle.Limit != nil || idle.Breaker != "" || len(idle.Endpoints) != 0 {
			t.Errorf("Idle = %+v", idle)
		}
		if orders.Name != "orders" || !orders.Named || orders.Balance != "peak-ewma" || orders.Budget != 1 || orders.Throttle != 0 ||
			orders.Breaker != "closed" || orders.Limit.Limit != 7 || !orders.Discovery.Known {
			t.Errorf("orders = %+v", orders)
		}
		for i, ep := range orders.Endpoints {
			if want := endpoints(3)[i].Addr; ep.Addr != want || ep.Health != "healthy" || ep.SlowStart != 1 {
				t.Errorf("endpoint %d = %+v, want %s", i, ep, want)
			}
		}
	})
}

func TestStateIsJSON(t *testing.T) {
	st := State{Services: []ServiceState{{Name: "orders", Discovery: DiscoveryState{Known: true, Err: errors.New("it is down")}}}}
	text, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"generation":0`, `"discovery":{"known":true,"endpoints":0,"err":"it is down"}`, `"name":"orders"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

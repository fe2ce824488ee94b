package zerohop

import (
	"strings"
	"testing"
)

// Who sets up a stage means to have it. One that is off by default would silently stay so.
func TestStagesThatNobodySwitchesOnAreMistakes(t *testing.T) {
	full := Limit{Max: 100}
	for _, tt := range []struct {
		name string
		spec Spec
		want []string
	}{
		{"numbers only", Spec{Services: map[string]Policy{"orders": {
			Breaker: Breaker{Consecutive: 3}, ServiceBreaker: Breaker{Ratio: 0.3}, Throttle: Throttle{K: 3}, RateLimit: RateLimit{Rate: 10},
			Limit: full, EndpointLimit: EndpointLimit{Max: 10}, HealthCheck: HealthCheck{Protocol: "grpc"}, Lane: Lane{Key: "branch"},
		}}}, []string{
			"services.orders.breaker", "services.orders.serviceBreaker", "services.orders.throttle", "services.orders.rateLimit",
			"services.orders.limit", "services.orders.endpointLimit", "services.orders.healthCheck", "services.orders.lane",
		}},
		{"on", Spec{Services: map[string]Policy{"orders": {Limit: Limit{Mode: On, Max: 100}}}}, nil},
		{"observed", Spec{Services: map[string]Policy{"orders": {Limit: Limit{Mode: Observe, Max: 100}}}}, nil},
		{"off for now", Spec{Services: map[string]Policy{"orders": {Limit: Limit{Mode: Off, Max: 100}}}}, nil},
		{"on by default", Spec{Defaults: Policy{Limit: Limit{Mode: On}}, Services: map[string]Policy{"orders": {Limit: full}}}, nil},
		{"off by default, on purpose", Spec{Defaults: Policy{Limit: Limit{Mode: Off}}, Services: map[string]Policy{"orders": {Limit: full}}}, nil},
		{"on by a preset", Spec{Services: map[string]Policy{"orders": {Preset: PresetSpringCloud, ServiceBreaker: Breaker{Ratio: 0.3}}}}, nil},
		{"defaults that one service uses", Spec{Defaults: Policy{Limit: full}, Services: map[string]Policy{"orders": {Limit: Limit{Mode: On}}, "stock": {}}}, nil},
		{"defaults that a route uses", Spec{Defaults: Policy{Limit: full}, Policies: map[string]Policy{"slow": {Limit: Limit{Mode: On}}}}, nil},
		{"defaults that nobody uses", Spec{Defaults: Policy{Limit: full}, Services: map[string]Policy{"orders": {}}}, []string{"defaults.limit"}},
		{"a route of a service that has the mode", Spec{Services: map[string]Policy{"orders": {Limit: Limit{Mode: On, Max: 9}}}, Policies: map[string]Policy{"slow": {Limit: full}}}, nil},
		{"a route of no such service", Spec{Policies: map[string]Policy{"slow": {Limit: full}}}, []string{"policies.slow.limit"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.spec.Validate()
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(tt.want) {
				t.Fatalf("Validate() = %v, want mistakes in %v", err, tt.want)
			}
			for i, path := range tt.want {
				if want := path + ": does nothing, as " + path + ".mode is not set, and off by default"; got[i] != want {
					t.Errorf("mistake %d is %q, want %q", i, got[i], want)
				}
			}
		})
	}
}

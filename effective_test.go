package zerohop

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zerohop/zerohop/discovery"
)

func TestEffectivePolicyIsThatOfTheMesh(t *testing.T) {
	spec := Spec{
		Defaults: Policy{Timeout: time.Second, Budget: Budget{Ratio: 0.3}},
		Services: map[string]Policy{
			"Orders": {Preset: PresetEnvoy, Retry: Retry{Mode: On}},
			"stock":  {Outlier: Outlier{Consecutive: -1}},
		},
		Policies: map[string]Policy{"slow": {Timeout: time.Minute}},
	}
	m, err := New(Config{Spec: spec, Resolver: discovery.Static{}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, name := range []string{"orders", "stock", "other"} {
		s, err := m.find(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := spec.Effective(name, ""), s.policy.filled(); !cmp.Equal(got, want) {
			t.Errorf("Effective(%q) differs from the policy of the mesh: %s", name, cmp.Diff(want, got))
		}
		if got, want := spec.Effective(name, "slow"), spec.Policies["slow"].over(s.policy).filled(); !cmp.Equal(got, want) {
			t.Errorf("Effective(%q, slow) differs from the policy of the mesh: %s", name, cmp.Diff(want, got))
		}
	}
	p := spec.Effective("orders", "slow")
	if p.Timeout != time.Minute || p.Retry.Attempts != 2 || p.Budget.Floor != 3 || p.Outlier.MaxEjected != 0.1 || p.Breaker.MinRequests != 20 {
		t.Errorf("Effective(orders, slow) = %+v", p)
	}
	if got := spec.Effective("stock", "").Outlier; got.Consecutive != -1 || got.FailureRatio != 0.2 || got.Window != 10*time.Second {
		t.Errorf("outlier of stock = %+v", got)
	}
}

func TestLayersNameWhereAPolicyComesFrom(t *testing.T) {
	spec := Spec{
		Defaults: Policy{Preset: PresetIstio},
		Services: map[string]Policy{"Orders": {Preset: PresetEnvoy}},
		Policies: map[string]Policy{"slow": {}},
	}
	for _, tt := range []struct {
		service, policy string
		want            []string
	}{
		{"orders", "slow", []string{"policies.slow", "services.Orders", "defaults", "preset envoy", "built-in"}},
		{"stock", "none", []string{"defaults", "preset istio", "built-in"}},
	} {
		var got []string
		for _, l := range spec.Layers(tt.service, tt.policy) {
			got = append(got, l.Path)
		}
		if !cmp.Equal(got, tt.want) {
			t.Errorf("Layers(%q, %q) = %q, want %q", tt.service, tt.policy, got, tt.want)
		}
	}
}

func TestOriginIsTheLayerThatSetsAField(t *testing.T) {
	spec := Spec{
		Defaults: Policy{Preset: PresetEnvoy, Retry: Retry{Attempts: 4}},
		Services: map[string]Policy{"orders": {Timeout: time.Second, Hash: []HashSource{{Header: "X-User"}}}},
		Policies: map[string]Policy{"slow": {Retry: Retry{Mode: On}}},
	}
	for field, want := range map[string]string{
		"retry.mode": "policies.slow", "timeout": "services.orders", "hash": "services.orders", "retry.attempts": "defaults",
		"outlier.maxEjected": "preset envoy", "sticky.cookie.path": "built-in", "attemptTimeout": "", "nothing": "", "retry.nothing": "",
	} {
		if got := spec.Origin("Orders", "slow", field); got != want {
			t.Errorf("Origin(%q) = %q, want %q", field, got, want)
		}
	}
}

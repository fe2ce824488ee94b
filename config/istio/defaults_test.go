package istio

import (
	"testing"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
)

// A field that is not set means what it means to Istio.
func TestOutlierDetectionHasTheDefaultsOfIstio(t *testing.T) {
	spec, _, err := Import([]byte(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders, namespace: shop}
spec:
  host: orders
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 7}}
`), importing.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name := range spec.Services {
		got := spec.Effective(name, "").Outlier
		want := zerohop.Spec{Defaults: zerohop.Policy{Preset: zerohop.PresetIstio}}.Effective(name, "").Outlier
		want.Consecutive = 7
		if got != want {
			t.Errorf("the outlier detection of %s is %+v, want %+v", name, got, want)
		}
	}
	if len(spec.Services) != 1 {
		t.Errorf("%d services, want one", len(spec.Services))
	}
}

package serviceconfig

import (
	"encoding/json"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/internal/importtest"
)

const everyField = `
loadBalancingPolicy: round_robin
loadBalancingConfig: [BALANCING, {pick_first: {}}]
methodConfig:
- name: [{service: shop.Orders, method: List}, {service: shop.Orders, method: Get}]
  waitForReady: true
  timeout: 2s
  maxRequestMessageBytes: 1000
  maxResponseMessageBytes: 1000
  retryPolicy: {maxAttempts: 3, initialBackoff: 0.1s, maxBackoff: 1s, backoffMultiplier: 3, retryableStatusCodes: [UNAVAILABLE, INTERNAL]}
- name: [{service: shop.Stock}]
  hedgingPolicy: {maxAttempts: 3, hedgingDelay: 0.1s, nonFatalStatusCodes: [UNAVAILABLE, INTERNAL]}
retryThrottling: {maxTokens: 20, tokenRatio: 0.5}
healthCheckConfig: {serviceName: orders}
`

var balancings = map[string]string{
	"none":  "{xds: {cluster: a}}",
	"ring":  "{ring_hash_experimental: {minRingSize: 10, maxRingSize: 100, requestHashHeader: user}}",
	"least": "{least_request_experimental: {choiceCount: 3}}",
	"outlier": `{outlier_detection_experimental: {interval: 10s, baseEjectionTime: 30s, maxEjectionTime: 300s, maxEjectionPercent: 10,
  successRateEjection: {stdevFactor: 2000, enforcementPercentage: 100, minimumHosts: 6, requestVolume: 90},
  failurePercentageEjection: {threshold: 80, enforcementPercentage: 100, minimumHosts: 6, requestVolume: 40},
  childPolicy: [{least_request_experimental: {choiceCount: 3}}, {round_robin: {}}]}}`,
}

func TestImportDropsNothingSilently(t *testing.T) {
	values := map[string]any{}
	for path, v := range map[string]any{
		"timeout": "3s", "retryPolicy.initialBackoff": "0.2s", "retryPolicy.maxBackoff": "2s", "hedgingPolicy.hedgingDelay": "0.2s",
		"retryPolicy.retryableStatusCodes[]": "ABORTED", "hedgingPolicy.nonFatalStatusCodes[]": "ABORTED",
	} {
		values["methodConfig[]."+path] = v
	}
	for _, name := range []string{"interval", "baseEjectionTime", "maxEjectionTime"} {
		values["loadBalancingConfig[].outlier_detection_experimental."+name] = "31s"
	}
	for name, b := range balancings {
		object := strings.ReplaceAll(everyField, "BALANCING", b)
		importtest.Suite{Import: Import, Options: importing.Options{Target: "orders"}, Object: object, Values: values}.Run(t)
		if name == "outlier" {
			var c serviceConfig
			if err := yaml.UnmarshalStrict([]byte(object), &c); err != nil {
				t.Fatal(err)
			}
			importtest.Covers(t, &c, []string{"loadBalancingConfig"})
			var o outlier
			if err := json.Unmarshal(c.LoadBalancingConfig[0]["outlier_detection_experimental"], &o); err != nil {
				t.Fatal(err)
			}
			importtest.Covers(t, &o, []string{"childPolicy"})
		}
	}
}

func TestMethodsGetTheirPolicy(t *testing.T) {
	spec, _, err := Import([]byte(`{"methodConfig": [{"name": [{}], "timeout": "5s"},
		{"name": [{"service": "shop.Orders", "method": "List"}], "timeout": "1.5s", "retryPolicy":
		{"maxAttempts": 9, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["unavailable"]}}]}`),
		importing.Options{Target: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"services":{"orders":{}},"routes":[{"name":"orders","match":{"service":"orders"},"policy":"orders"},` +
		`{"name":"orders/shop.Orders/List","match":{"service":"orders","rpc":{"service":"shop.Orders","method":"List"}},"policy":"orders/shop.Orders/List"}],` +
		`"policies":{"orders":{"timeout":5000000000},"orders/shop.Orders/List":{"timeout":1500000000,"idempotent":"on",` +
		`"retry":{"mode":"on","attempts":5,"base":100000000,"max":1000000000},"backup":{"mode":"off"}}}}`
	if got := string(text); got != want {
		t.Errorf("spec = %s\nwant %s", got, want)
	}
}

func TestImportRefusesMistakes(t *testing.T) {
	for docs, want := range map[string]string{
		`{"methodConfigs": []}`: `unknown field "methodConfigs"`,
		`{"methodConfig": [{"name": [{"method": "a"}], "timeout": "1s"}]}`:      "input:1: ServiceConfig orders: methodConfig[0].name[0].method: needs a service",
		`{"methodConfig": [{"name": [{}], "timeout": "1m"}]}`:                   "methodConfig[0].timeout: \"1m\" is no duration",
		`{"methodConfig": [{"name": [{}], "retryPolicy": {}}]}`:                 "retryPolicy.maxAttempts: must be 2 or more, got 0",
		`{"methodConfig": [{"name":[{}],"retryPolicy":{},"hedgingPolicy":{}}]}`: "excludes retryPolicy",
		`{"loadBalancingConfig": [{"a": {}, "b": {}}]}`:                         "must name one policy, got 2",
		`{}` + "\n---\n" + `{}`: "2 documents",
		`[]`:                    "is not an object",
	} {
		if _, _, err := Import([]byte(docs), importing.Options{Target: "orders"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", docs, err, want)
		}
	}
	if _, _, err := Import([]byte("{}"), importing.Options{}); err == nil {
		t.Error("no error without a target")
	}
}

func FuzzImport(f *testing.F) {
	for _, b := range balancings {
		f.Add([]byte(strings.ReplaceAll(everyField, "BALANCING", b)))
	}
	f.Fuzz(func(t *testing.T, docs []byte) {
		spec, _, err := Import(docs, importing.Options{Target: "orders"})
		if err == nil && spec.Validate() != nil {
			t.Errorf("no error for a spec that is not valid: %v", spec.Validate())
		}
	})
}

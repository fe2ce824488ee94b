package consul

import (
	"encoding/json"
	"math"
	"net"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
)

func TestEndpointsOfInstances(t *testing.T) {
	const addr = "192.0.2.1:80"
	unusable := []discovery.Endpoint{{}} // is left out, and counted
	for name, test := range map[string]struct {
		json string
		want []discovery.Endpoint
	}{
		"address of the service": {
			`{"Node": {"Address": "192.0.2.9"}, "Service": {"Address": "192.0.2.1", "Port": 80}}`,
			[]discovery.Endpoint{{Addr: addr, Weight: 1}},
		},
		"address of the node": {
			`{"Node": {"Address": "192.0.2.1"}, "Service": {"Port": 80, "Weights": {"Passing": 5, "Warning": 2}}}`,
			[]discovery.Endpoint{{Addr: addr, Weight: 5}},
		},
		"IPv6": {
			`{"Service": {"Address": "2001:db8::1", "Port": 80}}`,
			[]discovery.Endpoint{{Addr: "[2001:db8::1]:80", Weight: 1}},
		},
		"the default of several ports": {
			`{"Service": {"Address": "192.0.2.1", "Ports": [{"Name": "a", "Port": 79}, {"Name": "b", "Port": 80, "Default": true}]}}`,
			[]discovery.Endpoint{{Addr: addr, Weight: 1}},
		},
		"no service":           {`{"Node": {"Address": "192.0.2.1"}}`, unusable},
		"nothing":              {`null`, unusable},
		"no address":           {`{"Node": {}, "Service": {"Port": 80}}`, unusable},
		"no node":              {`{"Service": {"Port": 80}}`, unusable},
		"Unix socket":          {`{"Service": {"Address": "192.0.2.1", "SocketPath": "/run/a"}}`, nil},
		"port out of range":    {`{"Service": {"Address": "192.0.2.1", "Port": 65536}}`, unusable},
		"port below the range": {`{"Service": {"Address": "192.0.2.1", "Port": -1}}`, unusable},
		"zone, priority, tags and metadata": {
			`{"Service": {"Address": "192.0.2.1", "Port": 80, "Tags": ["a", "b"],
			  "Meta": {"zone": "z1", "zerohop-priority": "3", "version": "2"}}}`,
			[]discovery.Endpoint{{Addr: addr, Weight: 1, Zone: "z1", Priority: 3, Meta: map[string]string{"version": "2", "consul-tags": "a,b"}}},
		},
		// What Spring Cloud Consul registers, up to 2.x and from 3.0 on.
		"Spring, in tags": {
			`{"Service": {"ID": "orders-prod-8080", "Address": "192.0.2.1", "Port": 80,
			  "Tags": ["secure=true", "zone=z1", "weight=4", "group=a", "plain", "=x", "k=v=w", "k=later"],
			  "Weights": {"Passing": 1, "Warning": 1}}}`,
			[]discovery.Endpoint{{Addr: addr, Weight: 4, Zone: "z1", Meta: map[string]string{
				"secure": "true", "group": "a", "k": "v=w", "consul-tags": "plain,=x",
			}}},
		},
		"Spring, in metadata": {
			`{"Service": {"Address": "192.0.2.1", "Port": 80, "Tags": ["zone=z9", "version=1"],
			  "Meta": {"zone": "z1", "secure": "false", "group": "a", "version": "2", "weight": "x"}}}`,
			[]discovery.Endpoint{{Addr: addr, Weight: 1, Zone: "z1", Meta: map[string]string{
				"secure": "false", "group": "a", "version": "2", "weight": "x",
			}}},
		},
		"Nomad canary": {
			`{"Service": {"ID": "_nomad-task-1", "Address": "192.0.2.1", "Port": 80, "Tags": ["canary", "http"],
			  "Meta": {"external-source": "nomad"}, "Weights": {"Passing": 1, "Warning": 1}}}`,
			[]discovery.Endpoint{{Addr: addr, Weight: 1, Meta: map[string]string{"external-source": "nomad", "consul-tags": "canary,http"}}},
		},
		"only tags": {
			`{"Service": {"Address": "192.0.2.1", "Port": 80, "Tags": ["a"]}}`,
			[]discovery.Endpoint{{Addr: addr, Weight: 1, Meta: map[string]string{"consul-tags": "a"}}},
		},
		"a priority that is none": {
			`{"Service": {"Address": "192.0.2.1", "Port": 80, "Meta": {"zerohop-priority": "256"}}}`,
			[]discovery.Endpoint{{Addr: addr, Weight: 1, Meta: map[string]string{"zerohop-priority": "256"}}},
		},
		"zone of the locality": {
			`{"Node": {"Meta": {"zone": "n"}}, "Service": {"Address": "192.0.2.1", "Port": 80, "Locality": {"Zone": "z"}}}`,
			[]discovery.Endpoint{{Addr: addr, Weight: 1, Zone: "z"}},
		},
		"zone of the node": {
			`{"Node": {"Meta": {"zone": "n"}, "Locality": {"Zone": "l"}}, "Service": {"Address": "192.0.2.1", "Port": 80}}`,
			[]discovery.Endpoint{{Addr: addr, Weight: 1, Zone: "n"}},
		},
		"zone of the node's locality": {
			`{"Node": {"Locality": {"Zone": "l"}}, "Service": {"Address": "192.0.2.1", "Port": 80}}`,
			[]discovery.Endpoint{{Addr: addr, Weight: 1, Zone: "l"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var entry *api.ServiceEntry
			if err := json.Unmarshal([]byte(test.json), &entry); err != nil {
				t.Fatal(err)
			}
			got := endpoints([]*api.ServiceEntry{entry})
			if len(got) == 0 {
				got = nil
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRateTakesTheWorstCheck(t *testing.T) {
	weights := api.AgentWeights{Passing: 10, Warning: 3}
	is := func(status string) *api.HealthCheck { return &api.HealthCheck{Status: status} }
	for name, test := range map[string]struct {
		checks     api.HealthChecks
		weights    api.AgentWeights
		mark       string
		wantWeight uint32
		wantHealth discovery.Health
	}{
		"no checks":            {nil, weights, "", 10, discovery.Healthy},
		"passing":              {api.HealthChecks{is("passing"), nil}, weights, "", 10, discovery.Healthy},
		"warning":              {api.HealthChecks{is("warning"), is("passing")}, weights, "", 3, discovery.Healthy},
		"warning of no weight": {api.HealthChecks{is("warning")}, api.AgentWeights{Passing: 10}, "", 10, discovery.Draining},
		"critical":             {api.HealthChecks{is("critical"), is("warning")}, weights, "", 10, discovery.Unhealthy},
		"unknown status":       {api.HealthChecks{is("")}, weights, "", 10, discovery.Unhealthy},
		"node maintenance":     {api.HealthChecks{is("critical"), {CheckID: api.NodeMaint, Status: "critical"}}, weights, "", 10, discovery.Draining},
		"service maintenance":  {api.HealthChecks{{CheckID: "_service_maintenance:a", Status: "critical"}}, weights, "", 10, discovery.Draining},
		"no weights":           {nil, api.AgentWeights{}, "", 1, discovery.Healthy},
		"weights out of range": {nil, api.AgentWeights{Passing: math.MaxInt}, "", math.MaxInt32, discovery.Healthy},
		"negative weights":     {api.HealthChecks{is("warning")}, api.AgentWeights{Passing: -1, Warning: -1}, "", math.MaxUint32, discovery.Draining},
		"marked weight":        {nil, api.AgentWeights{Passing: 1, Warning: 1}, "5", 5, discovery.Healthy},
		"marked and weighted":  {nil, weights, "5", 10, discovery.Healthy},
		"marked, warning":      {api.HealthChecks{is("warning")}, api.AgentWeights{Passing: 1, Warning: 1}, "5", 1, discovery.Healthy},
		"marked with a sign":   {nil, api.AgentWeights{}, "-5", 1, discovery.Healthy},
		"marked beyond a sum":  {nil, api.AgentWeights{}, "4294967296", 1, discovery.Healthy},
	} {
		gotWeight, gotHealth := rate(test.checks, test.weights, test.mark)
		if gotWeight != test.wantWeight || gotHealth != test.wantHealth {
			t.Errorf("%s: rate() = %d, %v, want %d, %v", name, gotWeight, gotHealth, test.wantWeight, test.wantHealth)
		}
	}
}

// FuzzEndpoints checks what may be built on without a look at the answer of an agent.
func FuzzEndpoints(f *testing.F) {
	f.Add([]byte(instances(80, 0, 65536)))
	f.Add([]byte(`[null, {"Service": null}, {"Service": {"Port": 1, "Tags": ["a"]}, "Checks": [null, {"Status": "x"}]}]`))
	f.Add([]byte(`[{"Node": {"Address": "::1", "Meta": {"zone": "z"}}, "Service": {"Port": 9, "Meta": {"zerohop-priority": "-1"}}}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var entries []*api.ServiceEntry
		if json.Unmarshal(data, &entries) != nil {
			return
		}
		set := endpoints(entries)
		if len(set) > len(entries) {
			t.Fatalf("%d endpoints of %d instances", len(set), len(entries))
		}
		for _, ep := range set {
			if ep.Addr == "" { // no instance
				continue
			}
			i := len(ep.Addr) - 1
			for i >= 0 && ep.Addr[i] != ':' {
				i--
			}
			if n, err := strconv.Atoi(ep.Addr[i+1:]); err != nil || n < 1 || n > 65535 || i < 1 {
				t.Errorf("address %q has no host or no port", ep.Addr)
			}
			if host, _, err := net.SplitHostPort(ep.Addr); err == nil && host == "" {
				t.Errorf("address %q has no host", ep.Addr)
			}
			if ep.Weight == 0 {
				t.Errorf("%q has no weight", ep.Addr)
			}
			if ep.Health > discovery.Unhealthy {
				t.Errorf("health %v of %q is unknown", ep.Health, ep.Addr)
			}
			if _, ok := ep.Meta[zoneKey]; ok {
				t.Errorf("the zone of %q is in its metadata, too", ep.Addr)
			}
		}
	})
}

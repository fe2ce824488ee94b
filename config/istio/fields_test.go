package istio

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"istio.io/api/networking/v1alpha3"
	"sigs.k8s.io/yaml"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/internal/importtest"
)

const everyRouteField = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: shop}
spec:
  hosts: [orders, orders.example.com]
  gateways: [mesh, edge/main]
  exportTo: ["."]
  tcp:
  - match: [{destinationSubnets: [10.0.0.0/8], port: 80, sourceSubnet: 10.0.0.0/8, sourceLabels: {a: b}, gateways: [mesh], sourceNamespace: shop}]
    route: [{destination: {host: orders, subset: v1, port: {number: 80}}, weight: 1}]
  tls:
  - match: [{sniHosts: [a.example.com], destinationSubnets: [10.0.0.0/8], port: 80, sourceLabels: {a: b}, gateways: [mesh], sourceNamespace: shop}]
    route: [{destination: {host: orders, subset: v1, port: {number: 80}}, weight: 1}]
  http:
  - name: first
    match:
    - name: a
      uri: {prefix: /v1}
      method: {exact: GET}
      authority: {exact: orders}
      headers: {version: {exact: one}, kind: {prefix: a}, user: {regex: a.*}}
      port: 8080
      sourceLabels: {app: web}
      gateways: [mesh]
      queryParams: {q: {exact: one}}
      withoutHeaders: {test: {exact: one}}
      sourceNamespace: shop
      statPrefix: x
    - uri: {prefix: /V2}
      ignoreUriCase: true
    - scheme: {exact: https}
    route:
    - destination: {host: orders, subset: v1, port: {number: 8080}}
      weight: 90
      headers: {request: {set: {a: "1"}, add: {b: "2"}, remove: [c]}, response: {set: {a: "1"}, add: {b: "2"}, remove: [c]}}
    - destination: {host: canary}
      weight: 10
    rewrite: {uri: /v9, authority: inner.example.com}
    timeout: 10s
    retries: {attempts: 2, perTryTimeout: 2s, retryOn: "503", retryRemoteLocalities: true, retryIgnorePreviousHosts: true, backoff: 50ms}
    fault:
      delay: {percentage: {value: 5}, fixedDelay: 2s, percent: 3}
      abort: {percentage: {value: 6}, httpStatus: 503}
    mirror: {host: shadow, subset: v1, port: {number: 80}}
    mirrorPercent: 3
    mirrorPercentage: {value: 4}
    mirrors: [{destination: {host: shade, subset: v1, port: {number: 80}}, percentage: {value: 7}}]
    headers: {request: {set: {d: "1"}, add: {e: "2"}, remove: [f]}, response: {set: {d: "1"}, add: {e: "2"}, remove: [f]}}
    corsPolicy:
      allowOrigin: ["*"]
      allowOrigins: [{exact: a}, {prefix: a}, {regex: a}]
      allowMethods: [GET]
      allowHeaders: [a]
      exposeHeaders: [a]
      maxAge: 1s
      allowCredentials: true
      unmatchedPreflights: IGNORE
  - name: second
    rewrite: {uriRegexRewrite: {match: /a/(.*), rewrite: /b/\1}}
    fault:
      delay: {percent: 3, exponentialDelay: 2s}
      abort: {percentage: {value: 6}, grpcStatus: UNAVAILABLE}
    mirror: {host: shadow}
    mirrorPercent: 3
    route: [{destination: {host: orders}}]
  - match: [{uri: {exact: /answer}}]
    directResponse: {status: 404, body: {string: "no"}}
  - match: [{uri: {exact: /bytes}}]
    directResponse: {status: 404, body: {bytes: bm8=}}
    fault: {abort: {percentage: {value: 6}, http2Error: x}}
  - match: [{uri: {regex: /redirect}}]
    redirect: {uri: /a, authority: b, port: 80, scheme: https, redirectCode: 301, prefixRewrite: /x}
  - match: [{uri: {exact: /port}}]
    redirect: {derivePort: FROM_REQUEST_PORT}
  - match: [{uri: {exact: /delegate}}]
    delegate: {name: other, namespace: shop}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders, namespace: shop}
spec: {host: orders, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shadow, namespace: shop}
spec: {host: shadow, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shade, namespace: shop}
spec: {host: shade, subsets: [{name: v1, labels: {version: v1}}]}
`

const policyFields = `
      loadBalancer:
        LB
        localityLbSetting: {distribute: [{from: a, to: {a: 90}}], failover: [{from: a, to: b}], failoverPriority: [a], enabled: true}
        zoneAwareLbSetting: {enabled: true, failover: [{from: a, to: b}], failoverPriority: [a], minClusterSize: 3}
        WARMUP
      connectionPool:
        tcp: {maxConnections: 10, connectTimeout: 2s, tcpKeepalive: {probes: 3, time: 10s, interval: 5s}, maxConnectionDuration: 60s, idleTimeout: 30s}
        http:
          http1MaxPendingRequests: 10
          http2MaxRequests: 100
          maxRequestsPerConnection: 5
          maxRetries: 4
          idleTimeout: 30s
          h2UpgradePolicy: UPGRADE
          useClientProtocol: true
          maxConcurrentStreams: 100
          http2KeepAlive: {interval: 10s, timeout: 5s}
      outlierDetection:
        consecutiveErrors: 3
        splitExternalLocalOriginErrors: true
        consecutiveLocalOriginFailures: 4
        consecutiveGatewayErrors: 5
        consecutive5xxErrors: 6
        interval: 20s
        baseEjectionTime: 40s
        maxEjectionPercent: 30
        minHealthPercent: 20
        outlierDetectionHttpErrorCodes: [500]
      tls: {mode: SIMPLE, clientCertificate: a, privateKey: b, caCertificates: c, credentialName: d, subjectAltNames: [e], sni: f, insecureSkipVerify: true, caCrl: g}
`

// everyPolicyField has what excludes each other in rules of their own.
func everyPolicyField(lb, warmup, more string) string {
	part := strings.ReplaceAll(strings.ReplaceAll(policyFields, "LB\n", lb+"\n"), "WARMUP", warmup)
	object := `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders, namespace: shop}
spec:
  host: orders
  exportTo: ["."]
  workloadSelector: {matchLabels: {app: web}}
  trafficPolicy:` + strings.ReplaceAll(part, "\n      ", "\n    ") + more
	if more == "" { // the rest is as in the one that has it
		end := strings.Index(object, "      localityLbSetting")
		return object[:end] + "      " + warmup
	}
	return object + `
    portLevelSettings:
    - port: {number: 80}` + part + `
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy:` + strings.ReplaceAll(part, "\n", "\n  ")
}

const more = `
    tunnel: {protocol: CONNECT, targetHost: a, targetPort: 80}
    proxyProtocol: {version: V2}
    retryBudget: {percent: 20, minRetryConcurrency: 4, budgetInterval: 10s}`

var policies = map[string]string{
	"simple":   everyPolicyField("simple: ROUND_ROBIN", "warmup: {duration: 10s, minimumPercent: 20, aggression: 1}", more),
	"ring":     everyPolicyField("consistentHash: {httpHeaderName: a, ringHash: {minimumRingSize: 100}}", "warmupDurationSecs: 10s", ""),
	"maglev":   everyPolicyField("consistentHash: {httpCookie: {name: a, path: /, ttl: 5s, attributes: [{name: b, value: c}]}, maglev: {tableSize: 101}}", "", ""),
	"old ring": everyPolicyField("consistentHash: {httpQueryParameterName: a, minimumRingSize: 100}", "", ""),
	"address":  everyPolicyField("consistentHash: {useSourceIp: true}", "", ""),
}

func options() importing.Options {
	return importing.Options{Namespace: "shop", Labels: map[string]string{"app": "web"}, Gateways: map[string]string{"edge/main": "edge.example.com"}}
}

func TestImportDropsNothingSilently(t *testing.T) {
	values := map[string]any{}
	for path, v := range map[string]any{
		"http[].timeout": "11s", "http[].retries.perTryTimeout": "3s", "http[].retries.backoff": "60ms", "http[].fault.delay.fixedDelay": "3s",
		"http[].fault.delay.exponentialDelay": "3s", "http[].match[].method.exact": "POST", "http[].fault.abort.grpcStatus": "INTERNAL",
		"http[].redirect.derivePort": "FROM_PROTOCOL_DEFAULT", "http[].directResponse.body.bytes": "eWVz", "http[].corsPolicy.maxAge": "2s",
		"http[].corsPolicy.unmatchedPreflights": "FORWARD",
	} {
		values["spec."+path] = v
	}
	for _, at := range []string{"spec.trafficPolicy.", "spec.subsets[].trafficPolicy.", "spec.trafficPolicy.portLevelSettings[]."} {
		for path, v := range map[string]any{
			"loadBalancer.simple": "RANDOM", "loadBalancer.warmup.duration": "11s", "loadBalancer.warmupDurationSecs": "11s",
			"loadBalancer.consistentHash.httpCookie.ttl": "6s", "connectionPool.tcp.connectTimeout": "3s", "connectionPool.tcp.tcpKeepalive.time": "11s",
			"connectionPool.tcp.tcpKeepalive.interval": "11s", "connectionPool.tcp.maxConnectionDuration": "61s", "connectionPool.tcp.idleTimeout": "11s",
			"connectionPool.http.idleTimeout": "11s", "connectionPool.http.h2UpgradePolicy": "DO_NOT_UPGRADE", "connectionPool.http.http2KeepAlive.interval": "11s",
			"connectionPool.http.http2KeepAlive.timeout": "11s", "outlierDetection.interval": "21s", "outlierDetection.baseEjectionTime": "41s",
			"tls.mode": "DISABLE", "proxyProtocol.version": "V1", "retryBudget.budgetInterval": "11s",
			"loadBalancer.localityLbSetting.distribute[].to.a": 80.0,
		} {
			values[at+path] = v
		}
	}
	books := []string{"apiVersion", "kind", "metadata"}
	first, rest, _ := strings.Cut(everyRouteField, "---")
	objects := map[string]string{"routes": first}
	for name, p := range policies {
		objects[name] = p
	}
	for name, object := range objects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			importer := importtest.Import(Import)
			if name == "routes" {
				importer = func(docs []byte, opts importing.Options) (zerohop.Spec, importing.Report, error) {
					return Import([]byte(string(docs)+"\n---"+rest), opts)
				}
			}
			importtest.Suite{Import: importer, Options: options(), Object: object, Values: values, Books: books}.Run(t)
		})
	}
}

func TestTheFieldsOfTheTestAreAll(t *testing.T) {
	first, _, _ := strings.Cut(everyRouteField, "---")
	for _, tt := range []struct {
		into    proto.Message
		objects []string
	}{
		{new(v1alpha3.VirtualService), []string{first}},
		{new(v1alpha3.DestinationRule), []string{policies["simple"], policies["ring"], policies["maglev"], policies["old ring"], policies["address"]}},
	} {
		all, set := map[string]bool{}, map[string]bool{}
		paths(tt.into.ProtoReflect().Descriptor(), "", all)
		for _, object := range tt.objects {
			var parts struct{ Spec json.RawMessage }
			if err := yaml.Unmarshal([]byte(object), &parts); err != nil {
				t.Fatal(err)
			}
			var tree any
			if err := json.Unmarshal(parts.Spec, &tree); err != nil {
				t.Fatal(err)
			}
			visit(tree, "", set)
		}
		for path := range all {
			if !set[path] && !set[path+".*"] {
				t.Errorf("%T: no object sets %s", tt.into, path)
			}
		}
	}
}

// paths notes the paths of all fields, down to those that are lost as a whole.
func paths(d protoreflect.MessageDescriptor, path string, all map[string]bool) {
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		p := importing.Join(path, f.JSONName())
		m := f.Message()
		if f.IsMap() {
			p += ".*"
			m = f.MapValue().Message()
		} else if f.IsList() {
			p += "[]"
		}
		if _, whole := why.Reason("spec." + strings.TrimSuffix(p, "[]")); whole || m == nil || m.Name() == "StringMatch" || m.ParentFile().Package() == "google.protobuf" {
			all[p] = true
			continue
		}
		paths(m, p, all)
	}
}

// visit notes the paths of a tree, those of keys of maps also as "*".
func visit(tree any, path string, set map[string]bool) {
	set[path] = true
	switch v := tree.(type) {
	case map[string]any:
		for k := range v {
			visit(v[k], importing.Join(path, k), set)
			visit(v[k], importing.Join(path, "*"), set)
		}
	case []any:
		for i := range v {
			visit(v[i], path+"[]", set)
		}
	}
}

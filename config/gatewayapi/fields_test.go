package gatewayapi

import (
	"testing"

	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/internal/importtest"
)

// books is what a cluster keeps for itself.
var books = []string{"kind", "apiVersion", "metadata", "status"}

const everyHTTPField = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: shop}
spec:
  useDefaultGateways: All
  hostnames: [orders.example.com]
  parentRefs:
  - {group: gateway.networking.k8s.io, kind: Gateway, namespace: edge, name: main, sectionName: http, port: 80}
  - {group: "", kind: Service, name: orders, port: 80}
  rules:
  - name: all
    matches:
    - path: {type: PathPrefix, value: /v1}
      method: GET
      headers: [{name: version, value: one, type: Exact}]
      queryParams: [{name: q, value: one, type: Exact}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: a, value: "1"}], add: [{name: b, value: "2"}], remove: [c]}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: a, value: "1"}], add: [{name: b, value: "2"}], remove: [c]}
    - type: RequestMirror
      requestMirror: {percent: 10, backendRef: {group: "", kind: Service, name: shadow, namespace: lab, port: 80}}
    - type: RequestMirror
      requestMirror: {fraction: {numerator: 1, denominator: 3}, backendRef: {name: shadow}}
    - type: CORS
      cors:
        allowOrigins: ["https://example.com"]
        allowCredentials: true
        allowMethods: [GET]
        allowHeaders: [x-a]
        exposeHeaders: [x-b]
        maxAge: 5
    - type: URLRewrite
      urlRewrite: {hostname: inner.example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}
    backendRefs:
    - {group: "", kind: Service, name: orders, namespace: shop, port: 8080, weight: 9}
    - name: canary
      weight: 1
      filters:
      - type: RequestHeaderModifier
        requestHeaderModifier: {set: [{name: a, value: "1"}], add: [{name: b, value: "2"}], remove: [c]}
      - type: ResponseHeaderModifier
        responseHeaderModifier: {set: [{name: a, value: "1"}], add: [{name: b, value: "2"}], remove: [c]}
      - type: RequestMirror
        requestMirror: {percent: 10, fraction: {numerator: 1, denominator: 3}, backendRef: {group: "", kind: Service, name: shadow, namespace: lab, port: 80}}
      - type: URLRewrite
        urlRewrite: {hostname: inner.example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2, replaceFullPath: /v3}}
      - type: CORS
        cors:
          allowOrigins: ["https://example.com"]
          allowCredentials: true
          allowMethods: [GET]
          allowHeaders: [x-a]
          exposeHeaders: [x-b]
          maxAge: 5
      - type: RequestRedirect
        requestRedirect: {scheme: https, hostname: a.example.com, port: 443, statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /x, replacePrefixMatch: /y}}
      - type: ExternalAuth
        externalAuth:
          protocol: HTTP
          backendRef: {group: "", kind: Service, name: auth, namespace: shop, port: 80}
          grpc: {allowedHeaders: [x-a]}
          http: {path: /, allowedHeaders: [x-a], allowedResponseHeaders: [x-b]}
          forwardBody: {maxSize: 10}
      - type: ExtensionRef
        extensionRef: {group: example.com, kind: Thing, name: thing}
    timeouts: {request: 10s, backendRequest: 2s}
    retry: {attempts: 2, backoff: 100ms, codes: [502, 503, 504, 429]}
    sessionPersistence: {sessionName: s, type: Cookie, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}
  - name: other
    filters:
    - type: URLRewrite
      urlRewrite: {hostname: inner.example.com, path: {type: ReplaceFullPath, replaceFullPath: /v3}}
    backendRefs: [{name: orders}]
  - name: redirected
    filters:
    - type: RequestRedirect
      requestRedirect: {scheme: https, hostname: a.example.com, port: 443, statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /x, replacePrefixMatch: /y}}
    - type: ExternalAuth
      externalAuth:
        protocol: HTTP
        backendRef: {group: "", kind: Service, name: auth, namespace: shop, port: 80}
        grpc: {allowedHeaders: [x-a]}
        http: {path: /, allowedHeaders: [x-a], allowedResponseHeaders: [x-b]}
        forwardBody: {maxSize: 10}
    - type: ExtensionRef
      extensionRef: {group: example.com, kind: Thing, name: thing}
status:
  parents: [{controllerName: example.com/c, parentRef: {name: main}, conditions: []}]
`

const everyGRPCField = `
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: orders, namespace: shop}
spec:
  useDefaultGateways: All
  hostnames: [orders.example.com]
  parentRefs:
  - {group: gateway.networking.k8s.io, kind: Gateway, namespace: edge, name: main, sectionName: http, port: 80}
  rules:
  - name: all
    matches:
    - method: {type: Exact, service: shop.Orders, method: List}
      headers: [{name: version, value: one, type: Exact}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: a, value: "1"}], add: [{name: b, value: "2"}], remove: [c]}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: a, value: "1"}], add: [{name: b, value: "2"}], remove: [c]}
    - type: RequestMirror
      requestMirror: {percent: 10, backendRef: {group: "", kind: Service, name: shadow, namespace: lab, port: 80}}
    - type: RequestMirror
      requestMirror: {fraction: {numerator: 1, denominator: 3}, backendRef: {name: shadow}}
    backendRefs:
    - {group: "", kind: Service, name: orders, namespace: shop, port: 8080, weight: 9}
    - name: canary
      weight: 1
      filters:
      - type: RequestHeaderModifier
        requestHeaderModifier: {set: [{name: a, value: "1"}], add: [{name: b, value: "2"}], remove: [c]}
      - type: ResponseHeaderModifier
        responseHeaderModifier: {set: [{name: a, value: "1"}], add: [{name: b, value: "2"}], remove: [c]}
      - type: RequestMirror
        requestMirror: {percent: 10, fraction: {numerator: 1, denominator: 3}, backendRef: {group: "", kind: Service, name: shadow, namespace: lab, port: 80}}
      - type: ExtensionRef
        extensionRef: {group: example.com, kind: Thing, name: thing}
    sessionPersistence: {sessionName: s, type: Header, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}
  - name: extended
    filters:
    - type: ExtensionRef
      extensionRef: {group: example.com, kind: Thing, name: thing}
`

func TestImportDropsNothingSilently(t *testing.T) {
	values := map[string]any{
		"spec.useDefaultGateways":                                   "None",
		"spec.rules[].matches[].path.type":                          "Exact",
		"spec.rules[].matches[].method":                             "POST",
		"spec.rules[].timeouts.request":                             "11s",
		"spec.rules[].timeouts.backendRequest":                      "3s",
		"spec.rules[].retry.backoff":                                "200ms",
		"spec.rules[].sessionPersistence.absoluteTimeout":           "2h",
		"spec.rules[].sessionPersistence.cookieConfig.lifetimeType": "Session",
	}
	for _, how := range []string{"spec.rules[].matches[].headers[].type", "spec.rules[].matches[].queryParams[].type", "spec.rules[].matches[].method.type"} {
		values[how] = "RegularExpression"
	}
	opts := importing.Options{Namespace: "shop", Gateways: map[string]string{"edge/main": "edge.example.com"}}
	for name, tt := range map[string]struct {
		object string
		into   any
	}{"HTTPRoute": {everyHTTPField, new(gateway.HTTPRoute)}, "GRPCRoute": {everyGRPCField, new(gateway.GRPCRoute)}} {
		t.Run(name, func(t *testing.T) {
			if err := yaml.UnmarshalStrict([]byte(tt.object), tt.into); err != nil {
				t.Fatal(err)
			}
			importtest.Covers(t, tt.into, books)
			importtest.Suite{Import: Import, Options: opts, Object: tt.object, Values: values, Books: books}.Run(t)
		})
	}
}

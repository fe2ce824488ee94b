package gatewayapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop/internal/echopb"
)

// route returns a route of a service. Rules are items of a list, of two spaces.
func route(kind, name, service, rules string) string {
	return fmt.Sprintf("\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: %s\nmetadata: {name: %s}\nspec:\n"+
		"  parentRefs: [{group: '', kind: Service, name: %s, port: 80}]\n  rules:\n%s", kind, name, service, rules)
}

// on returns an HTTPRoute of service "echo".
func on(rules string) string { return route("HTTPRoute", "echo", "echo", rules) }

// aged is the head of a route that was created in that year, for hosts.
func aged(name string, year int, hosts string) string {
	return fmt.Sprintf("\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: %s, creationTimestamp: '%d-01-01T00:00:00Z'}\nspec:\n"+
		"  parentRefs: [{name: main}]\n  hostnames: %s\n  rules:\n", name, year, hosts)
}

// call is a request and what becomes of it.
type call struct {
	do     string // "METHOD URL", GET if there is no method
	header string // "Name: value" by commas
	to     string // the service, or a status
	path   string // as it arrives, if that is of interest
	host   string
	has    string // headers that arrive, or are in the response with "<"
	hasNot string
}

// TestConformanceHTTP has the names of the features and of the core tests of the Gateway API.
func TestConformanceHTTP(t *testing.T) {
	const filtered = "  - backendRefs: [{name: one}]\n    filters:\n"
	for _, tt := range []struct {
		feature, manifests string
		calls              []call
	}{
		{"HTTPRouteSimpleSameNamespace", on("  - backendRefs: [{name: one, port: 8080}]"), []call{{do: "http://echo/", to: "one"}, {do: "http://echo/a//b;c", to: "one"}}},
		{"HTTPRouteCrossNamespace", on("  - backendRefs: [{name: two, namespace: shop}]"), []call{{do: "http://echo/", to: "two.shop"}}},
		{"HTTPRouteExactPathMatching", on(`
  - {matches: [{path: {type: Exact, value: /one}}], backendRefs: [{name: one}]}
  - {matches: [{path: {type: Exact, value: /two}}], backendRefs: [{name: two}]}`), []call{
			{do: "http://echo/one", to: "one"}, {do: "http://echo/one?q=1", to: "one"}, {do: "http://echo/two", to: "two"},
			{do: "http://echo/", to: "404"}, {do: "http://echo/one/example", to: "404"}, {do: "http://echo/two/", to: "404"}, {do: "http://echo/Two", to: "404"},
		}},
		{"HTTPRouteMatching", on(`
  - matches:
    - path: {value: /}
    - headers: [{name: Version, value: one}]
    backendRefs: [{name: one}]
  - matches:
    - path: {value: /v2}
    - headers: [{name: Version, value: two}]
    backendRefs: [{name: two}]`), []call{
			{do: "http://echo/", to: "one"}, {do: "http://echo/example", to: "one"}, {do: "http://echo/v2", to: "two"}, {do: "http://echo/v2/x", to: "two"},
			{do: "http://echo/v2example", to: "one"}, {do: "http://echo/foo/v2", to: "one"},
			{do: "http://echo/", header: "version: one", to: "one"}, {do: "http://echo/", header: "version: two", to: "two"},
			{do: "http://echo/v2", header: "version: one", to: "two"},
		}},
		{"HTTPRoutePathMatchOrder", on(`
  - {matches: [{path: {value: /match}}], backendRefs: [{name: one}]}
  - {matches: [{path: {value: /match/prefix}}], backendRefs: [{name: two}]}
  - {matches: [{path: {type: Exact, value: /match/exact}}], backendRefs: [{name: three}]}
  - {matches: [{path: {type: Exact, value: /match}}], backendRefs: [{name: two}]}`), []call{
			{do: "http://echo/match", to: "two"}, {do: "http://echo/match/", to: "one"}, {do: "http://echo/match/prefix/x", to: "two"},
			{do: "http://echo/match/exact", to: "three"}, {do: "http://echo/match/exact/x", to: "one"}, {do: "http://echo/matched", to: "404"},
		}},
		{"HTTPRouteHeaderMatching", on(`
  - {matches: [{headers: [{name: version, value: one}]}], backendRefs: [{name: one}]}
  - {matches: [{headers: [{name: version, value: two}]}], backendRefs: [{name: two}]}
  - {matches: [{headers: [{name: version, value: two}, {name: color, value: blue}]}], backendRefs: [{name: three}]}
  - {matches: [{headers: [{name: color, value: "gr(a|e)y", type: RegularExpression}]}], backendRefs: [{name: one}]}`), []call{
			{do: "http://echo/", header: "Version: one", to: "one"}, {do: "http://echo/", header: "version: two", to: "two"},
			{do: "http://echo/", header: "version: two, color: blue", to: "three"}, {do: "http://echo/", header: "color: grey", to: "one"},
			{do: "http://echo/", header: "color: greyish", to: "404"}, {do: "http://echo/", header: "version: three", to: "404"}, {do: "http://echo/", to: "404"},
		}},
		{"HTTPRouteMethodMatching", on(`
  - {matches: [{method: POST}], backendRefs: [{name: one}]}
  - {matches: [{method: GET}], backendRefs: [{name: two}]}
  - {matches: [{path: {value: /path}, method: GET}], backendRefs: [{name: one}]}
  - {matches: [{headers: [{name: version, value: one}], method: PUT}], backendRefs: [{name: three}]}
  - {matches: [{path: {value: /path}, headers: [{name: version, value: one}]}], backendRefs: [{name: three}]}`), []call{
			{do: "POST http://echo/", to: "one"}, {do: "GET http://echo/", to: "two"}, {do: "HEAD http://echo/", to: "404"},
			{do: "GET http://echo/path", to: "one"}, {do: "PUT http://echo/", header: "version: one", to: "three"},
			{do: "GET http://echo/path", header: "version: one", to: "one"}, {do: "DELETE http://echo/path", header: "version: one", to: "three"},
		}},
		{"HTTPRouteQueryParamMatching", on(`
  - {matches: [{queryParams: [{name: animal, value: whale}]}], backendRefs: [{name: one}]}
  - {matches: [{queryParams: [{name: animal, value: dolphin}]}], backendRefs: [{name: two}]}
  - {matches: [{queryParams: [{name: animal, value: dolphin}, {name: color, value: blue}]}], backendRefs: [{name: three}]}
  - {matches: [{path: {value: /path}, queryParams: [{name: animal, value: whale}]}], backendRefs: [{name: three}]}
  - {matches: [{headers: [{name: version, value: one}]}], backendRefs: [{name: three}]}`), []call{
			{do: "http://echo/?animal=whale", to: "one"}, {do: "http://echo/?animal=dolphin", to: "two"}, {do: "http://echo/?color=blue&animal=dolphin", to: "three"},
			{do: "http://echo/path?animal=whale", to: "three"}, {do: "http://echo/?animal=whale&x=1", to: "one"}, {do: "http://echo/?animal=dolphin", header: "version: one", to: "three"},
			{do: "http://echo/?animal=shark", to: "404"}, {do: "http://echo/?Animal=whale", to: "404"}, {do: "http://echo/?animal=dolphin&animal=whale", to: "two"},
		}},
		{"HTTPRouteMatchingAcrossRoutes", aged("young", 2022, "[example.com, example.net]") + "  - {matches: [{path: {value: /}}], backendRefs: [{name: one}]}\n" +
			"  - {matches: [{path: {value: /v3}}], backendRefs: [{name: one}]}" +
			aged("old", 2021, "[example.com]") + "  - {matches: [{path: {value: /v2}}, {path: {value: /}}, {headers: [{name: version, value: two}]}], backendRefs: [{name: two}]}" +
			aged("also-old", 2021, "[example.com]") + "  - {matches: [{path: {value: /v2}}], backendRefs: [{name: three}]}", []call{
			{do: "http://example.com/", to: "two"}, {do: "http://example.net/", to: "one"}, {do: "http://example.com/v3", to: "one"},
			{do: "http://example.com/v2", to: "three"}, {do: "http://example.net/v2", to: "one"},
		}},
		{"HTTPRouteHostnames", aged("a", 2021, `["*.com"]`) + "  - {backendRefs: [{name: one}]}" + aged("b", 2022, `["*.example.com"]`) + "  - {backendRefs: [{name: two}]}" +
			aged("c", 2023, "[very.specific.example.com]") + "  - {matches: [{path: {value: /s}}], backendRefs: [{name: three}]}", []call{
			{do: "http://a.com/", to: "one"}, {do: "http://a.example.com/", to: "two"}, {do: "http://very.specific.example.com/s", to: "three"},
			{do: "http://b.a.example.com/s", to: "two"}, {do: "http://very.specific.example.com/", to: "two"},
		}},
		{"HTTPRouteInvalidBackendRefUnknownKind", on("  - backendRefs: [{name: one, group: example.com, kind: Bucket}]"), []call{{do: "http://echo/", to: "500"}}},
		{"HTTPRouteOmittedBackendRefs", on("  - matches: [{path: {value: /a}}]\n  - {matches: [{path: {value: /b}}], backendRefs: [{name: one, weight: 0}]}"), []call{{do: "http://echo/a", to: "500"}, {do: "http://echo/b", to: "500"}}},
		{"HTTPRouteNamedRule", on("  - {name: first, matches: [{path: {value: /a}}], backendRefs: [{name: one}]}\n  - {backendRefs: [{name: two}]}"), []call{{do: "http://echo/a", to: "one"}, {do: "http://echo/", to: "two"}}},
		{"HTTPRouteRequestHeaderModification", on(filtered + `
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: X-Set, value: new}], add: [{name: X-Add, value: more}], remove: [X-Remove]}`), []call{
			{do: "http://echo/", header: "X-Set: old, X-Add: some, X-Remove: gone, X-Keep: kept", to: "one", has: "X-Set: new, X-Add: some+more, X-Keep: kept", hasNot: "X-Remove"},
			{do: "http://echo/", to: "one", has: "X-Set: new, X-Add: more"},
		}},
		{"HTTPRouteBackendRequestHeaderModification", on("  - backendRefs:\n    - name: one\n      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: one}], remove: [X-Remove]}}]\n    - {name: two, weight: 0}"), []call{
			{do: "http://echo/", header: "X-Set: old, X-Remove: a", to: "one", has: "X-Set: one", hasNot: "X-Remove"},
		}},
		{"HTTPRouteResponseHeaderModification", on(filtered + `
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: X-Set, value: new}], add: [{name: X-Add, value: more}], remove: [Old]}`), []call{
			{do: "http://echo/", to: "one", has: "<X-Set: new, <X-Add: more", hasNot: "<Old"},
		}},
		{"HTTPRouteHostRewrite", on(filtered + "    - {type: URLRewrite, urlRewrite: {hostname: one.example.org}}"), []call{{do: "http://echo/a", to: "one", path: "/a", host: "one.example.org"}}},
		{"HTTPRoutePathRewrite", on(`
  - matches: [{path: {value: /prefix/one}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}}}]
    backendRefs: [{name: one}]
  - matches: [{path: {value: /strip}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
    backendRefs: [{name: one}]
  - matches: [{path: {value: /full}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /fixed}}}]
    backendRefs: [{name: two}]
  - filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /below}}}]
    backendRefs: [{name: three}]`), []call{
			{do: "http://echo/prefix/one/two?q=1", to: "one", path: "/one/two"}, {do: "http://echo/prefix/one", to: "one", path: "/one"},
			{do: "http://echo/strip/a/b", to: "one", path: "/a/b"}, {do: "http://echo/strip", to: "one", path: "/"},
			{do: "http://echo/full/a", to: "two", path: "/fixed"}, {do: "http://echo/a/b", to: "three", path: "/below/a/b"},
		}},
		{"HTTPRouteRetry", on("  - {backendRefs: [{name: one}], retry: {attempts: 2, codes: [502, 503, 504, 429], backoff: 1ms}}"), []call{{do: "http://echo/", header: "Fail: retry", to: "one"}}},
		{"HTTPRouteRequestTimeout", on("  - {backendRefs: [{name: one}], timeouts: {request: 50ms}}"), []call{{do: "http://echo/", to: "one"}, {do: "http://echo/", header: "Stall: yes", to: "timeout"}}},
		{"HTTPRouteBackendTimeout", on("  - {backendRefs: [{name: one}], timeouts: {request: 10s, backendRequest: 50ms}, retry: {attempts: 0}}"), []call{
			{do: "http://echo/", to: "one"}, {do: "http://echo/", header: "Stall: yes", to: "timeout"},
		}},
		{"ExtensionRef", on(filtered + "    - {type: ExtensionRef, extensionRef: {group: a.example.com, kind: Auth, name: a}}"), []call{{do: "http://echo/", to: "500"}}},
		{"GatewayWithoutHostnames", strings.ReplaceAll(on("  - backendRefs: [{name: one}]"), "{group: '', kind: Service, name: echo, port: 80}", "{name: main}"), []call{{do: "http://edge/", to: "one"}}},
	} {
		t.Run(tt.feature, func(t *testing.T) {
			t.Parallel()
			c := httpClient(t, imported(t, serveHTTP(t, "echo", "one", "two", "three", "two.shop").services, tt.manifests))
			for _, call := range tt.calls {
				call.check(t, c)
			}
		})
	}
}

// check makes the call.
func (c *call) check(t *testing.T, client *http.Client) {
	t.Helper()
	method, url, ok := strings.Cut(c.do, " ")
	if !ok {
		method, url = http.MethodGet, method
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range fields(c.header) {
		req.Header.Set(h[0], h[1])
	}
	resp, err := client.Do(req)
	if c.to == "timeout" {
		if !errors.Is(err, os.ErrDeadlineExceeded) && !strings.Contains(fmt.Sprint(err), "deadline exceeded") && !strings.Contains(fmt.Sprint(err), "took longer than 50ms") {
			t.Errorf("%+v: %v, want a timeout", *c, err)
		}
		return
	}
	if err != nil {
		t.Errorf("%+v: %v", *c, err)
		return
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a arrival
	if resp.StatusCode != http.StatusOK {
		a.Service = fmt.Sprint(resp.StatusCode)
	} else if err := json.Unmarshal(data, &a); err != nil && method != http.MethodHead {
		t.Fatalf("%s: %v", data, err)
	}
	if a.Service != c.to || c.path != "" && a.Path != c.path || c.host != "" && a.Host != c.host {
		t.Errorf("%s with %q arrives at %s, %s of %s, want %s %s %s", c.do, c.header, a.Service, a.Path, a.Host, c.to, c.path, c.host)
	}
	value := func(name string) string {
		if name, of := strings.CutPrefix(name, "<"); of {
			return strings.Join(resp.Header.Values(name), "+")
		}
		return strings.Join(a.Header.Values(name), "+")
	}
	for _, h := range fields(c.has) {
		if got := value(h[0]); got != h[1] {
			t.Errorf("%s: %s is %q, want %q", c.do, h[0], got, h[1])
		}
	}
	if c.hasNot != "" && value(c.hasNot) != "" {
		t.Errorf("%s: %s is %q, want none", c.do, c.hasNot, value(c.hasNot))
	}
}

func fields(list string) [][2]string {
	var all [][2]string
	for _, f := range strings.Split(list, ", ") {
		if name, value, ok := strings.Cut(f, ": "); ok {
			all = append(all, [2]string{name, value})
		}
	}
	return all
}

func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a arrival
	if resp.StatusCode != http.StatusOK {
		return fmt.Sprint(resp.StatusCode)
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a.Service
}

// shares fails the test if a share is off by more than five standard deviations. Draws are from a fixed seed.
func shares(t *testing.T, got map[string]int, want map[string]float64, n int) {
	t.Helper()
	for name, share := range want {
		if off := math.Abs(float64(got[name]) - share*float64(n)); off > 5*math.Sqrt(share*(1-share)*float64(n)) {
			t.Errorf("%s got %d of %d calls, want %.1f %%", name, got[name], n, 100*share)
		}
	}
	for name := range got {
		if want[name] == 0 {
			t.Errorf("%s got %d calls, want none", name, got[name])
		}
	}
}

func TestConformanceHTTPRouteWeight(t *testing.T) {
	const n = 1000
	for _, tt := range []struct {
		name, backends string
		want           map[string]float64
	}{
		{"weights", "[{name: one, weight: 70}, {name: two, weight: 30}, {name: three, weight: 0}]", map[string]float64{"one": 0.7, "two": 0.3}},
		{"default", "[{name: one}, {name: two, weight: 3}]", map[string]float64{"one": 0.25, "two": 0.75}},
		{"invalid", "[{name: one, weight: 3}, {name: x, kind: Bucket, group: a, weight: 1}]", map[string]float64{"one": 0.75, "500": 0.25}},
	} {
		c := httpClient(t, imported(t, serveHTTP(t, "echo", "one", "two", "three").services, on("  - backendRefs: "+tt.backends)))
		got := map[string]int{}
		for range n {
			got[get(t, c, "http://echo/")]++
		}
		t.Logf("%s: %v", tt.name, got)
		shares(t, got, tt.want, n)
	}
}

func TestConformanceMirrors(t *testing.T) {
	const mirror = "\n    - {type: RequestMirror, requestMirror: {backendRef: {name: %s, port: 8080}%s}}"
	for _, tt := range []struct {
		feature, filters string
		n                int
		copies           int // that arrive at least
		two, three       int // of them at most
	}{
		{"HTTPRouteRequestMirror", fmt.Sprintf(mirror, "two", ""), 3, 3, 3, 0},
		{"HTTPRouteRequestMultipleMirrors", fmt.Sprintf(mirror, "two", "") + fmt.Sprintf(mirror, "three", ""), 3, 6, 3, 3},
		{"HTTPRouteRequestPercentageMirror", fmt.Sprintf(mirror, "two", ", percent: 20") + fmt.Sprintf(mirror, "three", ", fraction: {numerator: 1, denominator: 2}"), 200, 100, 70, 135},
		{"none", fmt.Sprintf(mirror, "two", ", percent: 0"), 20, 0, 0, 0},
	} {
		t.Run(tt.feature, func(t *testing.T) {
			e := serveHTTP(t, "echo", "one", "two", "three")
			c := httpClient(t, imported(t, e.services, on("  - backendRefs: [{name: one}]\n    filters:"+tt.filters)))
			for range tt.n {
				if got := get(t, c, "http://echo/a"); got != "one" {
					t.Fatalf("answer of %s, want one", got)
				}
			}
			e.await(t, tt.n+tt.copies)
			two, three := e.count("two"), e.count("three")
			if two > tt.two || three > tt.three || two+three < tt.copies {
				t.Errorf("%d and %d copies, want at most %d and %d, and %d in all", two, three, tt.two, tt.three, tt.copies)
			}
		})
	}
}

func TestConformanceHTTPRouteRetryConnectionError(t *testing.T) {
	e := serveHTTP(t, "echo", "one")
	e.services["one"] = append(e.services["one"], e.services["one"][0])
	e.services["one"][0].Addr = "127.0.0.1:1" // nothing listens there
	c := httpClient(t, imported(t, e.services, on("  - {backendRefs: [{name: one}], retry: {attempts: 1}}")))
	for range 20 {
		if got := get(t, c, "http://echo/"); got != "one" {
			t.Fatalf("answer of %s, want one", got)
		}
	}
}

// TestConformanceGRPC has the names of the core tests of GRPCRoute.
func TestConformanceGRPC(t *testing.T) {
	const service = "service: zerohop.echo.v1.Echo"
	type rpc struct {
		order  bool
		header []string
		to     string
		code   codes.Code
		text   string
	}
	grpcRoute := func(rules string) string {
		return route("GRPCRoute", "echo", "echo", strings.ReplaceAll(rules, "SERVICE", service))
	}
	for _, tt := range []struct {
		feature, manifests string
		calls              []rpc
	}{
		{"GRPCExactMethodMatching", grpcRoute(`
  - {matches: [{method: {SERVICE, method: Say}}], backendRefs: [{name: one}]}
  - {matches: [{method: {SERVICE}}], backendRefs: [{name: two}]}`), []rpc{{to: "one"}, {order: true, to: "two"}}},
		{"GRPCRouteMethodPrecedence", grpcRoute(`
  - {backendRefs: [{name: one}]}
  - {matches: [{method: {method: Order}}], backendRefs: [{name: two}]}`), []rpc{{to: "one"}, {order: true, to: "two"}}},
		{"GRPCRouteHeaderMatching", grpcRoute(`
  - {matches: [{headers: [{name: version, value: one}]}], backendRefs: [{name: one}]}
  - {matches: [{headers: [{name: version, value: one}, {name: color, value: blue}]}, {headers: [{name: color, value: "r.d", type: RegularExpression}]}], backendRefs: [{name: two}]}`), []rpc{
			{header: []string{"version", "one"}, to: "one"}, {header: []string{"version", "one", "color", "blue"}, to: "two"},
			{header: []string{"color", "red"}, to: "two"}, {header: []string{"version", "two"}, code: codes.Unimplemented}, {code: codes.Unimplemented},
		}},
		{"GRPCRouteRegularExpression", grpcRoute(`
  - {matches: [{method: {type: RegularExpression, service: ".*Echo", method: "S|Say"}}], backendRefs: [{name: one}]}`), []rpc{{to: "one"}, {order: true, code: codes.Unimplemented}}},
		{"GRPCRouteNamedRule", grpcRoute("  - {name: first, matches: [{method: {SERVICE, method: Say}}], backendRefs: [{name: one}]}\n  - {backendRefs: [{name: two}]}"), []rpc{{to: "one"}, {order: true, to: "two"}}},
		{"GRPCRouteInvalidBackend", grpcRoute("  - {backendRefs: [{name: one, group: a, kind: Bucket}]}"), []rpc{{code: codes.Unavailable}}},
		{"GRPCRouteRequestHeaderModifier", grpcRoute("  - {backendRefs: [{name: one}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: added, value: new}]}}]}"), []rpc{
			{to: "one", text: "new"}, {to: "one", header: []string{"added", "old"}, text: "old,new"},
		}},
	} {
		t.Run(tt.feature, func(t *testing.T) {
			t.Parallel()
			client := rpcClient(t, imported(t, serveGRPC(t, "echo", "one", "two"), tt.manifests), "echo")
			for i, c := range tt.calls {
				do := client.Say
				if c.order {
					do = client.Order
				}
				reply, err := do(metadata.AppendToOutgoingContext(t.Context(), c.header...), &echopb.SayRequest{})
				if status.Code(err) != c.code || reply.GetNode() != c.to || c.text != "" && reply.GetText() != c.text {
					t.Errorf("call %d: %q of %q (%v), want %q of %q, %v", i, reply.GetText(), reply.GetNode(), err, c.text, c.to, c.code)
				}
			}
		})
	}
}

func TestConformanceGRPCRouteWeight(t *testing.T) {
	const n = 400
	client := rpcClient(t, imported(t, serveGRPC(t, "echo", "one", "two"), route("GRPCRoute", "echo", "echo", "  - {backendRefs: [{name: one, weight: 70}, {name: two, weight: 30}]}")), "echo")
	got := map[string]int{}
	for range n {
		reply, err := client.Say(t.Context(), &echopb.SayRequest{})
		if err != nil {
			t.Fatal(err)
		}
		got[reply.Node]++
	}
	shares(t, got, map[string]float64{"one": 0.7, "two": 0.3}, n)
}

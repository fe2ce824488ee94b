package gatewayapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zerohop/zerohop/config/importing"
)

// routeOf returns an HTTPRoute of service "orders" with the given rules, indented as they stand in a list.
func routeOf(name, rules string) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s, namespace: default}
spec:
  parentRefs: [{group: "", kind: Service, name: orders}]
  rules:
%s
`, name, rules)
}

func TestImportReportsWhatItSkips(t *testing.T) {
	docs := `
apiVersion: v1
kind: Service
metadata: {name: orders}
---
# nothing
---
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: orders}
- apiVersion: gateway.networking.k8s.io/v1
  kind: HTTPRoute
  metadata: {name: in-list}
  spec:
    parentRefs: [{group: "", kind: Service, name: orders}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRouteList
items:
- metadata: {name: typed, namespace: shop}
  spec:
    parentRefs: [{name: edge}]
    hostnames: [a.example.com]
---
apiVersion: gateway.networking.k8s.io/v9
kind: HTTPRoute
metadata: {name: future}
`
	_, report, err := Import([]byte(docs), importing.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(report.Imported), "[HTTPRoute default/in-list HTTPRoute shop/typed HTTPRoute default/future]"; got != want {
		t.Errorf("imported %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(report.Skipped), "[Service default/orders Deployment default/orders]"; got != want {
		t.Errorf("skipped %s, want %s", got, want)
	}
	if got, want := report.String(), `28: HTTPRoute default/future: apiVersion: refused: "gateway.networking.k8s.io/v9" is not known, only v1, v1beta1`; !strings.Contains(got, want) {
		t.Errorf("report:\n%s\nwant a line %s", got, want)
	}
}

func TestImportRefusesMistakes(t *testing.T) {
	tests := []struct{ name, docs, want string }{
		{"unknown field", routeOf("a", "  - backendRef: [{name: orders}]\n    timeout: {}"), `input:2: HTTPRoute default/a: unknown field "spec.rules[0].backendRef"`},
		{"and all at once", routeOf("a", "  - backendRef: [{name: orders}]\n    timeout: {}"), `input:2: HTTPRoute default/a: unknown field "spec.rules[0].timeout"`},
		{"duration", routeOf("a", "  - timeouts:\n      request: soon"), `input:9: HTTPRoute default/a: spec.rules[0].timeouts.request: "soon" is no duration`},
		{"type", routeOf("a", "  - timeouts: 5"), "HTTPRoute default/a: json: cannot unmarshal number"},
		{"twice", "a: 1\na: 2", `mapping key "a" already defined`},
		{"no object", "- 1", "input:1: is not an object"},
		{"no YAML", "a: [", "input: yaml: "},
		{"nested lists", "kind: List\nitems: [{kind: List, items: []}]", "items: is not a list of objects"},
		{"no name", "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute", "metadata.name: must not be empty"},
		{"size", strings.Repeat("#", 4<<20+1), "at most 4194304 are allowed"},
		{"rules", manyRoutes(1001), "at most 1000 are allowed"},
	}
	for _, tt := range tests {
		if _, _, err := Import([]byte(tt.docs), importing.Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func manyRoutes(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(routeOf(fmt.Sprint("r", i), fmt.Sprintf("  - {matches: [{path: {value: /%d}}], backendRefs: [{name: orders}]}\n---", i)))
	}
	return b.String()
}

func TestReportHasLines(t *testing.T) {
	docs := routeOf("a", `
  - backendRefs:
    - name: orders
      kind: Bucket
      group: example.com`)
	_, report, err := Import([]byte(docs), importing.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := "10: HTTPRoute default/a: spec.rules[0].backendRefs[0]: refused: example.com/Bucket is no kind of backend that can be called: its share is answered with 500\nservice orders: default/orders\n"
	if got := report.String(); got != want {
		t.Errorf("report:\n%swant\n%s", got, want)
	}
}

func FuzzImport(f *testing.F) {
	f.Add([]byte(everyHTTPField))
	f.Add([]byte(everyGRPCField))
	f.Add([]byte(routeOf("a", "  - matches: [{path: {type: RegularExpression, value: /a.*}}]")))
	f.Fuzz(func(t *testing.T, docs []byte) {
		spec, _, err := Import(docs, importing.Options{})
		if err == nil && spec.Validate() != nil {
			t.Errorf("no error for a spec that is not valid: %v", spec.Validate())
		}
	})
}

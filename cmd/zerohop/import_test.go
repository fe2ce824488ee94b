package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/zerohop/zerohop/config"
)

func TestImportWritesASpecAndWhatIsLost(t *testing.T) {
	t.Chdir(files(t, map[string]string{
		"route.yaml": "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: orders}\nspec:\n" +
			"  parentRefs: [{group: '', kind: Service, name: orders}]\n  rules:\n  - backendRefs: [{name: orders-next, port: 80}]\n",
		"lossy.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: orders}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n" +
			"metadata: {name: stock}\nspec:\n  parentRefs: [{group: '', kind: Service, name: stock}]\n  rules:\n  - backendRefs: [{name: stock}]\n    filters:\n    - type: CORS\n      cors: {maxAge: 5}\n",
		"typo.yaml":  "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: orders}\nspec: {rulez: []}\n",
		"istio.yaml": "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec: {hosts: [a], http: [{route: [{destination: {host: b}}]}]}\n",
		"split.yaml": "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: s}\nspec: {hosts: [b], http: [{route: [{destination: {host: b, subset: v2}}]}]}\n",
		"parts.yaml": "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: b}\nspec: {host: b, subsets: [{name: v2, labels: {track: canary}}]}",
		"shop.json":  `{"methodConfig": [{"name": [{}], "timeout": "2s"}]}`,
	}))
	for _, tt := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"--from", "gateway-api", "route.yaml"}, exitOK, "name: default/orders/0", "the resolver has to know orders-next: default/orders-next, port 80\nimported 1 objects, skipped 0, with 0 losses\n"},
		{[]string{"--from", "gateway-api", "--strict", "route.yaml"}, exitOK, "orders-next", ""},
		{[]string{"--from", "gateway-api", "route.yaml", "lossy.yaml"}, exitOK, "service: stock", "lossy.yaml:13: ignored: HTTPRoute default/stock: spec.rules[0].filters[0]: CORS"},
		{[]string{"--from", "gateway-api", "lossy.yaml"}, exitOK, "service: stock", "lossy.yaml:1: skipped: Service default/orders\n"},
		{[]string{"--from", "gateway-api", "--strict", "lossy.yaml"}, exitLosses, "service: stock", "1 losses"},
		{[]string{"--from", "gateway-api", "--json", "route.yaml", "lossy.yaml"}, exitOK, "service: stock", `"file": "lossy.yaml"`},
		{[]string{"--from", "gateway-api", "--namespace", "shop", "route.yaml"}, exitOK, "service: orders-next", "shop/orders-next"},
		{[]string{"--from", "istio", "istio.yaml"}, exitOK, "name: default/v/0", "imported 1 objects"},
		{[]string{"--from", "istio", "split.yaml", "parts.yaml"}, exitOK, "track: canary", "parts.yaml:4: approximated: DestinationRule default/b: spec.subsets[0].labels"},
		{[]string{"--from", "grpc", "shop.json"}, exitOK, "service: shop", ""},
		{[]string{"--from", "grpc", "--target", "orders", "shop.json"}, exitOK, "service: orders", ""},
		{[]string{"--from", "gateway-api", "typo.yaml", "none.yaml"}, exitImportError, "", `typo.yaml:1: HTTPRoute default/orders: unknown field "spec.rulez"` + "\nzerohop: open none.yaml"},
		{[]string{"--from", "nginx", "--gateway", "a=b"}, exitImportError, "", `zerohop: --from is "nginx", want gateway-api, istio or grpc` + "\nzerohop: want the names of files"},
		{[]string{"--label", "a"}, exitImportError, "", "want NAME=VALUE"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"import"}, tt.args...), &stdout, &stderr); code != tt.code {
			t.Errorf("%v: code %d, want %d\n%s", tt.args, code, tt.code, &stderr)
		}
		if !strings.Contains(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.stderr) {
			t.Errorf("%v: stdout\n%s\nstderr\n%s\nwant %q and %q", tt.args, &stdout, &stderr, tt.stdout, tt.stderr)
		}
		if tt.code == exitImportError {
			if stdout.Len() > 0 {
				t.Errorf("%v: a spec was written", tt.args)
			}
			continue
		}
		if _, err := config.Parse(stdout.Bytes(), config.ParseOptions{}); err != nil {
			t.Errorf("%v: the spec cannot be read: %v", tt.args, err)
		}
		if tt.args[len(tt.args)-3] == "--json" && !json.Valid(stderr.Bytes()) {
			t.Errorf("%v: the report is no JSON: %s", tt.args, &stderr)
		}
	}
	if code := run(t.Context(), []string{"import", "--from", "istio", "-o", "spec.yaml", "istio.yaml"}, new(bytes.Buffer), new(bytes.Buffer)); code != exitOK {
		t.Fatalf("code %d, want %d", code, exitOK)
	}
	if data, err := os.ReadFile("spec.yaml"); err != nil || !bytes.Contains(data, []byte("default/v/0")) {
		t.Errorf("spec.yaml is %q (%v)", data, err)
	}
}

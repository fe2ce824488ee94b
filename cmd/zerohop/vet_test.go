package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files writes files by name into a directory, and returns it.
func files(t testing.TB, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestVetTellsItsFindings(t *testing.T) {
	t.Chdir(files(t, map[string]string{
		"good.yaml":  "services: {orders: {timeout: 2s}}\n",
		"bad.yaml":   "services:\n  orders:\n    timeout: 1s\n    attemptTimeout: 2s\n",
		"fault.yaml": "routes:\n  - match: {service: orders}\n    fault: {abort: 503}\n",
		"wrong.yaml": "services:\n  orders:\n    timeuot: 1s\n",
		"limit.yaml": "services:\n  b:\n    rateLimit: {mode: 'on', rate: 5}\n",
		"graph.yaml": "services: {a: {spec: limit.yaml, calls: [{service: b}]}, b: {}}\nentries: [{service: a, rate: 10}]\n",
		"lost.yaml":  "services: {a: {spec: none.yaml}}\n",
		"typo.yaml":  "services: {a: {specs: none.yaml}}\n",
		"entry.yaml": "services: {a: {}}\nentries:\n  - {service: b}\n",
		"empty.yaml": "# soon\n",
		"unset.yaml": "{}\n",
		"env.yaml":   "services: {orders: {timeout: '${VET_TIMEOUT}', attemptTimeout: 2s}}\n",
	}))
	t.Setenv("VET_TIMEOUT", "1s")
	const finding = "bad.yaml:4:5: warning: services.orders.attemptTimeout: orders: attemptTimeout is 2s and the timeout 1s"
	for _, tt := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"good.yaml"}, exitOK, "", ""},
		{[]string{"bad.yaml"}, exitOK, finding, ""},
		{[]string{"bad.yaml", "good.yaml", "--fail-on", "warning"}, exitNone, finding, ""},
		{[]string{"--fail-on=warning", "--disable=policy-unused,attempt-timeout-too-long", "bad.yaml"}, exitOK, "", ""},
		{[]string{"--severity", "error", "bad.yaml"}, exitOK, "", ""},
		{[]string{"fault.yaml"}, exitNone, "fault.yaml:3:5: error: routes[0].fault: ", ""},
		{[]string{"fault.yaml", "--fail-on", "never"}, exitOK, "[fault-left-on]", ""},
		{[]string{"--graph", "graph.yaml"}, exitNone, "limit.yaml:3:29: error: services.b.rateLimit.rate: a -> b: ", ""},
		{[]string{"--graph", "graph.yaml", "limit.yaml"}, exitNone, "50 % are refused", ""},
		{[]string{"--env", "env.yaml"}, exitOK, "attemptTimeout is 2s", ""},
		{[]string{"env.yaml"}, exitUsage, "", "env.yaml:1:30: services.orders.timeout"},
		{[]string{"wrong.yaml"}, exitUsage, "", `wrong.yaml:3:5: services.orders.timeuot: unknown field, did you mean "timeout"?`},
		{[]string{"empty.yaml"}, exitUsage, "", "empty.yaml: the document is empty: write {}"}, // no mesh would take it
		{[]string{"unset.yaml"}, exitOK, "", ""},
		{[]string{"none.yaml", "wrong.yaml"}, exitUsage, "", "open none.yaml"},
		{[]string{"--graph", "lost.yaml"}, exitUsage, "", "open none.yaml"},
		{[]string{"--graph", "typo.yaml"}, exitUsage, "", "typo.yaml:1:16: services.a.specs: unknown field"},
		{[]string{"--graph", "entry.yaml"}, exitUsage, "", `entry.yaml:3:6: entries[0].service: there is no service "b"`},
		{nil, exitUsage, "", "want the names of SPEC files"},
		{[]string{"good.yaml", "--disable", "none"}, exitUsage, "", `there is no check "none"`},
		{[]string{"good.yaml", "--fail-on", "bad", "--severity", "worse", "--from", "envoy"}, exitUsage, "", `--severity is "worse"`},
		{[]string{"good.yaml", "--from", "envoy"}, exitUsage, "", `--from is "envoy"`},
	} {
		code, stdout, stderr := zerohop(t.Context(), append([]string{"vet"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) ||
			(stdout == "") != (tt.stdout == "") || (stderr == "") != (tt.stderr == "") {
			t.Errorf("vet %q: code %d, stdout %q, stderr %q, want %d, %q, %q", tt.args, code, stdout, stderr, tt.code, tt.stdout, tt.stderr)
		}
	}
}

func TestVetWritesDocuments(t *testing.T) {
	t.Chdir(files(t, map[string]string{"bad.yaml": "services: {orders: {timeout: 1s, attemptTimeout: 2s}}\n"}))
	var got verdicts
	code, stdout, _ := zerohop(t.Context(), "vet", "--json", "bad.yaml")
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK {
		t.Fatalf("code %d, %v: %s", code, err, stdout)
	}
	if got.Warnings != 1 || len(got.Findings) != 1 || got.Findings[0].Line != 1 || got.Findings[0].ID != "attempt-timeout-too-long" {
		t.Errorf("vet --json = %s", stdout)
	}
	var log struct {
		Version string
		Runs    []struct {
			Results []struct{ RuleID string }
		}
	}
	_, stdout, _ = zerohop(t.Context(), "vet", "--sarif", "bad.yaml")
	if err := json.Unmarshal([]byte(stdout), &log); err != nil || log.Version != "2.1.0" || len(log.Runs) != 1 || log.Runs[0].Results[0].RuleID != "attempt-timeout-too-long" {
		t.Errorf("vet --sarif = %.300s, %v", stdout, err)
	}
}

// What a cluster has may be judged as it is.
func TestVetReadsTheGatewayAPI(t *testing.T) {
	t.Chdir(files(t, map[string]string{"routes.yaml": `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders}
spec:
  parentRefs: [{group: "", kind: Service, name: orders, port: 80}]
  rules:
    - backendRefs: [{name: orders, port: 80, weight: 1}, {name: orders-next, port: 80, weight: 0}]
`}))
	code, stdout, stderr := zerohop(t.Context(), "vet", "--from", "gateway-api", "routes.yaml")
	if code != exitOK || !strings.Contains(stdout, "[backend-without-calls]") {
		t.Errorf("code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if code, _, stderr := zerohop(t.Context(), "vet", "--from", "gateway-api", "none.yaml"); code != exitUsage || stderr == "" {
		t.Errorf("code %d, stderr %q", code, stderr)
	}
}

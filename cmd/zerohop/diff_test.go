package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestDiffTellsWhatChangesForCalls(t *testing.T) {
	t.Chdir(files(t, map[string]string{
		"old.yaml": `
defaults: {timeout: 2s}
services:
  orders: {retry: {attempts: 3}, rateLimit: {mode: "on", rate: 10}}
routes:
  - name: canary
    match: {service: orders}
    backends: [{service: orders, weight: 9}, {service: orders-next, weight: 1}]
`,
		"same.yaml": `
routes: [{name: canary, match: {service: orders}, backends: [{service: orders, weight: 9}, {service: orders-next, weight: 1}]}]
services: {orders: {rateLimit: {rate: 10, mode: "on"}, retry: {attempts: 3}}}
defaults: {timeout: 2s}
`,
		"new.yaml": `
defaults: {timeout: 3s}
services:
  orders: {preset: envoy, rateLimit: {mode: "on", rate: 20}}
policies: {slow: {timeout: 1m}}
routes:
  - name: canary
    match: {service: orders}
    backends: [{service: orders, weight: 3}, {service: orders-next, weight: 1}]
  - {name: reports, match: {service: orders, path: {prefix: /reports}}, policy: slow}
`,
		"wrong.yaml": "defaults: {timeuot: 3s}\n",
	}))
	for _, tt := range []struct {
		args   []string
		code   int
		stdout []string
		stderr string
	}{
		{[]string{"old.yaml", "same.yaml"}, exitOK, nil, ""},
		{[]string{"old.yaml", "new.yaml"}, exitDifferent, []string{
			"defaults.timeout: 2s -> 3s\n",
			"services.orders.retry.attempts: was 3, is no longer set\n",
			"other services: timeout: 2s (defaults) -> 3s (defaults)\n",
			"orders: retry.attempts: 3 (services.orders) -> 2 (preset envoy)\n",
			"orders: retry.mode: on (built-in) -> off (preset envoy)\n",
			"orders: outlier.maxEjected: 0.5 (built-in) -> 0.1 (preset envoy)\n",
			"orders under slow: timeout: 2s (defaults) -> 1m0s (policies.slow)\n",
			"orders: orders 90 %, orders-next 10 % -> orders 75 %, orders-next 25 % (15 % move)\n",
			"orders /reports: orders 90 %, orders-next 10 % -> orders 100 % (10 % move)\n",
			"what begins anew\n",
			"rateLimit",
		}, ""},
		{[]string{"old.yaml", "wrong.yaml"}, exitUsage, nil, "wrong.yaml:1:12: defaults.timeuot: unknown field"},
		{[]string{"old.yaml", "none.yaml"}, exitUsage, nil, "none.yaml"},
		{[]string{"old.yaml"}, exitUsage, nil, "want two files"},
		{[]string{"old.yaml", "new.yaml", "--from", "x"}, exitUsage, nil, `--from is "x"`},
	} {
		code, stdout, stderr := zerohop(t.Context(), append([]string{"diff"}, tt.args...)...)
		if code != tt.code || (stdout == "") != (tt.stdout == nil) || !strings.Contains(stderr, tt.stderr) || (stderr == "") != (tt.stderr == "") {
			t.Errorf("diff %q: code %d, stdout %q, stderr %q, want %d, %q", tt.args, code, stdout, stderr, tt.code, tt.stderr)
		}
		for _, want := range tt.stdout {
			if !strings.Contains(stdout, want) {
				t.Errorf("diff %q lacks %q:\n%s", tt.args, want, stdout)
			}
		}
	}
	var got specDiff
	code, stdout, _ := zerohop(t.Context(), "diff", "--json", "old.yaml", "new.yaml")
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitDifferent || len(got.Fields) == 0 || len(got.Effective) == 0 || len(got.Moves) != 2 || len(got.Resets) == 0 {
		t.Errorf("diff --json: code %d, %v: %s", code, err, stdout)
	}
	code, stdout, _ = zerohop(t.Context(), "diff", "--json", "old.yaml", "same.yaml")
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK || strings.Contains(stdout, "null") {
		t.Errorf("diff --json of equal specs: code %d, %v: %s", code, err, stdout)
	}
}

package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestRouteExplainsWhereACallGoes(t *testing.T) {
	t.Chdir(files(t, map[string]string{"spec.yaml": `
policies: {slow: {timeout: 1m}}
routes:
  - name: canary
    match: {service: Orders, path: {prefix: /v2}}
    backends: [{service: orders, weight: 9}, {service: orders, select: {version: next}, weight: 1}]
  - name: beta
    match: {service: orders, headers: [{name: X-Beta, present: true}]}
    or: [{service: orders, path: {prefix: /v2}, method: POST}]
    policy: slow
    backends: [{service: beta}]
  - match: {service: orders}
  - {name: gone, match: {service: stock, lane: old}, response: {status: 410}}
`}))
	for _, tt := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"http://orders/v2/x"}, exitOK, "GET http://orders/v2/x\n  90 % to orders\n  10 % to orders{version=next}\n" +
			"canary: takes the call by match, at random by weight\n" +
			"beta: match.headers[0]: X-Beta is \"\"; or[0].method: \"GET\" is not POST\n" +
			"routes[2]: match fits, but another match comes before it\ngone: match.service: \"orders\" is not stock\n", ""},
		{[]string{"POST", "http://ORDERS/v2/x"}, exitOK, "  100 % to beta\ncanary: match fits, but another match comes before it\nbeta: takes the call by or[0], the only backend, under policy slow\n", ""},
		{[]string{"-H", "X-Beta: 1", "http://orders/v1"}, exitOK, "  100 % to beta\ncanary: match.path: \"/v1\" is not \"/v2\"\n", ""},
		{[]string{"http://stock/", "--lane", "old"}, exitOK, "  100 % to status 410\n", ""},
		{[]string{"http://stock/"}, exitOK, "  100 % to stock\n", ""},
		{[]string{"orders"}, exitUsage, "", `"orders" is not the URL of a service`},
		{nil, exitUsage, "", "want [METHOD] URL"},
	} {
		code, stdout, stderr := zerohop(t.Context(), append([]string{"route", "--spec", "spec.yaml"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) || (stderr == "") != (tt.stderr == "") {
			t.Errorf("route %q: code %d, stdout %q, stderr %q, want %d, %q, %q", tt.args, code, stdout, stderr, tt.code, tt.stdout, tt.stderr)
		}
	}
	if code, _, stderr := zerohop(t.Context(), "route", "http://orders/"); code != exitUsage || !strings.Contains(stderr, "--spec FILE is missing") {
		t.Errorf("without a spec: code %d, stderr %q", code, stderr)
	}
	var got routed
	_, stdout, _ := zerohop(t.Context(), "route", "--json", "--spec", "spec.yaml", "http://orders/v2")
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || len(got.To) != 2 || len(got.Rules) != 4 || !got.Rules[0].Taken {
		t.Errorf("route --json = %s, %v", stdout, err)
	}
}

package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

const wholeYAML = `
# what a mesh may look like
defaults:
  timeout: 2s
  criticality: critical-plus
services:
  orders:
    balance: rendezvous
    retry: {attempts: 2, base: 25ms, max: 1m30s}
    breaker: {mode: on}
    panic: 0.25
    hash:
    - header: X-User
    - path: true
  api.example.com:
policies:
  slow:
    timeout: 30s
    select: {match: {version: "1.10"}, fallback: any}
routes:
- name: beta
  match:
    service: orders
    path: {prefix: /v2}
    headers: [{name: X-Beta, value: yes}]
    after: 2026-01-02T15:04:05Z
    percent: 12.5
  backends:
  - {service: orders-beta, weight: 1}
  - {service: orders, weight: 9}
  policy: slow
  rewrite: {path: {prefix: ""}}
- match: {service: gone}
  response: {}
`

const wholeJSON = `{
	"defaults": {"timeout": "2s", "criticality": "critical-plus"},
	"services": {
		"orders": {
			"balance": "rendezvous",
			"retry": {"attempts": 2, "base": "25ms", "max": "1m30s"}, "breaker": {"mode": "on"}, "panic": 0.25,
			"hash": [{"header": "X-User"}, {"path": true}]
		},
		"api.example.com": null
	},
	"policies": {"slow": {"timeout": "30s", "select": {"match": {"version": "1.10"}, "fallback": "any"}}},
	"routes": [
		{
			"name": "beta",
			"match": {
				"service": "orders", "path": {"prefix": "\/v2"}, "headers": [{"name": "X-Beta", "value": "yes"}],
				"after": "2026-01-02T15:04:05Z", "percent": 1.25e1
			},
			"backends": [{"service": "orders-beta", "weight": 1}, {"service": "orders", "weight": 9}],
			"policy": "slow",
			"rewrite": {"path": {"prefix": ""}}
		},
		{"match": {"service": "gone"}, "response": {}}
	]
}`

func ptr[T any](v T) *T { return &v }

var whole = zerohop.Spec{
	Defaults: zerohop.Policy{Timeout: 2 * time.Second, Criticality: resilience.CriticalPlus},
	Services: map[string]zerohop.Policy{
		"orders": {
			Balance: "rendezvous",
			Retry:   zerohop.Retry{Attempts: 2, Base: 25 * time.Millisecond, Max: 90 * time.Second},
			Breaker: zerohop.Breaker{Mode: zerohop.On},
			Panic:   0.25,
			Hash:    []zerohop.HashSource{{Header: "X-User"}, {Path: true}},
		},
		"api.example.com": {},
	},
	Policies: map[string]zerohop.Policy{
		"slow": {Timeout: 30 * time.Second, Select: zerohop.Select{Match: map[string]string{"version": "1.10"}, Fallback: zerohop.FallbackAny}},
	},
	Routes: []routing.Rule{
		{
			Name: "beta",
			Match: routing.Match{
				Service: "orders", Path: routing.Path{Prefix: "/v2"}, Headers: []routing.Field{{Name: "X-Beta", Value: "yes"}},
				After: time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC), Percent: ptr(12.5),
			},
			Backends: []routing.Backend{{Service: "orders-beta", Weight: 1}, {Service: "orders", Weight: 9}},
			Policy:   "slow",
			Rewrite:  routing.Rewrite{Path: routing.PathRewrite{Prefix: ptr("")}},
		},
		{Match: routing.Match{Service: "gone"}, Response: &routing.Response{}},
	},
}

func TestReadYAMLAndJSON(t *testing.T) {
	for _, test := range []struct{ name, text string }{
		{"mesh.yaml", wholeYAML}, {"mesh.json", wholeJSON}, {"", wholeYAML}, {"", wholeJSON},
		{"crlf.yaml", strings.ReplaceAll(wholeYAML, "\n", "\r\n")}, {"bom.yaml", "\ufeff" + wholeYAML}, {"bom.json", "\ufeff" + wholeJSON},
	} {
		d, err := Read([]byte(test.text), ParseOptions{Name: test.name})
		if err != nil {
			t.Errorf("Read(%s) = %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(d.Spec, whole); diff != "" {
			t.Errorf("Read(%s), got - want +\n%s", test.name, diff)
		}
	}
}

func TestParseOfNothingIsTheZeroSpec(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "null", "{}", "~", "services:\n", "services: {}", "routes: []", `{"services": null}`} {
		spec, err := Parse([]byte(text), ParseOptions{})
		if err != nil || !reflect.DeepEqual(spec, zerohop.Spec{}) {
			t.Errorf("Parse(%q) = %v, %v, want the zero Spec", text, spec, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"services:\n  orders:\n    retry: {atempts: 2}", `m.yaml:3:13: services.orders.retry.atempts: unknown field, did you mean "attempts"?`},
		{"defaults: {max_timeout: 2s}", `m.yaml:1:12: defaults.max_timeout: unknown field`},
		{"defaults: {attempt-timeout: 2s}", `m.yaml:1:12: defaults.attempt-timeout: unknown field, did you mean "attemptTimeout"?`},
		{"defaults: {retry: {timeout: 2s}}", `m.yaml:1:20: defaults.retry.timeout: unknown field, did you mean "defaults.timeout"?`},
		{"defaults: {attempts: 2}", `m.yaml:1:12: defaults.attempts: unknown field, did you mean "defaults.retry.attempts"?`},
		{"routes:\n- prefix: /", `m.yaml:2:3: routes[0].prefix: unknown field, did you mean "routes[0].match.path.prefix"?`},
		{"routes:\n- match: {backends: []}", `m.yaml:2:11: routes[0].match.backends: unknown field, did you mean "routes[0].backends"?`},
		{"routes: [{split: {on: user}}]", `m.yaml:1:19: routes[0].split.on: unknown field, want one of key, name`},
		{"timeout: 2s", `m.yaml:1:1: timeout: unknown field, did you mean "defaults.timeout"?`},
		{"defaults: {timeout: 2}", `m.yaml:1:21: defaults.timeout: is 2, want a duration with its unit, such as 2ms or 2s`},
		{"defaults: {timeout: '250'}", `m.yaml:1:21: defaults.timeout: is "250", want a duration with its unit, such as 250ms or 250s`},
		{"defaults: {timeout: soon}", `m.yaml:1:21: defaults.timeout: is "soon", want a duration such as 250ms`},
		{"defaults: {timeout: 999999999h}", `m.yaml:1:21: defaults.timeout: is "999999999h", want a duration such as 250ms`},
		{"defaults: {timeout: []}", `m.yaml:1:21: defaults.timeout: is a list, want a duration such as 250ms`},
		{"defaults: {retry: {mode: true}}", `m.yaml:1:26: defaults.retry.mode: is true, want on or off; what turned on into true reads YAML 1.1, so put it into quotes`},
		{"defaults: {retry: {attempts: '2'}}", `m.yaml:1:30: defaults.retry.attempts: is "2", want a whole number`},
		{"defaults: {retry: {attempts: 02}}", `m.yaml:1:30: defaults.retry.attempts: is 02, want a whole number`},
		{"defaults: {retry: {attempts: 0x2}}", `m.yaml:1:30: defaults.retry.attempts: is 0x2, want a whole number`},
		{"defaults: {retry: {attempts: 1_0}}", `m.yaml:1:30: defaults.retry.attempts: is 1_0, want a whole number`},
		{"defaults: {retry: {attempts: 2.0}}", `m.yaml:1:30: defaults.retry.attempts: is 2.0, want a whole number`},
		{"defaults: {retry: 2}", `m.yaml:1:19: defaults.retry: is 2, want fields`},
		{"defaults: {panic: .nan}", `m.yaml:1:19: defaults.panic: is .nan, want a number`},
		{"defaults: {panic: .inf}", `m.yaml:1:19: defaults.panic: is .inf, want a number`},
		{"defaults: {panic: 1e999}", `m.yaml:1:19: defaults.panic: is "1e999", want a number`},
		{"defaults: {criticality: high}", `m.yaml:1:25: defaults.criticality: is "high", want sheddable, sheddable-plus, critical or critical-plus`},
		{"defaults: {hash: [{path: yes}]}", `m.yaml:1:26: defaults.hash[0].path: is "yes", want true or false`},
		{"defaults: {hash: {path: true}}", `m.yaml:1:18: defaults.hash: is a mapping, want a list`},
		{"defaults: {select: {match: {version: 1.10}}}", `m.yaml:1:38: defaults.select.match.version: is 1.10, want text: write "1.10"`},
		{"defaults: {select: {match: {version: }}}", `m.yaml:1:38: defaults.select.match.version: is empty, want text ("" if there is none)`},
		{"defaults: {select: {match: {1: a}}}", `m.yaml:1:29: defaults.select.match: has a key that is 1, want text: write "1"`},
		{"defaults: {select: {match: {[a]: a}}}", `m.yaml:1:29: defaults.select.match: has a key that is a list, want text`},
		{"defaults: {timeout: 1d}", `m.yaml:1:21: defaults.timeout: is "1d", want a duration such as 250ms; the largest unit is h`},
		{"defaults: {retry: off}", `m.yaml:1:19: defaults.retry: is "off", want fields, such as {mode: off}`},
		{"defaults: {breaker: true}", `m.yaml:1:21: defaults.breaker: is true, want fields, such as {mode: on}`},
		{"defaults:\n  timeout: ${T:-2s}", "m.yaml:2:12: defaults.timeout: is \"${T:-2s}\", want a duration such as 250ms; ${...} stands for itself here"},
		{"routes: [{match: {path: /v2}}]", `m.yaml:1:25: routes[0].match.path: is "/v2", want fields (exact, prefix, regex)`},
		{"routes: [{match: {method: [GET]}}]", `m.yaml:1:27: routes[0].match.method: is a list, want text`},
		{"routes: [{match: {headers: {A: b}}}]", `m.yaml:1:28: routes[0].match.headers: is a mapping, want a list of fields (`},
		{"routes: [{backends: [{name: a}]}]", `m.yaml:1:23: routes[0].backends[0].name: unknown field, did you mean "routes[0].name"? Here are credentials, headers, select, service, weight`},
		{"apiVersion: v1\nkind: ConfigMap", `m.yaml:1:1: apiVersion: unknown field: for objects of Kubernetes there is zerohop import`},
		{"services: {a: {}, b: {}, a: {}}", `m.yaml:1:26: services.a: is there twice, first in line 1`},
		{"services: {\"a\\nb\": {x: 1}}", `m.yaml:1:21: services."a\nb".x: unknown field`},
		{"routes: [null]", `m.yaml:1:10: routes[0]: is empty, want fields`},
		{"routes: [{backends: [{weight: -1}]}]", `m.yaml:1:31: routes[0].backends[0].weight: is -1, want a whole number from 0 to 4294967295`},
		{"routes: [{match: {after: 2026-01-02}}]", `m.yaml:1:26: routes[0].match.after: is "2026-01-02", want a time such as 2006-01-02T15:04:05Z`},
		{"routes: [{match: {after: 12}}]", `m.yaml:1:26: routes[0].match.after: is 12, want a time such as 2006-01-02T15:04:05Z`},
		{"- a", `m.yaml:1:1: is a list, want fields`},
		{"3", `m.yaml:1:1: is 3, want fields`},
		{"a: &x 1", `m.yaml:1:4: anchors are not supported`},
		{"a: *x", `m.yaml: unknown anchor 'x' referenced`},
		{"services:\n  a: &x {}\n  b: *x", `m.yaml:2:6: anchors are not supported`},
		{"services:\n  a: {<<: {}}", `m.yaml:2:7: merge keys are not supported`},
		{"defaults: !!map {}", `m.yaml:1:11: tags such as !!map are not supported`},
		{"defaults: {timeout: !duration 2s}", `m.yaml:1:21: tags such as !duration are not supported`},
		{"a: 1\n---\nb: 1", `m.yaml:2:1: a second document begins here, only one is allowed`},
		{"defaults: {timeout: \xff}", `m.yaml: must be UTF-8, which 1 bytes are not`},
		{"\xff\xfed\x00:\x00", `m.yaml: is UTF-16, want UTF-8`},
		{"defaults:\n\ttimeout: 2s", `m.yaml:2: a tab in front of text`},
		{"\tdefaults: {}", `m.yaml:1: a tab in front of text`},
		{"defaults:\n  timeout: 1s\n   \n\t\n \tretry: {attempts: 2}", `m.yaml:5: a tab in front of text`},
		{"defaults:\n timeout: 1s\n\x01: 3", `m.yaml:3: control characters are not allowed`},
		{"defaults: {timeout: ${T}}", `m.yaml:1: did not find expected ',' or '}'`},
		{"defaults:\n  retry: {attempts: ${T}}\n", `m.yaml:2: did not find expected ',' or '}'`},
		{"a: [", `m.yaml:1: did not find expected node content`},
		{strings.Repeat("[", 100_000), `m.yaml: exceeded max depth of 10000`},
		{strings.Repeat("[", 66) + strings.Repeat("]", 66), `m.yaml:1:66: values are nested more than 64 deep`},
	} {
		spec, err := Parse([]byte(test.text), ParseOptions{Name: "m.yaml"})
		if err == nil || !strings.HasPrefix(err.Error(), test.want) || !reflect.DeepEqual(spec, zerohop.Spec{}) {
			t.Errorf("Parse(%.80q) = %v\nwant   %v", test.text, err, test.want)
		}
	}
}

func TestParseRefusesJSON(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"{\n  \"defaults\": {\"timeout\": 250000000}}", `m.json:2:27: defaults.timeout: is 250000000, want a duration with its unit`},
		{`{"defaults": {"retry": {"atempts": 1}}}`, `m.json:1:25: defaults.retry.atempts: unknown field, did you mean "attempts"?`},
		{`{"defaults": {}, "defaults": {}}`, `m.json:1:18: defaults: is there twice, first in line 1`},
		{`{"defaults": {"retry": {"attempts": 1e0}}}`, `m.json:1:37: defaults.retry.attempts: is 1e0, want a whole number`},
		{`{"defaults": {"retry": {"attempts": 99999999999999999999}}}`, `m.json:1:37: defaults.retry.attempts: is 99999999999999999999, want a whole number`},
		{"{\n\"defaults\": nil}", `m.json:2:13: invalid character 'i' in literal null (expecting 'u')`},
		{`{"defaults": {}`, `m.json:1:16: unexpected EOF`},
		{`{} {}`, `m.json:1:5: there is more than one value`},
		{``, `m.json:1:1: unexpected EOF`},
		{strings.Repeat("[", 4_000_00), `m.json:1:66: values are nested more than 64 deep`},
	} {
		_, err := Parse([]byte(test.text), ParseOptions{Name: "m.json"})
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("Parse(%.80q) = %v\nwant   %v", test.text, err, test.want)
		}
	}
}

func TestParseTellsAllMistakesAtOnce(t *testing.T) {
	_, err := Parse([]byte("defaults: {timeout: 1, retri: {}}\nservice: {}\n"), ParseOptions{Name: "m.yaml"})
	want := `m.yaml:1:21: defaults.timeout: is 1, want a duration with its unit, such as 1ms or 1s
m.yaml:1:24: defaults.retri: unknown field, did you mean "retry"?
m.yaml:2:1: service: unknown field, did you mean "services"?`
	if fmt.Sprint(err) != want {
		t.Errorf("Parse() = %v\nwant %s", err, want)
	}

	_, err = Parse([]byte("routes: ["+strings.Repeat("1,", 60)+"]"), ParseOptions{})
	if got, want := strings.Count(fmt.Sprint(err), "\n"), maxMistakes; got != want || !strings.HasSuffix(fmt.Sprint(err), "\nand 10 mistakes more") {
		t.Errorf("Parse() of 60 mistakes = %d lines, %v", got+1, err)
	}
}

func TestParseOfTooMuch(t *testing.T) {
	for _, test := range []struct {
		text string
		want string
	}{
		{"#" + strings.Repeat("x", maxSize), "4194305 bytes, at most 4194304 are allowed"},
		{"[" + strings.Repeat("a,", maxValues) + "]", "more than 400000 values"},
		{"routes: [" + strings.Repeat("a,", maxItems+1) + "]", "1:9: routes: has 10001 items, at most 10000 are allowed"},
		{strings.Repeat("- ", maxValues+1), "more than 400000 values"},
		{strings.Repeat("a:\n", maxValues+1), "more than 400000 values"},
	} {
		_, err := Parse([]byte(test.text), ParseOptions{})
		if fmt.Sprint(err) != test.want {
			t.Errorf("Parse(%.20q) = %.100v, want %s", test.text, err, test.want)
		}
	}
	if _, err := Parse([]byte(strings.Repeat(" ", maxSize-2)+"{}"), ParseOptions{}); err != nil { // JSON, which is read fast
		t.Errorf("Parse() of 4 MiB = %v", err)
	}
}

func TestParseTellsWhereValidateFindsMistakes(t *testing.T) {
	text := `
defaults:
  retry:
    attempts: 9
services:
  api.example.com:
    backup: {mode: maybe}
  a.healthCheck: {timeout: -1s}
  a:
    healthCheck: {timeout: -1s}
routes:
- match:
    path:
      prefix: v2
  policy: none
`
	_, err := Parse([]byte(text), ParseOptions{Name: "m.yaml"})
	got := fmt.Sprint(err)
	for _, want := range []string{
		"m.yaml:4:5: defaults.retry.attempts: must be between 1 and 5, got 9",
		`m.yaml:7:14: services.api.example.com.backup.mode: must be "on" or "off", got "maybe"`,
		"m.yaml: services.a.healthCheck.timeout: ",
		" (in line 8 or 10)",
		`m.yaml:14:7: routes[0].match.path.prefix: must start with "/"`,
		`m.yaml:15:3: routes[0].policy: there is no policy "none"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("Parse() = %v\nwant %s", got, want)
		}
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Line != 4 || e.Column != 5 || e.Path != "defaults.retry.attempts" || e.Name != "m.yaml" {
		t.Errorf("first error is %#v", e)
	}
}

func TestExpansion(t *testing.T) {
	vars := map[string]string{"N": "2", "T": "250ms", "EMPTY": "", "HOSTILE": "a}\nretry: {attempts: 9}\nx: ${N}"}
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	text := `
services:
  ${N}:
    timeout: ${T}
    readTimeout: "${NONE:-1s}"
    connect: {serverName: "a-${N}-${EMPTY}-${EMPTY:-b}.$$.$x.$${N}"}
    retry: {attempts: "${N}"}
    select: {match: {version: "${N}", hostile: "${HOSTILE}"}}
`
	d, err := Read([]byte(text), ParseOptions{Expand: lookup})
	if err != nil {
		t.Fatal(err)
	}
	want := zerohop.Spec{Services: map[string]zerohop.Policy{"${N}": {
		Timeout: 250 * time.Millisecond, ReadTimeout: time.Second, Connect: zerohop.Connect{ServerName: "a-2--b.$.$x.${N}"},
		Retry:  zerohop.Retry{Attempts: 2},
		Select: zerohop.Select{Match: map[string]string{"version": "2", "hostile": vars["HOSTILE"]}},
	}}}
	if diff := cmp.Diff(d.Spec, want); diff != "" {
		t.Errorf("got - want +\n%s", diff)
	}

	for _, test := range []struct{ text, want string }{
		{"defaults:\n  balance: ${NONE}", "2:12: defaults.balance: the variable NONE is not set"},
		{"defaults: {balance: '${N'}", "1:21: defaults.balance: ${N is no variable: want ${NAME} or ${NAME:-text}, and $$ for a dollar sign"},
		{"defaults: {balance: '${1}'}", "1:21: defaults.balance: ${1} is no variable"},
		{"defaults: {balance: '${}'}", "1:21: defaults.balance: ${} is no variable"},
		{"defaults: {retry: {attempts: '${T}'}}", `1:30: defaults.retry.attempts: is "250ms", want a whole number`},
		{"defaults: {retry: {attempts: '${EMPTY}'}}", `1:30: defaults.retry.attempts: is "", want a whole number`},
		{"defaults: {timeout: '${N}'}", `1:21: defaults.timeout: is "2", want a duration with its unit`},
	} {
		if _, err := Parse([]byte(test.text), ParseOptions{Expand: lookup}); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("Parse(%q) = %v\nwant %s", test.text, err, test.want)
		}
	}
	if d, err := Read([]byte("defaults: {balance: '${N}$$'}"), ParseOptions{}); err != nil || d.Spec.Defaults.Balance != "${N}$$" {
		t.Errorf("Read() without Expand = %v, %v", d, err)
	}

	vars["BIG"] = strings.Repeat("x", 1<<20)
	_, err = Parse([]byte("defaults: {balance: '"+strings.Repeat("${BIG}", 5)+"'}"), ParseOptions{Expand: lookup})
	if want := "1:21: defaults.balance: the values of variables have more than 4194304 bytes in all"; fmt.Sprint(err) != want {
		t.Errorf("Parse() = %.200v, want %s", err, want)
	}
}

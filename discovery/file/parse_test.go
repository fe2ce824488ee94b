package file

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zerohop/zerohop/discovery"
)

const exampleYAML = `# who serves what
services:
  Orders:
  - 10.0.0.1:8080
  - "[2001:db8::1]:8080"
  - addr: orders-2.example.com:8080
    weight: 3
    zone: eu-1
    priority: 1
    health: draining
    meta: {version: 2, "track": blue}
  invoices: []
`

const exampleJSON = `{
	"services": {
		"Orders": [
			"10.0.0.1:8080",
			"[2001:db8::1]:8080",
			{"addr": "orders-2.example.com:8080", "weight": 3, "zone": "eu-1", "priority": 1, "health": "draining",
				"meta": {"version": 2, "track": "bl\u0075e"}}
		],
		"invoices": []
	}
}`

var example = map[string][]discovery.Endpoint{
	"orders": {
		{Addr: "10.0.0.1:8080"},
		{Addr: "[2001:db8::1]:8080"},
		{
			Addr: "orders-2.example.com:8080", Weight: 3, Zone: "eu-1", Priority: 1, Health: discovery.Draining,
			Meta: map[string]string{"version": "2", "track": "blue"},
		},
	},
	"invoices": {},
}

func TestParse(t *testing.T) {
	for name, data := range map[string]string{
		"e.yaml": exampleYAML, "e.yml": exampleYAML, "endpoints": exampleYAML,
		"e.json": exampleJSON, "other": "\ufeff" + exampleJSON,
	} {
		got, err := parse(name, []byte(data))
		if err != nil {
			t.Errorf("parse(%s) = %v", name, err)
		}
		if diff := cmp.Diff(example, got); diff != "" {
			t.Errorf("parse(%s) (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseRejects(t *testing.T) {
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for name, tt := range map[string]struct{ data, want string }{
		"nothing":          {" \n", "f: the file is empty"},
		"comments":         {"# nothing\n", "f: there is nothing in the file but comments"},
		"two documents":    {"services: {}\n---\nservices: {}\n", "f: there is more than one document in the file"},
		"another document": {"services: {}\n---\n{", "f: yaml: line 3: did not find expected node content"},
		"a list":           {"- a:1\n", "f:1: is a list, want fields"},
		"null":             {"services:\n", "f:1: services is empty, want fields"},
		"null service":     {"services:\n  a:\n", "f:2: services.a is empty, want a list of endpoints"},
		"unknown field":    {"service: {}\n", "f:1: has the unknown field \"service\", want services\nf:1: services is missing"},
		"syntax":           {"services:\n  a: [\n", "f: yaml: line 2: did not find expected node content"},
		"twice":            {"services:\n  a: []\n  a: []\n", `f:3: services has "a" twice, first in line 2`},
		"twice but case":   {"services:\n  a: []\n  A: []\n", "f:3: services.A is there twice, as the case of names does not matter"},
		"empty name":       {"services:\n  '': []\n", `f:2: services."" has a name that is empty, too long or not printable`},
		"hostile name":     {`services: {"a\nb": []}`, `f:1: services."a\nb" has a name that is empty, too long or not printable`},
		"one, not a list":  {"services: {a: b:1}", `f:1: services.a is "b:1", want a list of endpoints`},
		"unquoted IPv6":    {"services:\n  a:\n  - [::1]:80\n", "f: yaml: line 2: did not find expected node content"},
		"no port":          {"services: {a: [b]}", `f:1: services.a[0] is "b", want "host:port"`},
		"port 0":           {"services: {a: ['b:0']}", `f:1: services.a[0] is "b:0", whose port is not in 1..65535`},
		"named port":       {"services: {a: ['b:http']}", `f:1: services.a[0] is "b:http", whose port is not in 1..65535`},
		"URL":              {"services: {a: ['http://b:80']}", `f:1: services.a[0] is "http://b:80", want "host:port"`},
		"number":           {"services: {a: [8080]}", `f:1: services.a[0] is "8080", want "host:port"`},
		"null endpoint":    {"services: {a: [null]}", `f:1: services.a[0] is empty, want "host:port"`},
		"no addr":          {"services:\n  a:\n  - weight: 1\n", "f:3: services.a[0].addr is missing"},
		"same addr":        {"services:\n  a:\n  - b:1\n  - addr: b:1\n", "f:4: services.a[1] has the address b:1 of line 3"},
		"unknown in one":   {"services:\n  a:\n  - addr: b:1\n    wieght: 1\n", `f:4: services.a[0] has the unknown field "wieght"`},
		"weight 0":         {"services: {a: [{addr: 'b:1', weight: 0}]}", `f:1: services.a[0].weight is "0", want 1 to 1000000 (health: draining takes an endpoint out)`},
		"negative weight":  {"services: {a: [{addr: 'b:1', weight: -1}]}", `f:1: services.a[0].weight is "-1", want 1 to 1000000`},
		"huge weight":      {"services: {a: [{addr: 'b:1', weight: 1e9}]}", `f:1: services.a[0].weight is "1e9", want 1 to 1000000`},
		"octal weight":     {"services: {a: [{addr: 'b:1', weight: 010}]}", `f:1: services.a[0].weight is "010", want 1 to 1000000`},
		"weight as text":   {"services: {a: [{addr: 'b:1', weight: '1'}]}", `f:1: services.a[0].weight is "1", want 1 to 1000000`},
		"null weight":      {"services: {a: [{addr: 'b:1', weight: }]}", `f:1: services.a[0].weight is empty, want 1 to 1000000`},
		"priority":         {"services: {a: [{addr: 'b:1', priority: 256}]}", `f:1: services.a[0].priority is "256", want 0 to 255`},
		"health":           {"services: {a: [{addr: 'b:1', health: ok}]}", `f:1: services.a[0].health is "ok", want healthy, draining, unhealthy or terminating`},
		"zone":             {"services: {a: [{addr: 'b:1', zone: [x]}]}", `f:1: services.a[0].zone is a list, want text`},
		"meta":             {"services: {a: [{addr: 'b:1', meta: {x: }}]}", `f:1: services.a[0].meta.x is empty, want text`},
		"long meta":        {"services: {a: [{addr: 'b:1', meta: {x: " + strings.Repeat("x", 257) + "}}]}", `f:1: services.a[0].meta.x is longer than 256 bytes or not printable`},
		"much meta":        {"services: {a: [{addr: 'b:1', meta: {" + many(65, "a%d: b, ") + "}}]}", `f:1: services.a[0].meta has 65 keys, more than 64`},
		"alias":            {"services:\n  a: &a [b:1]\n  c: *a\n", "f:3: services.c is an alias, want a list of endpoints"},
		"merge":            {"services:\n  a:\n  - &a {addr: 'b:1'}\n  - <<: *a\n", `f:4: services.a[1] has the unknown field "<<"`},
		"many endpoints":   {"services:\n  a: [" + many(10_001, "'b:%d', ") + "]\n", "f:2: services.a has 10001 endpoints, more than 10000"},
		"many mistakes": {
			"services:\n" + many(12, "  a%d:\n"), many(10, "f:%[1]d: services.a%[1]d is empty, want a list of endpoints\n") + "f: and 2 mistakes more",
		},
		"JSON":              {"{\n\"services\": {\n\"a\": [\"b:1\",]}}", "f: line 3: invalid character ']' looking for beginning of value"},
		"cut JSON":          {"{\"services\": {\n", "f: line 1: unexpected EOF"},
		"two JSON values":   {"{\"services\": {}}\n{}", "f: line 2: there is more in the file than one value"},
		"JSON twice":        {"{\"services\": {\"a\": [],\n\"a\": []}}", `f:2: services has "a" twice, first in line 1`},
		"JSON lines":        {"{\"services\": {\n\"a\": [\n\"b:1\",\n{\"addr\": \"b:2\",\n\"weight\": 1.5}]}}", `f:5: services.a[1].weight is "1.5", want 1 to 1000000`},
		"deep JSON":         {`{"services": ` + strings.Repeat("[", 1<<20), "f: line 1: values are nested more than 64 deep"},
		"deep YAML":         {"services: " + strings.Repeat("[", 1<<20), "f: yaml: exceeded max depth of 10000"},
		"deep block YAML":   {"services:\n  " + strings.Repeat("- ", 1<<20), "f: yaml: line 2: exceeded max depth of 10000"},
		"JSON of null":      {`{"services": null}`, "f:1: services is empty, want fields"},
		"mistake and alias": {"services:\n  a: [x, *y]\n", "f: yaml: unknown anchor 'y' referenced"},
	} {
		t.Run(name, func(t *testing.T) {
			want := tt.want
			if name == "many mistakes" {
				want = ""
				for i := range 10 {
					want += fmt.Sprintf("f:%d: services.a%d is empty, want a list of endpoints\n", i+2, i)
				}
				want += "f: and 2 mistakes more"
			}
			got, err := parse("f", []byte(tt.data))
			if err == nil || err.Error() != want {
				t.Errorf("parse() = %v, %v, want %s", got, err, want)
			}
		})
	}
}

// Expanding what this file says would take a petabyte.
func TestParseDoesNotExpandAliases(t *testing.T) {
	var b strings.Builder
	b.WriteString("services:\n  a: &a0 [b:1, b:2, b:3]\n")
	for i := range 30 {
		fmt.Fprintf(&b, "  b%d: &a%d [*a%d, *a%d, *a%d]\n", i, i+1, i, i, i)
	}
	if got, err := parse("f", []byte(b.String())); err == nil {
		t.Errorf("parse() = %d services, want an error", len(got))
	}
}

// large returns a file with n endpoints of one service.
func large(n int, yaml bool) []byte {
	var b bytes.Buffer
	if yaml {
		b.WriteString("services:\n  orders:\n")
		for i := range n {
			fmt.Fprintf(&b, "  - {addr: '10.%d.%d.%d:8080', weight: 3, zone: eu-1}\n", i>>16, i>>8&255, i&255)
		}
		return b.Bytes()
	}
	type endpoint struct {
		Addr   string `json:"addr"`
		Weight int    `json:"weight"`
		Zone   string `json:"zone"`
	}
	var list []endpoint
	for i := range n {
		list = append(list, endpoint{fmt.Sprintf("10.%d.%d.%d:8080", i>>16, i>>8&255, i&255), 3, "eu-1"})
	}
	_ = json.NewEncoder(&b).Encode(map[string]any{"services": map[string]any{"orders": list}})
	return b.Bytes()
}

func BenchmarkParse(b *testing.B) {
	var short strings.Builder // of the form that most files have
	short.WriteString("services:\n  orders:\n")
	for i := range 10_000 {
		fmt.Fprintf(&short, "  - 10.0.%d.%d:8080\n", i>>8, i&255)
	}
	for name, data := range map[string][]byte{
		"short.yaml": []byte(short.String()), "fields.yaml": large(10_000, true), "fields.json": large(10_000, false),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				services, err := parse(name, data)
				if err != nil || len(services["orders"]) != 10_000 {
					b.Fatalf("%d endpoints, %v", len(services["orders"]), err)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(exampleYAML), true)
	f.Add([]byte(exampleJSON), false)
	f.Add([]byte("services: {a: [&a b:1, *a]}"), true)
	f.Fuzz(func(t *testing.T, data []byte, yaml bool) {
		name := "f.json"
		if yaml {
			name = "f.yaml"
		}
		services, err := parse(name, data)
		if err != nil {
			if services != nil {
				t.Errorf("parse() = %v and %v, want one of them", services, err)
			}
			return
		}
		for service, set := range services {
			if service == "" || len(set) > maxEndpoints {
				t.Errorf("service %q has %d endpoints", service, len(set))
			}
			seen := map[string]bool{}
			for _, ep := range set {
				if ep.Addr == "" || seen[ep.Addr] || ep.Weight > maxWeight || len(ep.Meta) > maxMetaKeys || !printable(ep.Zone) {
					t.Errorf("endpoint %+v of %q", ep, service)
				}
				seen[ep.Addr] = true
			}
		}
	})
}

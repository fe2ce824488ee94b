package importing

import (
	"fmt"
	"strings"
	"testing"
)

func TestDocumentsTakeListsApart(t *testing.T) {
	docs, err := Documents([]byte(`
# nothing
---
{"apiVersion": "v1", "kind": "One", "metadata": {"name": "a", "creationTimestamp": "2024-01-02T03:04:05Z"}}
---
apiVersion: v2
kind: TwoList
items:
- metadata: {name: b, namespace: shop}
  spec: {rules: [{x: 1}, {y: 2}]}
---
apiVersion: v1
kind: List
items: [{kind: Three, apiVersion: v3, metadata: {name: c}}]
`), Options{Namespace: "home"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range docs {
		got = append(got, fmt.Sprintf("%d %s %s", d.Line, d.APIVersion, d.Object))
	}
	if got, want := strings.Join(got, "; "), "4 v1 One home/a; 9 v2 Two shop/b; 14 v3 Three home/c"; got != want {
		t.Errorf("documents %q, want %q", got, want)
	}
	if docs[0].Created.Year() != 2024 {
		t.Errorf("created %v", docs[0].Created)
	}
	for path, want := range map[string]int{"spec.rules[1].y": 10, "spec.none": 10, "none": 9, "metadata.name": 9} {
		if got := docs[1].LineOf(path); got != want {
			t.Errorf("LineOf(%q) = %d, want %d", path, got, want)
		}
	}
}

func TestDocumentsRefuse(t *testing.T) {
	for text, want := range map[string]string{
		"- a":                               "x.yaml:1: is not an object",
		"a: 1\na: 2":                        "already defined",
		"{":                                 "x.yaml: yaml",
		"kind: AList\nitems: 3":             "x.yaml:1: items: is not a list of objects",
		"{1: a, 1.0: b}":                    `"1" is there twice`,
		strings.Repeat("#", maxBytes+1):     "at most",
		"a: &a [1]\n---\nb: .nan":           "unsupported value",
		"kind: List\nitems: [3, {kind: A}]": "is not an object",
	} {
		if _, err := Documents([]byte(text), Options{Name: "x.yaml"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Documents(%.30q) = %v, want %q", text, err, want)
		}
	}
}

func TestRestReportsWhatWasNotTaken(t *testing.T) {
	type inner struct {
		Taken string  `json:"taken"`
		Left  string  `json:"left"`
		Whole []int   `json:"whole"`
		Deep  *string `json:"deep"`
	}
	type outer struct {
		List []inner           `json:"list"`
		Map  map[string]string `json:"map"`
		Skip string            `json:"-"`
	}
	v := outer{List: []inner{{}, {Taken: "a", Left: "b", Whole: []int{1, 2}, Deep: new(string)}}, Map: map[string]string{"k": "v"}, Skip: "x"}
	*v.List[1].Deep = "d"
	m := NewImporter(Options{})
	m.Begin(&Document{})
	if got := Take(&v.List[1].Taken); got != "a" || v.List[1].Taken != "" {
		t.Errorf("Take returned %q and left %q", got, v.List[1].Taken)
	}
	m.Rest(v, "spec", Why{"spec.list[].whole": {Refused, "why"}})
	report, err := m.Finish()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range report.Losses {
		got = append(got, l.Path+" "+string(l.Severity))
	}
	want := "spec.list[1].deep ignored; spec.list[1].left ignored; spec.list[1].whole refused; spec.map.k ignored"
	if got := strings.Join(got, "; "); got != want {
		t.Errorf("losses %q, want %q", got, want)
	}
}

func TestServicesHaveNamesThatAreResolved(t *testing.T) {
	m := NewImporter(Options{Namespace: "shop", Gateways: map[string]string{"edge/a": "a.example.com", "b": "*", "*": "other"}})
	m.Begin(&Document{})
	for host, want := range map[string]string{
		"Orders": "orders", "orders.shop.svc": "orders", "orders.bank.svc.cluster.local.": "orders.bank", "a.example.com": "a.example.com", "a.b": "a.b",
	} {
		if got := m.Service(HostRef(host, "shop", false), 80); got != want {
			t.Errorf("%s is %q, want %q", host, got, want)
		}
	}
	m.Service(Ref{Namespace: "shop", Name: "orders"}, 443)
	if got, want := HostRef("orders.bank", "shop", true), (Ref{Namespace: "bank", Name: "orders"}); got != want {
		t.Errorf("HostRef = %v, want %v", got, want)
	}
	for name, want := range map[[2]string]string{{"edge", "a"}: "a.example.com", {"x", "b"}: "*", {"x", "a"}: "other"} {
		if got, ok := m.Gateway(name[0], name[1]); got != want || !ok {
			t.Errorf("Gateway(%v) = %q, %v, want %q", name, got, ok, want)
		}
	}
	report, err := m.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Losses) != 1 || !strings.Contains(report.Losses[0].Note, "[80 443]") {
		t.Errorf("losses %v, want one of the ports of orders", report.Losses)
	}
}

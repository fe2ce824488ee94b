package vet

import (
	"bytes"
	"encoding/json"
	"net/url"
	"path/filepath"
	"regexp"
	"testing"
)

// What sarif-schema-2.1.0.json asks for, of the parts that are written: required properties, the values of enumerations, least
// values, and that indices are those of rules.
func TestSARIFKeepsToItsSchema(t *testing.T) {
	name, err := filepath.Abs("a b.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = WriteSARIF(&out, "v1.2.3", []Finding{
		{ID: budgetOff, Severity: Warning, Document: "dir/spec.yaml", Line: 3, Column: 5, Path: "defaults.budget.mode", Message: "off"},
		{ID: faultLeftOn, Severity: Error, Document: name, Path: "routes[0].fault", Message: "on"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var log map[string]any
	if err := json.Unmarshal(out.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	if log["version"] != "2.1.0" || log["$schema"] == "" {
		t.Errorf("version %v, schema %v", log["version"], log["$schema"])
	}
	run := log["runs"].([]any)[0].(map[string]any)
	driver := run["tool"].(map[string]any)["driver"].(map[string]any)
	if driver["name"] == "" || run["columnKind"] != "unicodeCodePoints" {
		t.Errorf("driver %v, columnKind %v", driver["name"], run["columnKind"])
	}
	levels := map[any]bool{"none": true, "note": true, "warning": true, "error": true}
	rules := driver["rules"].([]any)
	if len(rules) != len(Checks()) {
		t.Fatalf("%d rules, want %d", len(rules), len(Checks()))
	}
	ids := map[any]bool{}
	for _, r := range rules {
		r := r.(map[string]any)
		if ids[r["id"]] {
			t.Errorf("two rules have the id %v", r["id"])
		}
		ids[r["id"]] = true
		for _, field := range []string{"shortDescription", "fullDescription", "help"} {
			if text, _ := r[field].(map[string]any)["text"].(string); text == "" {
				t.Errorf("rule %v has no %s.text", r["id"], field)
			}
		}
		if u, err := url.Parse(r["helpUri"].(string)); err != nil || !u.IsAbs() {
			t.Errorf("helpUri of %v = %v", r["id"], r["helpUri"])
		}
		if !levels[r["defaultConfiguration"].(map[string]any)["level"]] {
			t.Errorf("level of %v = %v", r["id"], r["defaultConfiguration"])
		}
	}
	for i, r := range run["results"].([]any) {
		r := r.(map[string]any)
		index := int(r["ruleIndex"].(float64))
		if rules[index].(map[string]any)["id"] != r["ruleId"] {
			t.Errorf("result %d: ruleIndex %d is not that of %v", i, index, r["ruleId"])
		}
		if text, _ := r["message"].(map[string]any)["text"].(string); text == "" || !levels[r["level"]] {
			t.Errorf("result %d: text %q, level %v", i, text, r["level"])
		}
		at := r["locations"].([]any)[0].(map[string]any)["physicalLocation"].(map[string]any)
		uri := at["artifactLocation"].(map[string]any)["uri"].(string)
		if u, err := url.Parse(uri); err != nil || u.IsAbs() != (i == 1) {
			t.Errorf("result %d: uri %q, %v", i, uri, err)
		}
		region, ok := at["region"].(map[string]any)
		if ok != (i == 0) || ok && (region["startLine"].(float64) < 1 || region["startColumn"].(float64) < 1) {
			t.Errorf("result %d: region %v", i, region)
		}
	}
}

func TestChecksAreDescribed(t *testing.T) {
	id := regexp.MustCompile(`^[a-z]+(-[a-z]+)+$`)
	seen := map[string]bool{}
	for _, c := range Checks() {
		if !id.MatchString(c.ID) || seen[c.ID] || c.Severity.rank() < 0 || c.Summary == "" || c.Why == "" || c.Do == "" {
			t.Errorf("check %+v", c)
		}
		seen[c.ID] = true
	}
}

package config

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"github.com/zerohop/zerohop"
)

func FuzzParse(f *testing.F) {
	for _, text := range documents(f) {
		f.Add([]byte(text), false)
	}
	for _, text := range []string{
		"", "null", "a: &a [*a]", "<<: {a: b}", "!!binary aGk=", "defaults: {timeout: ${A:-1s}}", "---\n---\n", "services: {a: ~, ~: a, 1: {}}", "? [a]\n: b",
		"\ufeff{}", "{\"\\ud800\": 1}", "routes: [null, {response: }, {match: {percent: 1e400}}]", "- - - -", "a:\n\t- b", "defaults: {hash: [{path: true}, null]}",
	} {
		f.Add([]byte(text), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, expand bool) {
		opts := ParseOptions{Name: "fuzz.yaml"}
		if expand {
			opts.Expand = func(name string) (string, bool) { return name, name != "NONE" }
		}
		spec, err := Parse(data, opts)
		if err != nil {
			if !reflect.DeepEqual(spec, zerohop.Spec{}) {
				t.Fatalf("a Spec beside the error %v", err)
			}
			return
		}
		if err := spec.Validate(); err != nil {
			t.Fatalf("a Spec that is not valid: %v", err)
		}
		text, err := Marshal(spec)
		if err != nil {
			t.Fatalf("Marshal() = %v", err)
		}
		again, err := Parse(text, ParseOptions{})
		if err != nil {
			t.Fatalf("Parse(Marshal()) = %v\n%s", err, text)
		}
		if diff := cmp.Diff(again, spec, cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(0)); diff != "" {
			t.Fatalf("got - want +\n%s", diff)
		}
	})
}

// A null, and a mapping without fields, in the place of each value of a document: it is accepted or refused, and what is
// accepted is valid.
func TestParseSurvivesNullEverywhere(t *testing.T) {
	accepted := 0
	for name, text := range documents(t) {
		root, err := tree(name, []byte(text))
		if err != nil || root == nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range all(root) {
			for _, instead := range []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, {Kind: yaml.MappingNode}, {Kind: yaml.SequenceNode}} {
				changed := clone(root)
				*all(changed)[i] = *instead
				document, err := yaml.Marshal(changed)
				if err != nil {
					t.Fatal(err)
				}
				spec, err := Parse(document, ParseOptions{Name: name})
				if err != nil {
					continue
				}
				accepted++
				if err := spec.Validate(); err != nil {
					t.Errorf("value %d of %s as %v: %v\n%s", i, name, instead.Kind, err, document)
				}
			}
		}
	}
	if accepted < 100 {
		t.Errorf("only %d documents were accepted", accepted)
	}
}

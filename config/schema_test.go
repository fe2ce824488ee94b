package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write what is generated")

func TestSchemaIsAsGenerated(t *testing.T) {
	got := generate(t)
	if *update {
		if err := os.WriteFile("schema.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(got, Schema()) {
		t.Errorf("schema.json is not what the types make of it: run go generate ./config")
	}
}

// compiled returns the schema, which it checks against that of schemas.
func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("schema.json", s); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// plain returns a value of a document as JSON has it.
func plain(n *yaml.Node) any {
	switch {
	case n.Kind == yaml.MappingNode:
		m := object{}
		for i := 0; i < len(n.Content); i += 2 {
			m[n.Content[i].Value] = plain(n.Content[i+1])
		}
		return m
	case n.Kind == yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = plain(item)
		}
		return list
	case null(n):
		return nil
	case textual(n):
		return n.Value
	case n.ShortTag() == "!!bool":
		return n.Value == "true"
	}
	return json.Number(n.Value)
}

// all returns all values in a document but keys, with those that hold others first.
func all(n *yaml.Node) []*yaml.Node {
	list := []*yaml.Node{n}
	for i, child := range n.Content {
		if n.Kind == yaml.SequenceNode || i%2 == 1 {
			list = append(list, all(child)...)
		}
	}
	return list
}

func clone(n *yaml.Node) *yaml.Node {
	c := *n
	c.Content = nil
	for _, child := range n.Content {
		c.Content = append(c.Content, clone(child))
	}
	return &c
}

func TestSchemaKnowsWhatParseTakes(t *testing.T) {
	s := compiled(t)
	for name, text := range documents(t) {
		if _, err := Parse([]byte(text), ParseOptions{Name: name}); err != nil {
			t.Errorf("Parse() = %v", err)
			continue
		}
		root, err := tree(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if root == nil {
			continue
		}
		if err := s.Validate(plain(root)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// documents returns all documents that the repository shows, by name.
func documents(t testing.TB) map[string]string {
	list := map[string]string{"whole.yaml": wholeYAML, "whole.json": wholeJSON}
	for name, text := range snippets(t) {
		if !strings.Contains(text, "${") {
			list[name] = text
		}
	}
	for _, pattern := range []string{"../examples/*/*.yaml"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.Contains(name, "observability") { // those are for a Collector and for Prometheus
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			list[name] = string(text)
		}
	}
	return list
}

// Some hundred documents that are nearly right: what Parse accepts fits the schema, and fields that do not exist
// neither takes.
func TestSchemaAndParseAgree(t *testing.T) {
	const rounds = 300
	s := compiled(t)
	rng := rand.New(rand.NewPCG(3, 4))
	spices := []string{
		"null", "~", "1", "0", "-1", "2", "1.5", "1e3", "true", "false", "on", "off", "observe", "a", "'1'", "''", "250ms", "1h", "-1s", "1d", "any", "tcp",
		"2026-01-02T15:04:05Z", "2026-01-02", "[]", "{}", "[a]", "{a: b}", "[{}]", "[null]", "{mode: on}", "'${A}'", "99999999999", "fixed", "critical",
	}
	var sources []*yaml.Node
	var texts []string
	for name, text := range documents(t) {
		if root, err := tree(name, []byte(text)); err != nil {
			t.Fatal(err)
		} else if root != nil {
			sources, texts = append(sources, root), append(texts, name)
		}
	}
	if len(sources) < 2 {
		t.Fatal("no documents")
	}
	accepted, refused := 0, 0
	for round := range rounds {
		source := round % len(sources)
		root := clone(sources[source])
		unknown := ""
		for range 1 + rng.IntN(2) {
			nodes := all(root)
			n := nodes[rng.IntN(len(nodes))]
			switch rng.IntN(4) {
			case 0: // another value
				spice, err := yamlTree([]byte(spices[rng.IntN(len(spices))]))
				if err != nil {
					t.Fatal(err)
				}
				*n = *spice
			case 1: // a value from elsewhere
				*n = *clone(nodes[rng.IntN(len(nodes))])
			case 2: // a field less
				if n.Kind == yaml.MappingNode && len(n.Content) > 0 {
					i := 2 * rng.IntN(len(n.Content)/2)
					n.Content = append(n.Content[:i:i], n.Content[i+2:]...)
				}
			case 3: // a field that does not exist
				if n == root && len(n.Content) > 0 {
					unknown = fmt.Sprint("unknown", round)
					n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: unknown}, clone(nodes[len(nodes)-1]))
				}
			}
		}
		text, err := yaml.Marshal(root)
		if err != nil {
			t.Fatal(err)
		}
		again, err := tree("", text)
		if err != nil {
			continue // of those without a field
		}
		_, err = Parse(text, ParseOptions{})
		if again == nil {
			continue
		}
		fits := s.Validate(plain(again))
		switch {
		case err == nil && fits != nil:
			t.Fatalf("round %d of %s: Parse accepts what does not fit: %v\n%s", round, texts[source], fits, text)
		case err == nil:
			accepted++
		default:
			refused++
		}
		if unknown != "" && strings.Contains(string(text), unknown) && (err == nil || fits == nil) {
			t.Fatalf("round %d of %s: an unknown field is accepted: Parse %v, schema %v\n%s", round, texts[source], err, fits, text)
		}
	}
	if accepted < rounds/10 || refused < rounds/10 {
		t.Errorf("%d of %d documents were accepted, %d refused: they are no test", accepted, rounds, refused)
	}
	t.Logf("%d of %d documents accepted, %d refused", accepted, rounds, refused)
}

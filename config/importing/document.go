package importing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxBytes and maxObjects bound what an input can cost. A cluster keeps objects below 1.5 MiB.
const (
	maxBytes   = 4 << 20
	maxObjects = 10_000
)

// Document is an object of the input.
type Document struct {
	Object
	APIVersion string
	// Created is when the cluster got the object, zero if it does not say.
	Created time.Time
	// JSON is the object.
	JSON []byte
	node *yaml.Node
}

// Documents splits YAML or JSON into the objects in it. Lists are taken apart. Empty documents are left out.
func Documents(docs []byte, opts Options) ([]Document, error) {
	if len(docs) > maxBytes {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are allowed", opts.name(), len(docs), maxBytes)
	}
	dec := yaml.NewDecoder(bytes.NewReader(docs))
	var all []Document
	var errs []error
	for {
		var root yaml.Node
		if err := dec.Decode(&root); errors.Is(err, io.EOF) {
			break
		} else if err != nil { // the decoder cannot go on
			return nil, errors.Join(append(errs, fmt.Errorf("%s: %w", opts.name(), err))...)
		}
		if len(root.Content) == 0 || root.Content[0].Tag == "!!null" {
			continue
		}
		found, err := expand(root.Content[0], opts, 0)
		if err != nil {
			errs = append(errs, err)
		}
		if all = append(all, found...); len(all) > maxObjects {
			return nil, fmt.Errorf("%s: more than %d objects", opts.name(), maxObjects)
		}
	}
	return all, errors.Join(errs...)
}

func (o Options) name() string {
	if o.Name == "" {
		return "input"
	}
	return o.Name
}

// expand returns the object of a node, or those of the list that it is.
func expand(n *yaml.Node, opts Options, depth int) ([]Document, error) {
	fail := func(err error) error { return fmt.Errorf("%s:%d: %w", opts.name(), n.Line, err) }
	if n.Kind != yaml.MappingNode {
		return nil, fail(errors.New("is not an object"))
	}
	kind, version := text(n, "kind"), text(n, "apiVersion")
	if items := child(n, "items"); items != nil && strings.HasSuffix(kind, "List") {
		if items.Kind != yaml.SequenceNode || depth > 0 {
			return nil, fail(errors.New("items: is not a list of objects"))
		}
		var all []Document
		var errs []error
		for _, item := range items.Content {
			if item.Kind == yaml.MappingNode && child(item, "kind") == nil && kind != "List" { // as in the answer of an API server
				add(item, "kind", strings.TrimSuffix(kind, "List"))
				add(item, "apiVersion", version)
			}
			found, err := expand(item, opts, depth+1)
			errs = append(errs, err)
			all = append(all, found...)
		}
		return all, errors.Join(errs...)
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, fmt.Errorf("%s: %w", opts.name(), err)
	}
	v, err := plain(v)
	if err != nil {
		return nil, fail(err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fail(err)
	}
	d := Document{Object: Object{Kind: kind, Line: n.Line}, APIVersion: version, JSON: data, node: n}
	if meta := child(n, "metadata"); meta != nil {
		d.Name, d.Namespace = text(meta, "name"), text(meta, "namespace")
		d.Created, _ = time.Parse(time.RFC3339, text(meta, "creationTimestamp")) // the type of the object refuses others
	}
	if d.Namespace == "" {
		d.Namespace = opts.namespace()
	}
	return []Document{d}, nil
}

// plain returns v as JSON can have it.
func plain(v any) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			p, err := plain(v[k])
			if err != nil {
				return nil, err
			}
			v[k] = p
		}
	case map[any]any:
		m := make(map[string]any, len(v))
		for k, x := range v {
			p, err := plain(x)
			if err != nil {
				return nil, err
			}
			name := fmt.Sprint(k)
			if _, ok := m[name]; ok {
				return nil, fmt.Errorf("%q is there twice", name)
			}
			m[name] = p
		}
		return m, nil
	case []any:
		for i := range v {
			p, err := plain(v[i])
			if err != nil {
				return nil, err
			}
			v[i] = p
		}
	}
	return v, nil
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func text(n *yaml.Node, key string) string {
	if c := child(n, key); c != nil && c.Kind == yaml.ScalarNode {
		return c.Value
	}
	return ""
}

func add(n *yaml.Node, key, value string) {
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key, Line: n.Line},
		&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, Line: n.Line})
}

// LineOf returns where the field of a path stands, or else the nearest that holds it.
func (d *Document) LineOf(path string) int {
	n, line := d.node, d.Line
	if n == nil {
		return line
	}
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		next := child(n, part)
		if n.Kind == yaml.SequenceNode {
			if i, err := strconv.Atoi(part); err == nil && i < len(n.Content) {
				next = n.Content[i]
			}
		}
		if next == nil {
			return line
		}
		line = next.Line
		n = next
	}
	return line
}

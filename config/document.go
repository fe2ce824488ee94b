package config

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/zerohop/zerohop"
)

// Error is one mistake in a document. What Parse and Document.Explain return joins errors of this type, see errors.Join.
type Error struct {
	// Name is that of the document, as in ParseOptions.
	Name string
	// Line and Column count from 1; columns count characters in YAML and bytes in JSON. 0 means that the place is not known.
	Line, Column int
	// Path is the field, such as "services.orders.retry.attempts" or "routes[2].match.path". Empty means the whole document.
	Path string
	// Err says what is wrong. Its text begins with Path.
	Err error
}

// Error returns the place and what is wrong there: "mesh.yaml:12:3: services.orders.retry.attempts: must be ...".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Name)
	for _, n := range []int{e.Line, e.Column} {
		if n > 0 && b.Len() > 0 {
			b.WriteByte(':')
		}
		if n > 0 {
			fmt.Fprint(&b, n)
		}
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Document is a document that was read: the Spec in it, and where in the document it says what. It is for one goroutine at a
// time.
type Document struct {
	// Spec is what the document says. It need not be valid.
	Spec zerohop.Spec

	name  string
	root  *yaml.Node // nil if the document is empty
	index map[string][]place
}

// place is where a value is in a document.
type place struct{ line, column int }

// refuseEmpty returns an error for a document without any value. It is most often one that somebody is about to write, or has
// lost, and would take all routes away.
func (d *Document) refuseEmpty() error {
	if !d.Empty() {
		return nil
	}
	return errors.Join(&Error{Name: d.name, Err: errors.New("the document is empty: write {} for one that sets nothing")})
}

// Empty reports whether there is no value in the document. Load and Run refuse it.
func (d *Document) Empty() bool { return d.root == nil }

// Position returns where the document sets the field at path, such as "services.orders.retry.attempts" or
// "routes[2].match.path", or else the closest field around it that the document has. ok is false if there is none, or if the
// names of services have dots such that it could be two fields.
func (d *Document) Position(path string) (line, column int, ok bool) {
	if _, at := d.find(path); len(at) == 1 {
		return at[0].line, at[0].column, true
	}
	return 0, 0, false
}

// Explain adds the places to an error about the Spec, such as that of Spec.Validate, zerohop.New or Mesh.Update: it returns the join of one
// *Error for each mistake, in their order, and nil if err is nil.
func (d *Document) Explain(err error) error {
	leaves := flatten(nil, unwrapped(err))
	for i, leaf := range leaves {
		e := &Error{Name: d.name, Err: leaf}
		path, at := d.find(leaf.Error())
		switch len(at) {
		case 0:
		case 1:
			e.Line, e.Column, e.Path = at[0].line, at[0].column, path
		default: // two names could have made the same path
			e.Path = path
			e.Err = fmt.Errorf("%w (in line %d or %d)", leaf, at[0].line, at[1].line)
		}
		leaves[i] = e
	}
	return errors.Join(leaves...)
}

// unwrapped returns the errors about fields within an error that says first what they are about, such as that of Mesh.Update.
func unwrapped(err error) error {
	inner := errors.Unwrap(err)
	if inner == nil || !strings.HasPrefix(err.Error(), "zerohop: ") || !strings.HasSuffix(err.Error(), ": "+inner.Error()) {
		return err
	}
	return inner
}

// flatten appends the errors that err joins.
func flatten(list []error, err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if err == nil {
		return list
	}
	if !ok {
		return append(list, err)
	}
	var texts []string
	for _, e := range joined.Unwrap() {
		texts = append(texts, e.Error())
	}
	if strings.Join(texts, "\n") != err.Error() { // it says something itself
		return append(list, err)
	}
	for _, e := range joined.Unwrap() {
		list = flatten(list, e)
	}
	return list
}

// find returns the longest path of a value in the document that text begins with, and the places that it may mean.
func (d *Document) find(text string) (path string, at []place) {
	if d.index == nil {
		d.index = make(map[string][]place)
		if d.root != nil {
			d.add(d.root, "")
		}
	}
	for end := min(len(text), maxPath); end > 0; end-- {
		if end == len(text) || strings.IndexByte(".:[", text[end]) >= 0 {
			if at := d.index[text[:end]]; len(at) > 0 {
				return text[:end], at
			}
		}
	}
	return "", nil
}

// maxPath is more than the longest path with one name of 253 bytes.
const maxPath = 1 << 10

func (d *Document) add(n *yaml.Node, path string) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			child := key.Value
			if path != "" {
				child = path + "." + child
			}
			d.index[child] = append(d.index[child], place{key.Line, key.Column})
			d.add(n.Content[i+1], child)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			child := fmt.Sprintf("%s[%d]", path, i)
			d.index[child] = append(d.index[child], place{item.Line, item.Column})
			d.add(item, child)
		}
	}
}

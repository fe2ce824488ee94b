package config

import (
	"errors"
	"reflect"
)

// Decode reads a document that is no Spec into the struct that v points to, as strictly as Read: fields are those of the yaml
// tags, and what does not exist or has the wrong type is an error with its place. The Document has no Spec; it is there for
// Position and Explain.
func Decode(data []byte, opts ParseOptions, v any) (*Document, error) {
	root, err := tree(opts.Name, data)
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			e = &Error{Err: err}
		}
		e.Name = opts.Name
		return nil, errors.Join(e)
	}
	d := &Document{name: opts.Name, root: root}
	if root == nil {
		return d, nil
	}
	r := &reader{name: opts.Name, expand: opts.Expand}
	r.value(root, reflect.ValueOf(v).Elem(), nil)
	if err := r.err(); err != nil {
		return nil, err
	}
	return d, nil
}

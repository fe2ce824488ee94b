package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/zerohop/zerohop/discovery"
)

// parse returns the endpoints of the services, by name in lower case, that a file holds. The name of the file tells the
// format, and stands in errors.
func parse(path string, data []byte) (services map[string][]discovery.Endpoint, err error) {
	defer func() { // neither parser has a bug that we know of
		if v := recover(); v != nil {
			services, err = nil, fmt.Errorf("%s: panic: %v", path, v)
		}
	}()
	root, err := tree(path, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r := &reader{path: path}
	services = r.file(root)
	if err := r.err(); err != nil {
		return nil, err
	}
	return services, nil
}

// tree returns the values in a file, without a look at what they mean.
func tree(path string, data []byte) (*yaml.Node, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	text := bytes.TrimSpace(data)
	if len(text) == 0 {
		return nil, fmt.Errorf("the file is empty")
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".json":
		return jsonTree(data)
	case ".yaml", ".yml":
		return yamlTree(data)
	}
	if text[0] == '{' {
		return jsonTree(data)
	}
	return yamlTree(data)
}

// yamlTree does not expand aliases: a small file cannot become a large one.
func yamlTree(data []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	doc := new(yaml.Node)
	if err := d.Decode(doc); errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("there is nothing in the file but comments")
	} else if err != nil {
		return nil, fmt.Errorf("%.256s", err.Error())
	}
	if err := d.Decode(new(yaml.Node)); err == nil {
		return nil, fmt.Errorf("there is more than one document in the file")
	} else if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%.256s", err.Error())
	}
	return doc.Content[0], nil
}

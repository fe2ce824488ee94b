package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds how deep values may be nested. Ours are four deep.
const maxDepth = 64

// jsonTree returns the values of a JSON file in the form of those of YAML, which is not quite a superset: tabs and some
// escapes differ.
func jsonTree(data []byte) (*yaml.Node, error) {
	j := &jsonReader{data: data, dec: json.NewDecoder(bytes.NewReader(data)), line: 1}
	j.dec.UseNumber()
	root, err := j.value(0)
	if err == nil {
		if _, err = j.dec.Token(); errors.Is(err, io.EOF) {
			return root, nil
		}
		err = errors.New("there is more in the file than one value")
	}
	at := int(j.dec.InputOffset())
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = int(syntax.Offset)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("line %d: %.256w", j.lineAt(at), err)
}

type jsonReader struct {
	data []byte
	dec  *json.Decoder
	// line is that of the byte at offset.
	line, offset int
}

// lineAt returns the line of a byte. Offsets must not get smaller.
func (j *jsonReader) lineAt(offset int) int {
	offset = min(max(offset, j.offset), len(j.data))
	j.line += bytes.Count(j.data[j.offset:offset], []byte("\n"))
	j.offset = offset
	return j.line
}

func (j *jsonReader) value(depth int) (*yaml.Node, error) {
	token, err := j.dec.Token()
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("values are nested more than %d deep", maxDepth)
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: j.lineAt(int(j.dec.InputOffset()))}
	switch v := token.(type) {
	case string:
		n.Tag, n.Value = "!!str", v
	case json.Number:
		n.Tag, n.Value = "!!int", v.String() // digits are checked where it is read
	case bool:
		n.Tag, n.Value = "!!bool", fmt.Sprint(v)
	case nil:
		n.Tag = "!!null"
	case json.Delim:
		n.Kind = yaml.SequenceNode
		if v == '{' {
			n.Kind = yaml.MappingNode
		}
		for j.dec.More() {
			child, err := j.value(depth + 1) // the keys of an object are values, too
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		if _, err := j.dec.Token(); err != nil { // the end of it
			return nil, err
		}
	}
	return n, nil
}

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	// maxSize bounds a document before it is parsed. The largest Spec that is allowed, a thousand routes, takes a few hundred
	// kilobytes.
	maxSize = 4 << 20
	// maxValues bounds the values in a document: each takes 50 times the memory that it takes in a file.
	maxValues = 400_000
	// maxDepth bounds how deep values may be nested. Ours are nine deep.
	maxDepth = 64
)

// tree returns the values in a document, without a look at what they mean: nil if there is none. JSON is read as such, because
// YAML is not quite a superset of it: some escapes differ.
func tree(name string, data []byte) (*yaml.Node, error) {
	if len(data) > maxSize {
		return nil, fmt.Errorf("%d bytes, at most %d are allowed", len(data), maxSize)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !utf8.Valid(data) {
		if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
			return nil, errors.New("is UTF-16, want UTF-8")
		}
		valid := len(data) - len(bytes.ToValidUTF8(data, nil))
		return nil, fmt.Errorf("must be UTF-8, which %d bytes are not", valid)
	}
	if values(data) > maxValues {
		return nil, fmt.Errorf("more than %d values", maxValues)
	}
	var (
		root *yaml.Node
		err  error
	)
	if strings.EqualFold(filepath.Ext(name), ".json") || json.Valid(data) {
		root, err = jsonTree(data)
	} else {
		root, err = yamlTree(data)
	}
	if root == nil || err != nil {
		return nil, err
	}
	return root, plainTree(root, 0)
}

// values returns a number that the values in a document are not more than by far: each but the first is set apart from others
// by one of these.
func values(data []byte) int {
	var n int
	for i, c := range data {
		switch c {
		case ',', '[', '{':
			n++
		case ':', '-', '?': // which are text unless something blank follows
			if i+1 == len(data) || data[i+1] <= ' ' {
				n++
			}
		}
	}
	return n
}

// plainTree refuses what makes a document of YAML more than a tree of values, and what is nested too deep.
func plainTree(n *yaml.Node, depth int) error {
	var what string
	switch {
	case depth > maxDepth:
		what = fmt.Sprintf("values are nested more than %d deep", maxDepth)
	case n.Kind == yaml.AliasNode:
		what = "aliases are not supported"
	case n.Anchor != "":
		what = "anchors are not supported"
	case n.Tag == "!!merge":
		what = "merge keys are not supported"
	case n.Style&yaml.TaggedStyle != 0:
		what = fmt.Sprintf("tags such as %.64s are not supported", n.Tag)
	}
	if what != "" {
		return &Error{Line: n.Line, Column: n.Column, Err: errors.New(what)}
	}
	for _, child := range n.Content {
		if err := plainTree(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

var (
	yamlLine = regexp.MustCompile(`^yaml: line (\d+): (?s:(.*))$`)
	// fromZero are the errors of the parser proper, which counts lines from 0; the scanner below it counts from 1.
	fromZero = regexp.MustCompile(`^did not find expected (node content|key|'-' indicator|',' or .*)$`)
)

// yamlTree does not expand aliases: a small document cannot become a large one.
func yamlTree(data []byte) (root *yaml.Node, err error) {
	defer func() { // there is no bug that we know of
		if v := recover(); v != nil {
			root, err = nil, fmt.Errorf("panic of the YAML parser: %v", v)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, yamlError(err, data)
	}
	if err := d.Decode(&next); err == nil {
		return nil, &Error{Line: next.Line, Column: next.Column, Err: errors.New("a second document begins here, only one is allowed")}
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(err, data)
	}
	return doc.Content[0], nil
}

// control is what YAML does not take anywhere.
var control = regexp.MustCompile(`[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x{80}-\x{84}\x{86}-\x{9f}]`)

// tabbed finds a tab before the first text of a line.
var tabbed = regexp.MustCompile(`(?m)^ *\t[ \t]*[^ \t\r\n#]`)

// yamlError moves the line out of the text of an error, and says more of mistakes that are often made.
func yamlError(err error, data []byte) error {
	line, text := 0, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = m[2]
		if fromZero.MatchString(text) {
			line++
		}
		line = min(line, 1+bytes.Count(bytes.TrimSpace(data), []byte("\n")))
	} else if fromZero.MatchString(text) || strings.HasPrefix(text, "found ") || strings.HasPrefix(text, "mapping values") {
		line = 1 // which errors do not say
	}
	var at []int
	switch {
	case strings.Contains(text, "control characters"):
		at = control.FindIndex(data)
	case strings.Contains(text, "a tab character"), strings.Contains(text, "cannot start any token"):
		if at = tabbed.FindIndex(data); at != nil {
			text = "a tab in front of text: YAML is indented by spaces only"
		}
	}
	if at != nil {
		before := data[:at[0]]
		line = bytes.Count(before, []byte("\n")) + 1
	}
	return &Error{Line: line, Err: fmt.Errorf("%.256s", text)}
}

// jsonTree returns the values of a document of JSON in the form of those of YAML.
func jsonTree(data []byte) (*yaml.Node, error) {
	j := &jsonReader{data: data, dec: json.NewDecoder(bytes.NewReader(data)), line: 1}
	j.dec.UseNumber()
	root, err := j.value(0)
	if err == nil {
		if _, err = j.dec.Token(); errors.Is(err, io.EOF) {
			return root, nil
		}
		err = errors.New("there is more than one value")
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return nil, e
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	line, column := j.position(j.next()) // syntax errors do not tell where a token is that the decoder does not know
	return nil, &Error{Line: line, Column: column, Err: fmt.Errorf("%.256w", err)}
}

// jsonReader reads JSON token by token, because encoding/json does not tell where a value was.
type jsonReader struct {
	data []byte
	dec  *json.Decoder
	// line is that of the byte at offset, and start where it begins.
	line, start, offset int
}

// position returns the line and the column, in bytes from 1, of a byte. Offsets must not get smaller.
func (j *jsonReader) position(offset int) (line, column int) {
	offset = min(max(offset, j.offset), len(j.data))
	for i, c := range j.data[j.offset:offset] {
		if c == '\n' {
			j.line++
			j.start = j.offset + i + 1
		}
	}
	j.offset = offset
	return j.line, offset - j.start + 1
}

// next returns where the next token begins.
func (j *jsonReader) next() int {
	at := int(j.dec.InputOffset())
	for at < len(j.data) && strings.IndexByte(" \t\r\n,:", j.data[at]) >= 0 {
		at++
	}
	return at
}

func (j *jsonReader) value(depth int) (*yaml.Node, error) {
	begin := j.next()
	token, err := j.dec.Token()
	if err != nil {
		return nil, err
	}
	line, column := j.position(begin)
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: line, Column: column}
	switch v := token.(type) {
	case string:
		n.Tag, n.Value, n.Style = "!!str", v, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!float", v.String()
		if _, err := strconv.ParseInt(n.Value, 10, 64); err == nil {
			n.Tag = "!!int"
		}
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(v)
	case nil:
		n.Tag, n.Value = "!!null", "null"
	case json.Delim:
		return n, j.children(n, v, depth)
	}
	return n, nil
}

// children reads what is in an object or an array: the keys of an object are values, too.
func (j *jsonReader) children(n *yaml.Node, open json.Delim, depth int) error {
	n.Kind = yaml.SequenceNode
	if open == '{' {
		n.Kind = yaml.MappingNode
	}
	if depth > maxDepth {
		return &Error{Line: n.Line, Column: n.Column, Err: fmt.Errorf("values are nested more than %d deep", maxDepth)}
	}
	for j.dec.More() {
		child, err := j.value(depth + 1)
		if err != nil {
			return err
		}
		n.Content = append(n.Content, child)
	}
	_, err := j.dec.Token() // the end of it
	return err
}

package config

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/routing"
)

// object is a part of a schema. Its keys are written in order of the alphabet.
type object = map[string]any

// variablePattern fits texts with a variable, which may stand where another type is wanted.
const variablePattern = `\$\{`

// generator makes the schema of Spec.
type generator struct {
	t    *testing.T
	docs map[string]docs // by name of the package and the type
	defs object
	// probes are those of all places where a struct stands, which may not all be checked alike.
	probes map[reflect.Type][]probe
	names  map[string]reflect.Type // of defs
}

// docs are the comments of a struct and its fields.
type docs struct {
	text   string
	fields map[string]string
}

// generate returns the schema.
func generate(t *testing.T) []byte {
	g := &generator{t: t, docs: map[string]docs{}, defs: object{}, probes: map[reflect.Type][]probe{}, names: map[string]reflect.Type{}}
	g.read("..", "../routing", "../resilience")
	root := reflect.TypeFor[zerohop.Spec]()
	g.visit(root, nil)
	spec := g.properties(root, nil)
	spec["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	spec["title"] = "Spec of zerohop"
	spec["$defs"] = g.defs
	text, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

// read collects the comments in packages.
func (g *generator) read(dirs ...string) {
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			g.t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				g.t.Fatal(err)
			}
			for _, decl := range file.Decls {
				if d, ok := decl.(*ast.GenDecl); ok && d.Tok == token.TYPE {
					g.types(file.Name.Name, d)
				}
			}
		}
	}
}

func (g *generator) types(pkg string, decl *ast.GenDecl) {
	for _, spec := range decl.Specs {
		s := spec.(*ast.TypeSpec)
		st, ok := s.Type.(*ast.StructType)
		if !ok {
			continue
		}
		doc := s.Doc
		if doc == nil {
			doc = decl.Doc
		}
		d := docs{text: flow(doc.Text()), fields: map[string]string{}}
		last := ""
		for _, f := range st.Fields.List {
			if text := flow(f.Doc.Text()); text != "" {
				last = text // and that of those that follow without one
			}
			for _, name := range f.Names {
				d.fields[name.Name] = last
			}
		}
		g.docs[pkg+"."+s.Name.Name] = d
	}
}

// flow joins the lines of a comment up to its first example.
func flow(text string) string {
	text, _, _ = strings.Cut(text, "\n\n")
	return strings.Join(strings.Fields(text), " ")
}

// probe sets a field of a Spec to a value and returns what Validate says of it, empty if nothing.
type probe func(v reflect.Value) string

// visit collects the probes of structs.
func (g *generator) visit(t reflect.Type, try probe) {
	switch {
	case scalar(t):
	case t.Kind() == reflect.Struct:
		g.probes[t] = append(g.probes[t], try)
		for _, f := range fieldsOf(t) {
			g.visit(f.typ, g.inside(t, f, try))
		}
	default:
		g.visit(t.Elem(), element(t, try))
	}
}

// any returns the probe of a struct wherever it stands: what is fine in one place is fine.
func (g *generator) any(t reflect.Type) probe {
	return func(v reflect.Value) string {
		var complaint string
		for _, try := range g.probes[t] {
			c := try(v)
			if c == "" {
				return ""
			}
			most, _ := bound(complaint)
			if more, ok := bound(c); complaint == "" || ok && more > most {
				complaint = c
			}
		}
		return complaint
	}
}

// element returns the probe of what a pointer, a list or a map holds.
func element(t reflect.Type, try probe) probe {
	return func(v reflect.Value) string {
		switch t.Kind() {
		case reflect.Pointer:
			p := reflect.New(t.Elem())
			p.Elem().Set(v)
			return try(p)
		case reflect.Slice:
			return try(reflect.Append(reflect.MakeSlice(t, 0, 1), v))
		}
		m := reflect.MakeMap(t)
		m.SetMapIndex(reflect.ValueOf("a").Convert(t.Key()), v)
		return try(m)
	}
}

// schema returns the schema of a value.
func (g *generator) schema(t reflect.Type, doc string, try probe) object {
	if scalar(t) {
		return g.scalar(t, doc, try)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.schema(t.Elem(), doc, element(t, try))
	case reflect.Slice:
		return object{"type": []string{"array", "null"}, "items": g.schema(t.Elem(), doc, element(t, try))}
	case reflect.Map:
		elem := g.schema(t.Elem(), "", element(t, try))
		if t.Elem().Kind() == reflect.String {
			elem = object{"type": "string"}
		}
		return object{"type": []string{"object", "null"}, "additionalProperties": elem}
	}
	if name := t.Name(); g.defs[name] == nil {
		g.defs[name] = g.properties(t, g.any(t))
		g.names[name] = t
	} else if g.names[name] != t {
		g.t.Errorf("%v and %v have the same name", t, g.names[name])
	}
	return object{"$ref": "#/$defs/" + t.Name()}
}

// properties returns the schema of a struct.
func (g *generator) properties(t reflect.Type, try probe) object {
	d, ok := g.docs[path.Base(t.PkgPath())+"."+t.Name()]
	if !ok || d.text == "" {
		g.t.Errorf("no comment of %v", t)
	}
	properties := object{}
	for _, f := range fieldsOf(t) {
		doc := d.fields[t.Field(f.index).Name]
		if doc == "" {
			g.t.Errorf("no comment of %v.%s", t, f.name)
		}
		p := g.schema(f.typ, doc, g.inside(t, f, try))
		p["description"] = doc
		properties[f.name] = p
	}
	return object{
		"type": []string{"object", "null"}, "description": d.text, "properties": properties, "additionalProperties": false,
	}
}

// inside returns the probe of a field. What is at the top of a Spec is known here.
func (g *generator) inside(t reflect.Type, f field, try probe) probe {
	if t == reflect.TypeFor[zerohop.Spec]() {
		return func(v reflect.Value) string {
			var s zerohop.Spec
			prefix := f.name
			switch f.name {
			case "routes":
				s.Routes, prefix = v.Interface().([]routing.Rule), "routes[0]"
			case "services", "policies":
				reflect.ValueOf(&s).Elem().Field(f.index).Set(v)
				prefix += ".a"
			default:
				reflect.ValueOf(&s).Elem().Field(f.index).Set(v)
			}
			return complaints(s.Validate(), prefix)
		}
	}
	return func(v reflect.Value) string {
		if try == nil {
			return ""
		}
		s := reflect.New(t).Elem()
		s.Field(f.index).Set(v)
		lines := strings.Split(try(s), "\n")
		lines = slices.DeleteFunc(lines, func(line string) bool { return !regexp.MustCompile(`^\.` + f.name + `[:.\[]`).MatchString(line) })
		for i := range lines {
			lines[i] = strings.TrimPrefix(strings.TrimPrefix(lines[i], "."+f.name), "[0]")
		}
		return strings.Join(lines, "\n")
	}
}

// complaints returns what an error says of what is below a prefix, without it.
func complaints(err error, prefix string) string {
	var list []string
	for _, e := range flatten(nil, err) {
		for _, line := range strings.Split(e.Error(), "\n") {
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				list = append(list, rest)
			}
		}
	}
	return strings.Join(list, "\n")
}

func (g *generator) scalar(t reflect.Type, doc string, try probe) object {
	text := func(pattern string) object {
		return object{"type": []string{"string", "null"}, "pattern": pattern + "|" + variablePattern}
	}
	switch list := enumOf(t); {
	case t == durationType:
		return text(durationPattern)
	case t == timeType:
		return text(timePattern)
	case list != nil:
		if t == reflect.TypeFor[zerohop.Switch]() && try(reflect.ValueOf(zerohop.Observe)) == "" {
			list = append(list, string(zerohop.Observe))
		}
		if t.Kind() == reflect.String { // not all are for every field
			list = slices.DeleteFunc(list, func(word string) bool { return try(reflect.ValueOf(word).Convert(t)) != "" })
		}
		return enum(list)
	}
	switch t.Kind() {
	case reflect.String:
		return g.text(doc, try)
	case reflect.Bool:
		return object{"type": []string{"boolean", "string", "null"}, "pattern": variablePattern}
	}
	s := object{"type": []string{"integer", "string", "null"}, "pattern": variablePattern}
	if t.Kind() == reflect.Float64 {
		s["type"] = []string{"number", "string", "null"}
	}
	of := func(f float64) reflect.Value { return reflect.ValueOf(f).Convert(t) }
	if low := try(of(-1)); t.Kind() == reflect.Uint32 || low != "" {
		s["minimum"] = 0
	}
	if most, ok := bound(try(of(1 << 30))); ok {
		s["maximum"] = most
		if try(of(most)) != "" && most > 1 || bounded(try(of(most+1))) == "" {
			g.t.Errorf("the largest value is not %v: %q and %q\n%s", most, try(of(most)), try(of(most+1)), doc)
		}
	}
	return s
}

func bounded(s string) string {
	if _, ok := bound(s); ok {
		return s
	}
	return ""
}

var bounds = regexp.MustCompile(`^: .*?(?:must be between \S+ and|must be [^;]*?(?:above 1 and at most)|must not be (?:above|more than)|at most|from \S+ to) (\d[\d,]*(?:\.\d+)?)`)

// bound returns the largest value that is allowed, going by what Validate says to one that is larger.
func bound(complaint string) (most float64, ok bool) {
	m := bounds.FindStringSubmatch(complaint)
	if m == nil {
		return 0, false
	}
	most, err := strconv.ParseFloat(strings.ReplaceAll(m[1], ",", ""), 64)
	return most, err == nil
}

var quotedWord = regexp.MustCompile(`"([a-z][a-z-]+)"`)

// open are the fields with words that a program can add to.
var open = regexp.MustCompile(`Config\.(Balancers|Checkers)`)

// text returns the schema of a text. Words in quotes in the comment that are accepted, unlike other ones, are all that there are.
func (g *generator) text(doc string, try probe) object {
	s := object{"type": []string{"string", "null"}}
	if try(reflect.ValueOf("no-such-word")) == "" {
		return s
	}
	var words []string
	for _, m := range quotedWord.FindAllStringSubmatch(doc, -1) {
		if try(reflect.ValueOf(m[1])) == "" && !slices.Contains(words, m[1]) {
			words = append(words, m[1])
		}
	}
	switch {
	case len(words) == 0 || try(reflect.ValueOf("a")) == "" || try(reflect.ValueOf("/")) == "":
		return s
	case open.MatchString(doc):
		s["anyOf"] = []any{object{"enum": words}, object{"type": []string{"string", "null"}}}
		return s
	}
	return enum(words)
}

// enum returns the schema of a text that is one of some words. The empty one is none of them.
func enum(words []string) object {
	list := []any{}
	for _, w := range words {
		list = append(list, w)
	}
	return object{"type": []string{"string", "null"}, "anyOf": []any{object{"enum": append(list, "", nil)}, object{"pattern": variablePattern}}}
}

package importing

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Importer collects the report of one import. It is not for use by several goroutines.
type Importer struct {
	Options Options
	Report  Report
	doc     *Document
	errs    []error
}

// NewImporter returns an importer.
func NewImporter(opts Options) *Importer {
	return &Importer{Options: opts}
}

// Begin says which document what follows is about.
func (m *Importer) Begin(d *Document) { m.doc = d }

// Fail notes a mistake in the document. Mistakes make the import fail.
func (m *Importer) Fail(path, format string, args ...any) {
	at := ""
	if path != "" {
		at = path + ": "
	}
	m.errs = append(m.errs, fmt.Errorf("%s:%d: %s: %s%s", m.Options.name(), m.doc.LineOf(path), m.doc.Object, at, fmt.Sprintf(format, args...)))
}

// Lose notes a field that is not carried over as it stands.
func (m *Importer) Lose(path string, s Severity, format string, args ...any) {
	m.Report.Losses = append(m.Report.Losses, Loss{Object: m.doc.Object, Path: path, Line: m.doc.LineOf(path), Severity: s, Note: fmt.Sprintf(format, args...)})
}

// Service returns the logical name of what is referred to, and notes it with the port, 0 if none is named.
func (m *Importer) Service(r Ref, port int) string {
	name := m.Options.Short(r)
	if m.Options.Service != nil {
		name = m.Options.Service(r)
	}
	i := slices.IndexFunc(m.Report.Services, func(s Service) bool { return s.Name == name })
	if i < 0 {
		i = len(m.Report.Services)
		m.Report.Services = append(m.Report.Services, Service{Name: name, Ref: r})
	}
	if s := &m.Report.Services[i]; port != 0 && !slices.Contains(s.Ports, port) {
		s.Ports = append(s.Ports, port)
		slices.Sort(s.Ports)
	}
	return name
}

// Namespace is that of the process.
func (m *Importer) Namespace() string { return m.Options.namespace() }

// Gateway returns the host that stands for a gateway, and whether there is one.
func (m *Importer) Gateway(namespace, name string) (string, bool) {
	for _, key := range []string{namespace + "/" + name, name, "*"} {
		if host, ok := m.Options.Gateways[key]; ok {
			return host, true
		}
	}
	return "", false
}

// Finish returns the report, and every mistake.
func (m *Importer) Finish() (Report, error) {
	for _, s := range m.Report.Services {
		if len(s.Ports) > 1 {
			m.Report.Losses = append(m.Report.Losses, Loss{
				Object: Object{Kind: "Service", Namespace: s.Ref.Namespace, Name: s.Ref.Name}, Path: "port", Severity: Approximated,
				Note: fmt.Sprintf("is referred to by ports %v, but %q has the one that the resolver finds", s.Ports, s.Name),
			})
		}
	}
	m.Report.sort()
	return m.Report, errors.Join(m.errs...)
}

// Take returns the value of a field and leaves its zero value there: what is still there in the end was not understood.
func Take[T any](field *T) T {
	v := *field
	var zero T
	*field = zero
	return v
}

// Reason is what is said of a field that an importer does not take.
type Reason struct {
	Severity Severity
	Note     string
}

// Why has the reasons by the path of a field without indexes: "spec.http[].corsPolicy".
type Why map[string]Reason

var index = regexp.MustCompile(`\[[^\]]*\]`)

// Reason returns what is said of a field, and whether that is of the whole field or only of what is in it.
func (w Why) Reason(path string) (Reason, bool) {
	r, ok := w[index.ReplaceAllString(path, "[]")]
	if !ok {
		r = Reason{Ignored, "zerohop has nothing like it"}
	}
	return r, ok
}

// Rest reports every field of v that is not zero: those that were not taken.
func (m *Importer) Rest(v any, path string, why Why) { m.rest(reflect.ValueOf(v), path, why) }

func (m *Importer) rest(v reflect.Value, path string, why Why) {
	if v.IsZero() {
		return
	}
	reason, whole := why.Reason(path)
	if whole {
		m.Lose(path, reason.Severity, "%s", reason.Note)
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		m.rest(v.Elem(), path, why)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case name == "" && f.Anonymous:
				m.rest(v.Field(i), path, why)
			case name != "-" && f.IsExported():
				m.rest(v.Field(i), Join(path, name), why)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			m.rest(v.Index(i), fmt.Sprintf("%s[%d]", path, i), why)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			m.rest(v.MapIndex(k), Join(path, fmt.Sprint(k)), why)
		}
	default:
		m.Lose(path, reason.Severity, "%s", reason.Note)
	}
}

// Join returns the path of a field.
func Join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

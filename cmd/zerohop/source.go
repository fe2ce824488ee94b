package main

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/zerohop/zerohop/discovery"
)

// source is a --from, taken apart: "kind://hosts/path?parameters".
type source struct {
	kind  string
	hosts string // with commas, as it is
	path  string // without the slash after hosts
	query url.Values

	used     map[string]bool
	mistakes []error
}

// sourceKinds are the sources by their kind. Each returns a resolver for a source and what to call when it is no longer
// used, and notes all mistakes in the source.
var sourceKinds = map[string]func(*source) (discovery.Resolver, func(), error){
	"consul":     openConsul,
	"dns":        openDNS,
	"etcd":       openEtcd,
	"file":       openFile,
	"kubernetes": openKubernetes,
	"static":     openStatic,
	"xds":        openXDS,
}

// openSource returns the resolver that text describes. The error names all mistakes and repeats no secret: neither what
// stands before an "@" nor the values of parameters that nobody asked for.
func openSource(text string) (discovery.Resolver, func(), error) {
	s, err := parseSource(text)
	if err != nil {
		return nil, nil, err
	}
	resolver, done, err := sourceKinds[s.kind](s)
	if err == nil {
		err = s.check()
		if err != nil && done != nil {
			done()
		}
	}
	if err != nil {
		if !strings.HasPrefix(err.Error(), s.kind+": ") { // the package of that name says it itself
			err = fmt.Errorf("%s: %w", s.kind, err)
		}
		return nil, nil, err
	}
	if done == nil {
		done = func() {}
	}
	return resolver, done, nil
}

func parseSource(text string) (*source, error) {
	kind, rest, found := strings.Cut(text, ":")
	if _, known := sourceKinds[kind]; !found || !known {
		kinds := strings.Join(slices.Sorted(maps.Keys(sourceKinds)), ", ")
		return nil, fmt.Errorf("want KIND:... with one of the kinds %s", kinds)
	}
	s := &source{kind: kind, used: make(map[string]bool)}
	rest, query, _ := strings.Cut(rest, "?")
	authority, hasAuthority := strings.CutPrefix(rest, "//")
	switch {
	case kind != "file" && strings.Contains(rest, "@"),
		strings.Contains(strings.SplitN(authority, "/", 2)[0], "@") && hasAuthority:
		return nil, fmt.Errorf(`%s: no user or password may stand in a source ("@"): see zerohop help for the variables and files to use`, kind)
	case hasAuthority:
		s.hosts, s.path, _ = strings.Cut(authority, "/")
		if kind == "file" && s.path != "" {
			s.path = "/" + s.path
		}
	default:
		s.path = rest
	}
	path, err := url.PathUnescape(s.path)
	if err != nil {
		s.mistake("the path has a wrong %%-escape")
	}
	s.path = path
	if s.query, err = url.ParseQuery(query); err != nil { // whose error repeats the value
		s.mistake("the parameters have a wrong %%-escape or a semicolon")
	}
	return s, nil
}

func (s *source) mistake(format string, args ...any) {
	s.mistakes = append(s.mistakes, fmt.Errorf(format, args...))
}

// all returns the values of a parameter that may be repeated.
func (s *source) all(name string) []string {
	s.used[name] = true
	return s.query[name]
}

// text returns the value of a parameter, or "".
func (s *source) text(name string) string {
	values := s.all(name)
	if len(values) > 1 {
		s.mistake("parameter %s is given %d times", name, len(values))
	}
	return s.query.Get(name)
}

// flag returns the value of a parameter that is true or false, the default.
func (s *source) flag(name string) bool {
	text := s.text(name)
	if text == "" {
		if s.query.Has(name) {
			s.mistake("parameter %s is empty, want true or false", name)
		}
		return false
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		s.mistake("parameter %s is %s, want true or false", name, quote(text))
	}
	return v
}

// choice returns the value of a parameter that must be one of values or missing.
func (s *source) choice(name string, values ...string) string {
	text := s.text(name)
	if text != "" && !slices.Contains(values, text) {
		s.mistake("parameter %s is %s, want one of %s", name, quote(text), strings.Join(values, ", "))
	}
	return text
}

// port returns the value of a parameter that is a port, or 0.
func (s *source) port(name string) uint16 {
	text := s.text(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		s.mistake("parameter %s is %s, want a port of 1 to 65535", name, quote(text))
	}
	return uint16(n)
}

// hostList returns the hosts.
func (s *source) hostList() []string {
	if s.hosts == "" {
		return nil
	}
	hosts := strings.Split(s.hosts, ",")
	if slices.Contains(hosts, "") {
		s.mistake("a host of the list is empty")
	}
	return hosts
}

// noHosts and noPath note what a kind has no use for.
func (s *source) noHosts() {
	if s.hosts != "" {
		s.mistake("host %s has no meaning here", quote(s.hosts))
	}
}

func (s *source) noPath() {
	if s.path != "" {
		s.mistake("path %s has no meaning here", quote(s.path))
	}
}

// check returns all mistakes, those parameters included that nobody asked for.
func (s *source) check() error {
	errs := s.mistakes
	for _, name := range slices.Sorted(maps.Keys(s.query)) {
		if !s.used[name] {
			errs = append(errs, fmt.Errorf("unknown parameter %s, want one of: %s", quote(name),
				strings.Join(slices.Sorted(maps.Keys(s.used)), ", ")))
		}
	}
	return errors.Join(errs...)
}

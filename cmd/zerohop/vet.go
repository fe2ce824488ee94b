package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/vet"
)

// vetting are the arguments of the command vet.
type vetting struct {
	specs    []string
	graph    string
	format   format
	output   string // "text", "json" or "sarif"
	failOn   vet.Severity
	severity vet.Severity
	disable  []string
}

// parseVetting returns what is in args, flags before or after the files. The error names all that is wrong.
func parseVetting(args []string) (vetting, error) {
	v := vetting{output: "text", failOn: vet.Error}
	flags := flag.NewFlagSet("vet", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&v.graph, "graph", "", "")
	flags.StringVar(&v.format.from, "from", "", "")
	flags.BoolVar(&v.format.expand, "env", false, "")
	output := func(name string) func(string) error {
		return func(text string) error {
			if text == "true" {
				v.output = name
			}
			return nil
		}
	}
	flags.BoolFunc("json", "", output("json"))
	flags.BoolFunc("sarif", "", output("sarif"))
	flags.StringVar((*string)(&v.failOn), "fail-on", string(v.failOn), "")
	flags.StringVar((*string)(&v.severity), "severity", "", "")
	flags.Func("disable", "", func(text string) error {
		v.disable = append(v.disable, strings.Split(text, ",")...)
		return nil
	})
	var err error
	if v.specs, err = operands(flags, args); err != nil {
		return v, err
	}
	errs := []error{v.format.validate()}
	if len(v.specs) == 0 && v.graph == "" {
		errs = append(errs, errors.New("want the names of SPEC files, or --graph"))
	}
	for _, s := range []struct {
		flag  string
		value vet.Severity
		also  []vet.Severity
	}{{"--fail-on", v.failOn, []vet.Severity{"never"}}, {"--severity", v.severity, []vet.Severity{""}}} {
		if !slices.Contains(append(s.also, vet.Note, vet.Warning, vet.Error), s.value) {
			errs = append(errs, fmt.Errorf("%s is %s, want note, warning or error", s.flag, quote(string(s.value))))
		}
	}
	return v, errors.Join(errs...)
}

// load returns what is to be judged. The error names all files that cannot be, and why.
func (v *vetting) load(stderr io.Writer) (vet.Config, error) {
	c := vet.Config{Now: time.Now(), Disable: v.disable, Severity: v.severity}
	names := make([]string, 0, len(v.specs))
	for _, s := range v.specs {
		names = append(names, filepath.Clean(s))
	}
	var errs []error
	var graph *config.Document
	if v.graph != "" {
		data, err := readFile(v.graph)
		if err != nil {
			return c, err
		}
		c.Graph = &vet.Graph{Name: filepath.Clean(v.graph)}
		graph, err = config.Decode(data, config.ParseOptions{Name: c.Graph.Name}, c.Graph)
		if err != nil {
			return c, err
		}
		c.Graph.Locate = locate(graph)
		for name, s := range c.Graph.Services {
			if s.Spec == "" {
				continue
			}
			if !filepath.IsAbs(s.Spec) {
				s.Spec = filepath.Join(filepath.Dir(v.graph), s.Spec)
			}
			s.Spec = filepath.Clean(s.Spec)
			c.Graph.Services[name] = s
			names = append(names, s.Spec)
		}
		slices.Sort(names[len(v.specs):])
	}
	seen := map[string]bool{}
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		d, err := v.format.read(name, stderr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.Documents = append(c.Documents, d)
	}
	if len(errs) == 0 && c.Graph != nil {
		errs = append(errs, graph.Explain(c.Graph.Validate(names)))
	}
	return c, errors.Join(errs...)
}

// vetCommand is the command vet.
func vetCommand(args []string, stdout, stderr io.Writer) int {
	v, err := parseVetting(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
		return exitOK
	}
	var c vet.Config
	if err == nil {
		c, err = v.load(stderr)
	}
	var findings []vet.Finding
	if err == nil {
		findings, err = vet.Run(c)
	}
	if err != nil {
		complain(stderr, err)
		return exitUsage
	}
	switch v.output {
	case "json":
		err = writeJSON(stdout, findings)
	case "sarif":
		version := ""
		if info, ok := debug.ReadBuildInfo(); ok {
			version = info.Main.Version
		}
		err = vet.WriteSARIF(stdout, version, findings)
	default:
		for _, f := range findings {
			if _, err = fmt.Fprintln(stdout, clean(f.String())); err != nil {
				break
			}
		}
	}
	if err != nil {
		complain(stderr, err)
		return exitUsage
	}
	if v.failOn != "never" && slices.ContainsFunc(findings, func(f vet.Finding) bool { return f.Severity.AtLeast(v.failOn) }) {
		return exitNone
	}
	return exitOK
}

// verdicts is the document of vet --json.
type verdicts struct {
	Findings []vet.Finding `json:"findings"`
	Errors   int           `json:"errors"`
	Warnings int           `json:"warnings"`
	Notes    int           `json:"notes"`
}

func writeJSON(w io.Writer, findings []vet.Finding) error {
	d := verdicts{Findings: append([]vet.Finding{}, findings...)}
	for _, f := range findings {
		switch f.Severity {
		case vet.Error:
			d.Errors++
		case vet.Warning:
			d.Warnings++
		default:
			d.Notes++
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(d)
}

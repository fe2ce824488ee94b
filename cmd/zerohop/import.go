package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/config/importing"
)

// The codes that import ends with.
const (
	exitImportError = 1
	exitLosses      = 2 // with --strict
)

// importation are the arguments of the command import.
type importation struct {
	files   []string
	from    string
	output  string
	json    bool
	strict  bool
	options importing.Options
}

// parseImportation returns what is in args, flags before or after the files. The error names all that is wrong.
func parseImportation(args []string) (importation, error) {
	i := importation{}
	pair := func(to *map[string]string) func(string) error {
		return func(text string) error {
			name, value, ok := strings.Cut(text, "=")
			if !ok || name == "" {
				return errors.New("want NAME=VALUE")
			}
			if *to == nil {
				*to = map[string]string{}
			}
			(*to)[name] = value
			return nil
		}
	}
	flags := flag.NewFlagSet("import", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&i.from, "from", "", "")
	flags.StringVar(&i.output, "o", "", "")
	flags.BoolVar(&i.json, "json", false, "")
	flags.BoolVar(&i.strict, "strict", false, "")
	flags.StringVar(&i.options.Namespace, "namespace", "", "")
	flags.StringVar(&i.options.Target, "target", "", "")
	flags.Func("gateway", "", pair(&i.options.Gateways))
	flags.Func("label", "", pair(&i.options.Labels))
	var err error
	if i.files, err = operands(flags, args); err != nil {
		return i, err
	}
	var errs []error
	if importers[i.from] == nil {
		errs = append(errs, fmt.Errorf("--from is %s, want gateway-api, istio or grpc", quote(i.from)))
	}
	if len(i.files) == 0 {
		errs = append(errs, errors.New("want the names of files"))
	}
	return i, errors.Join(errs...)
}

// importSpec turns what operators have into a Spec, and tells what could not be carried over.
func importSpec(args []string, stdout, stderr io.Writer) int {
	i, err := parseImportation(args)
	if err != nil {
		complain(stderr, fmt.Errorf("%w; see zerohop help", err))
		return exitImportError
	}
	run := importers[i.from]
	var all bytes.Buffer
	starts := make([]int, 0, len(i.files)) // the line of all before the first one of each file
	line := 0
	var errs []error
	for _, name := range i.files {
		data, err := readFile(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		alone := i.options
		alone.Name = name
		_, _, err = run(data, alone)
		errs = append(errs, err)
		starts = append(starts, line)
		part := append(bytes.TrimSuffix(data, []byte("\n")), "\n---\n"...)
		line += bytes.Count(part, []byte("\n"))
		all.Write(part)
	}
	if err := errors.Join(errs...); err != nil {
		complain(stderr, err)
		return exitImportError
	}
	i.options.Name = strings.Join(i.files, " ")
	spec, report, err := run(all.Bytes(), i.options)
	if err != nil { // which no file has alone
		complain(stderr, err)
		return exitImportError
	}
	doc, err := config.Marshal(spec)
	if err != nil {
		complain(stderr, err)
		return exitImportError
	}
	if i.output == "" {
		_, err = stdout.Write(doc)
	} else {
		err = os.WriteFile(i.output, doc, 0o666)
	}
	if err != nil {
		complain(stderr, err)
		return exitImportError
	}
	place := func(line int) (file string, at int) {
		f := max(0, sort.SearchInts(starts, line)-1)
		return i.files[f], max(0, line-starts[f])
	}
	i.tell(report, place, stderr)
	if i.strict && len(report.Losses) > 0 {
		return exitLosses
	}
	return exitOK
}

// tell writes the report, with lines as they are in the files.
func (i *importation) tell(r importing.Report, place func(int) (string, int), w io.Writer) {
	if i.json {
		type placed struct {
			importing.Loss
			File string `json:"file"`
		}
		losses := make([]placed, 0, len(r.Losses))
		for _, l := range r.Losses {
			p := placed{Loss: l}
			p.File, p.Line = place(l.Line)
			_, p.Object.Line = place(l.Object.Line)
			losses = append(losses, p)
		}
		for _, list := range [][]importing.Object{r.Imported, r.Skipped} {
			for k := range list {
				_, list[k].Line = place(list[k].Line)
			}
		}
		doc := struct {
			importing.Report
			Losses []placed `json:"losses"`
		}{r, losses}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(doc) // there is nobody left to tell
		return
	}
	for _, l := range r.Losses {
		file, line := place(l.Line)
		fmt.Fprintln(w, clean(fmt.Sprintf("%s:%d: %s: %s: %s: %s", file, line, l.Severity, l.Object, l.Path, l.Note)))
	}
	for _, o := range r.Skipped {
		file, line := place(o.Line)
		fmt.Fprintln(w, clean(fmt.Sprintf("%s:%d: skipped: %s", file, line, o)))
	}
	for _, s := range r.Services {
		fmt.Fprintln(w, clean(fmt.Sprint("the resolver has to know ", s)))
	}
	fmt.Fprintf(w, "imported %d objects, skipped %d, with %d losses\n", len(r.Imported), len(r.Skipped), len(r.Losses))
}

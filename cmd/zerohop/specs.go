package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	mesh "github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/config/gatewayapi"
	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/config/istio"
	"github.com/zerohop/zerohop/config/serviceconfig"
	"github.com/zerohop/zerohop/vet"
)

// importers are the formats of specs that are not zerohop's own.
var importers = map[string]func([]byte, importing.Options) (mesh.Spec, importing.Report, error){
	"gateway-api": gatewayapi.Import,
	"istio":       istio.Import,
	"grpc": func(docs []byte, opts importing.Options) (mesh.Spec, importing.Report, error) {
		if opts.Target == "" { // the service has the name of the file
			base := filepath.Base(opts.Name)
			opts.Target = strings.TrimSuffix(base, filepath.Ext(base))
		}
		return serviceconfig.Import(docs, opts)
	},
}

// format is how files of specs are read.
type format struct {
	from   string // "" for zerohop's own
	expand bool   // of the environment
}

// formats are the names that --from takes.
func formats() string {
	return strings.Join(append([]string{"zerohop"}, slices.Sorted(maps.Keys(importers))...), ", ")
}

// validate reports a format that does not exist.
func (f *format) validate() error {
	if f.from == "zerohop" {
		f.from = ""
	}
	if _, ok := importers[f.from]; !ok && f.from != "" {
		return fmt.Errorf("--from is %s, want one of %s", quote(f.from), formats())
	}
	return nil
}

// read returns the spec in a file. What an import loses is told by report.
func (f *format) read(name string, report io.Writer) (vet.Document, error) {
	data, err := readFile(name)
	if err != nil {
		return vet.Document{}, err
	}
	if f.from != "" {
		spec, lost, err := importers[f.from](data, importing.Options{Name: name})
		if err != nil {
			return vet.Document{}, err
		}
		if err := spec.Validate(); err != nil {
			return vet.Document{}, fmt.Errorf("%s: %w", name, err)
		}
		if n := len(lost.Losses); n > 0 {
			fmt.Fprintf(report, "zerohop: %s: %d fields were not carried over as they stand\n", clean(name), n)
		}
		return vet.Document{Name: name, Spec: spec}, nil
	}
	opts := config.ParseOptions{Name: name}
	if f.expand {
		opts.Expand = os.LookupEnv
	}
	d, err := config.Read(data, opts)
	switch {
	case err != nil:
	case d.Empty(): // which no mesh would take
		err = fmt.Errorf("%s: the document is empty: write {} for one that sets nothing", name)
	default:
		err = d.Explain(d.Spec.Validate())
	}
	if err != nil {
		return vet.Document{}, err
	}
	return vet.Document{Name: name, Spec: d.Spec, Locate: locate(d)}, nil
}

// locate returns where a document says what.
func locate(d *config.Document) func(string) (int, int) {
	return func(path string) (line, column int) {
		line, column, _ = d.Position(path)
		return line, column
	}
}

// maxFile bounds what is read of a file: specs have at most 1,000 routes.
const maxFile = 16 << 20

func readFile(name string) ([]byte, error) {
	file, err := os.Open(filepath.Clean(name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: more than %d MiB", name, maxFile>>20)
	}
	return data, err
}

// complain writes each line of an error.
func complain(w io.Writer, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(w, "zerohop:", clean(line))
	}
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	mesh "github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/vet"
)

// exitDifferent says that two specs differ.
const exitDifferent = 1

// specDiff is what diff tells.
type specDiff struct {
	// Fields are those in which the files differ.
	Fields []fieldChange `json:"fields"`
	// Effective is what changes for calls, with all defaults.
	Effective []effectiveChange `json:"effective"`
	// Resets is what loses its state if the new spec takes the place of the old one.
	Resets []string `json:"resets"`
	// Moves are the calls that go elsewhere.
	Moves []vet.Move `json:"moves"`
}

type fieldChange struct {
	Path string `json:"path"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// effectiveChange is a field of the policy of calls that has another value, and where that comes from.
type effectiveChange struct {
	// Service is empty for those that neither spec names, and Policy is that of a route, if any.
	Service   string `json:"service,omitempty"`
	Policy    string `json:"policy,omitempty"`
	Field     string `json:"field"`
	Old       string `json:"old,omitempty"`
	OldOrigin string `json:"old_origin,omitempty"`
	New       string `json:"new,omitempty"`
	NewOrigin string `json:"new_origin,omitempty"`
}

// diffCommand is the command diff.
func diffCommand(args []string, stdout, stderr io.Writer) int {
	var f format
	asJSON := false
	flags := flag.NewFlagSet("diff", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&f.from, "from", "", "")
	flags.BoolVar(&f.expand, "env", false, "")
	flags.BoolVar(&asJSON, "json", false, "")
	names, err := operands(flags, args)
	if err != nil {
		return misused(err, stdout, stderr)
	}
	err = f.validate()
	if len(names) != 2 {
		err = errors.Join(err, fmt.Errorf("want two files, OLD and NEW, got %d", len(names)))
	}
	if err != nil {
		complain(stderr, err)
		return exitUsage
	}
	old, oldErr := f.read(names[0], stderr)
	renewed, newErr := f.read(names[1], stderr)
	var d *specDiff
	if err = errors.Join(oldErr, newErr); err == nil {
		d, err = compareSpecs(old.Spec, renewed.Spec)
	}
	if err == nil {
		err = d.write(stdout, asJSON)
	}
	if err != nil {
		complain(stderr, err)
		return exitUsage
	}
	if len(d.Fields) > 0 {
		return exitDifferent
	}
	return exitOK
}

// nobody knows no service.
type nobody struct{}

func (nobody) Watch(ctx context.Context, _ string, _ func([]discovery.Endpoint)) error {
	<-ctx.Done()
	return ctx.Err()
}

// compareSpecs returns in what two valid specs differ.
func compareSpecs(old, renewed mesh.Spec) (*specDiff, error) {
	d := &specDiff{Fields: []fieldChange{}, Effective: []effectiveChange{}, Resets: []string{}, Moves: []vet.Move{}}
	for _, c := range mesh.Diff(old, renewed) {
		d.Fields = append(d.Fields, fieldChange(c))
	}
	m, err := mesh.New(mesh.Config{Resolver: nobody{}, Spec: old})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	change, err := m.Check(renewed)
	if err != nil {
		return nil, err
	}
	d.Resets = append(d.Resets, change.Resets...)
	moves, err := vet.Moves(old, renewed, time.Now())
	if err != nil {
		return nil, err
	}
	d.Moves = append(d.Moves, moves...)
	for _, u := range uses(old, renewed) {
		// What is told of two policies are the fields in which they differ as defaults.
		was, is := mesh.Spec{Defaults: old.Effective(u[0], u[1])}, mesh.Spec{Defaults: renewed.Effective(u[0], u[1])}
		for _, c := range mesh.Diff(was, is) {
			field := strings.TrimPrefix(c.Path, "defaults.")
			whole, _, _ := strings.Cut(field, "[")
			d.Effective = append(d.Effective, effectiveChange{
				Service: u[0], Policy: u[1], Field: field,
				Old: c.Old, OldOrigin: origin(old, u, whole), New: c.New, NewOrigin: origin(renewed, u, whole),
			})
		}
	}
	return d, nil
}

// origin says where the policy of calls has a field from.
func origin(s mesh.Spec, u [2]string, field string) string {
	if at := s.Origin(u[0], u[1], field); at != "" {
		return at
	}
	return "built-in"
}

// uses returns the services of two specs, each without a policy of a route and with those of the routes that lead to it. The
// first one stands for services without a name.
func uses(specs ...mesh.Spec) [][2]string {
	list := [][2]string{{}}
	add := func(service, policy string) {
		if u := [2]string{strings.ToLower(service), policy}; !slices.Contains(list, u) {
			list = append(list, u)
		}
	}
	for _, s := range specs {
		for _, name := range slices.Sorted(maps.Keys(s.Services)) {
			add(name, "")
		}
	}
	for _, s := range specs {
		for i := range s.Routes {
			r := &s.Routes[i]
			if r.Policy == "" {
				continue
			}
			if len(r.Backends) == 0 {
				add(r.Match.Service, r.Policy)
			}
			for _, b := range r.Backends {
				add(b.Service, r.Policy)
			}
		}
	}
	return list
}

// write writes all that differs, for people or as a document.
func (d *specDiff) write(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(d)
	}
	var b strings.Builder
	section := func(title string, n int, line func(i int) string) {
		if n == 0 {
			return
		}
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(title + "\n")
		for i := range n {
			b.WriteString("  " + clean(line(i)) + "\n")
		}
	}
	section("fields", len(d.Fields), func(i int) string { return mesh.FieldChange(d.Fields[i]).String() })
	section("what holds for calls", len(d.Effective), func(i int) string {
		c := d.Effective[i]
		to := c.Service
		if to == "" {
			to = "other services"
		}
		if c.Policy != "" {
			to += " under " + c.Policy
		}
		return fmt.Sprintf("%s: %s: %s -> %s", to, c.Field, valued(c.Old, c.OldOrigin), valued(c.New, c.NewOrigin))
	})
	section("what moves", len(d.Moves), func(i int) string { return d.Moves[i].String() })
	section("what begins anew", len(d.Resets), func(i int) string { return d.Resets[i] })
	_, err := io.WriteString(w, b.String())
	return err
}

func valued(value, origin string) string {
	if value == "" {
		return "none"
	}
	return value + " (" + origin + ")"
}

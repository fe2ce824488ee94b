package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/zerohop/zerohop/telemetry/incident"
)

// maxDumps bounds how many files are merged: each may take as much memory as it did in its process.
const maxDumps = 100

// inspecting are the arguments of the commands incident merge and incident show.
type inspecting struct {
	command  string // "merge" or "show"
	files    []string
	output   string
	json     bool
	all      bool
	service  string
	from, to string
	offsets  map[string]time.Duration

	begin, end time.Time // what from and to say, once the day is known
}

// parseInspecting returns what is in args, flags before or after the files. The error names all that is wrong.
func parseInspecting(args []string) (inspecting, error) {
	in := inspecting{offsets: map[string]time.Duration{}}
	if len(args) == 0 {
		return in, errors.New("want incident merge or incident show")
	}
	if in.command, args = args[0], args[1:]; in.command == "-h" || in.command == "--help" || in.command == "-help" {
		return in, flag.ErrHelp
	}
	if in.command != "merge" && in.command != "show" {
		return in, fmt.Errorf("unknown command incident %s, want merge or show", quote(in.command))
	}
	flags := flag.NewFlagSet("incident", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&in.output, "o", "", "")
	flags.BoolVar(&in.json, "json", false, "")
	flags.BoolVar(&in.all, "all", false, "")
	flags.StringVar(&in.service, "service", "", "")
	flags.StringVar(&in.from, "from", "", "")
	flags.StringVar(&in.to, "to", "", "")
	flags.Func("offset", "", func(text string) error {
		name, by, ok := strings.Cut(text, "=")
		d, err := time.ParseDuration(by)
		if !ok || name == "" || err != nil || d.Abs() > 100*24*time.Hour {
			return errors.New("want NAME=DURATION of at most 100 days, such as web-2=-1.5s")
		}
		in.offsets[name] = d
		return nil
	})
	var err error
	if in.files, err = operands(flags, args); err != nil {
		return in, err
	}
	var errs []error
	if len(in.files) == 0 {
		errs = append(errs, errors.New("want the names of FILEs with dumps"))
	}
	if len(in.files) > maxDumps {
		errs = append(errs, fmt.Errorf("%d files, want at most %d", len(in.files), maxDumps))
	}
	for _, t := range []struct{ flag, value string }{{"--from", in.from}, {"--to", in.to}} {
		if _, _, err := moment(t.value, time.Now()); err != nil {
			errs = append(errs, fmt.Errorf("%s is %s, want a time such as 15:04:05 or 2026-05-01T15:04:05Z, in UTC", t.flag, quote(t.value)))
		}
	}
	return in, errors.Join(errs...)
}

// moment returns the time that a text says, and whether it says no day: then it is that of another time. Of an empty text it is zero.
func moment(text string, day time.Time) (at time.Time, clock bool, err error) {
	if text == "" {
		return time.Time{}, false, nil
	}
	if t, err := time.Parse("15:04:05", text); err == nil { // fractions are taken too
		day = day.UTC()
		return time.Date(day.Year(), day.Month(), day.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC), true, nil
	}
	at, err = time.Parse(time.RFC3339, text)
	return at, false, err
}

// bound finds out what --from and --to mean in a timeline, which may go past midnight.
func (in *inspecting) bound(first, last time.Time) {
	begin, clock, _ := moment(in.from, first)
	if next := begin.AddDate(0, 0, 1); clock && begin.Before(first.Truncate(time.Second)) && !next.After(last) {
		begin = next
	}
	end, clock, _ := moment(in.to, first)
	if clock && end.Before(first.Truncate(time.Second)) {
		end = end.AddDate(0, 0, 1)
	}
	in.begin, in.end = begin, end
}

// load returns the timeline of the files.
func (in *inspecting) load() (*incident.Timeline, error) {
	var dumps []*incident.Dump
	var errs []error
	for _, path := range in.files {
		d, err := readDump(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		dumps = append(dumps, d)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for name := range in.offsets {
		known := false
		for _, d := range dumps {
			known = known || d.Name == name || d.Header.Process.Instance == name
		}
		if !known {
			return nil, fmt.Errorf("--offset names %s, which is neither a file nor an instance", quote(name))
		}
	}
	t := incident.Merge(dumps, in.offsets)
	if len(t.Events) > 0 {
		in.bound(t.Events[0].Time, t.Events[len(t.Events)-1].Time)
	}
	return t, nil
}

func readDump(path string) (*incident.Dump, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return incident.Read(f, path)
}

// incidentCommand is the command incident.
func incidentCommand(args []string, stdout, stderr io.Writer) int {
	in, err := parseInspecting(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
		return exitOK
	}
	var t *incident.Timeline
	if err == nil {
		t, err = in.load()
	}
	if err != nil {
		complain(stderr, err)
		return exitUsage
	}
	for i := range t.Sources {
		if s := &t.Sources[i]; s.Doubt != "" {
			complain(stderr, fmt.Errorf("%s: its clock is taken as it is: %s; give --offset if it is wrong", s.Name(), s.Doubt))
		}
	}
	if err := in.write(t, stdout); err != nil {
		complain(stderr, err)
		return exitNone
	}
	return exitOK
}

// write writes what was asked for to a file or to w.
func (in *inspecting) write(t *incident.Timeline, w io.Writer) (err error) {
	if in.output != "" {
		f, err := os.OpenFile(in.output, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		if err := in.writeTo(t, f); err != nil {
			return errors.Join(err, f.Close())
		}
		return f.Close()
	}
	return in.writeTo(t, w)
}

func (in *inspecting) writeTo(t *incident.Timeline, w io.Writer) error {
	findings := incident.Analyse(t, incident.Scope{Service: in.service, From: in.begin, To: in.end}) // of all events: the cause may be out of scope
	kept := t.Events[:0]
	for _, e := range t.Events {
		outside := !in.begin.IsZero() && e.Time.Before(in.begin) || !in.end.IsZero() && e.Time.After(in.end)
		if !outside && (in.service == "" || e.Service == in.service || e.Service == "") {
			kept = append(kept, e)
		}
	}
	t.Events = kept
	b := bufio.NewWriter(w)
	switch {
	case in.json:
		if err := writeEvents(b, t, findings); err != nil {
			return err
		}
	case in.command == "merge":
		writeTimeline(b, t, in.all)
	default:
		writeIncident(b, t, findings, in.all)
	}
	return b.Flush()
}

// A line of JSON is a source, a finding or an event; its field "kind" says which.
type (
	sourceLine struct {
		Kind    string           `json:"kind"`
		Name    string           `json:"name"`
		Process incident.Process `json:"process"`
		Files   []string         `json:"files"`
		From    time.Time        `json:"from"`
		To      time.Time        `json:"to"`
		Offset  time.Duration    `json:"offset"`
		Marks   int              `json:"marks"`
		Doubt   string           `json:"doubt,omitempty"`
		Broken  string           `json:"incomplete,omitempty"`
		Lost    bool             `json:"lost,omitempty"`
		Bounds  []time.Duration  `json:"bounds"`
	}
	findingLine struct {
		Kind string `json:"kind"`
		incident.Finding
	}
	eventLine struct {
		Time    time.Time `json:"time"`
		Process string    `json:"process"`
		incident.Entry
	}
)

func writeEvents(w io.Writer, t *incident.Timeline, findings []incident.Finding) error {
	enc := json.NewEncoder(w)
	for i := range t.Sources {
		s := &t.Sources[i]
		if err := enc.Encode(sourceLine{"source", s.Name(), s.Process, s.Files, s.From, s.To, s.Offset, s.Marks, s.Doubt, s.Incomplete, s.Lost, s.Bounds}); err != nil {
			return err
		}
	}
	for _, f := range findings {
		if err := enc.Encode(findingLine{"finding", f}); err != nil {
			return err
		}
	}
	for i := range t.Events {
		e := &t.Events[i]
		if err := enc.Encode(eventLine{e.Time.UTC(), t.Sources[e.Source].Name(), *e.Entry}); err != nil {
			return err
		}
	}
	return nil
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/zerohop/zerohop/discovery"
)

// jsonPrinter writes a document, on a line of its own, for each report.
type jsonPrinter struct{ w io.Writer }

// document is a report in JSON.
type document struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	Source  string    `json:"source"`
	// Event is that of discovery.EventKind: "published", "watch failed", "empty held" and so on.
	Event string `json:"event"`
	// Count is the size of the set in use, and Held how many of it the source does not list any more.
	Count int `json:"count"`
	Held  int `json:"held"`
	// NotHeardSince is missing while the source is heard. Before the first answer it is the start.
	NotHeardSince *time.Time `json:"not_heard_since,omitempty"`
	// Endpoints is the set in use. It is missing unless the set is new.
	Endpoints *[]documentEndpoint `json:"endpoints,omitempty"`
	// Added, Removed and Changed are addresses.
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
	Changed []string `json:"changed,omitempty"`
	// Error is the reason, and WaitSeconds the time until the next watch after one that failed.
	Error       string  `json:"error,omitempty"`
	WaitSeconds float64 `json:"wait_seconds,omitempty"`
	// Dropped counts what was left out of the answer.
	Dropped *documentDropped `json:"dropped,omitempty"`
}

// documentEndpoint is a discovery.Endpoint, with the time of its last change.
type documentEndpoint struct {
	Addr     string            `json:"addr"`
	Weight   uint32            `json:"weight"`
	Zone     string            `json:"zone,omitempty"`
	Priority uint8             `json:"priority"`
	Health   string            `json:"health"`
	Meta     map[string]string `json:"meta,omitempty"`
	Since    time.Time         `json:"since"`
}

// documentDropped is discovery.Dropped.
type documentDropped struct {
	Addr      int `json:"addr,omitempty"`
	Refused   int `json:"refused,omitempty"`
	Duplicate int `json:"duplicate,omitempty"`
	Zone      int `json:"zone,omitempty"`
	Weight    int `json:"weight,omitempty"`
	Meta      int `json:"meta,omitempty"`
}

func (p jsonPrinter) print(r report) error {
	text, err := json.Marshal(documentOf(r))
	if err != nil {
		return err
	}
	_, err = io.WriteString(p.w, escaped(string(text))+"\n")
	return err
}

func (jsonPrinter) tick(time.Time) error { return nil }

func documentOf(r report) document {
	e := r.event
	d := document{
		Time: r.time.UTC(), Service: r.service, Source: r.source, Event: r.kind.String(),
		Count: len(r.set), Held: e.Held, WaitSeconds: e.Wait.Seconds(),
	}
	if !e.Lost.IsZero() {
		lost := e.Lost.UTC()
		d.NotHeardSince = &lost
	}
	if e.Err != nil {
		d.Error = e.Err.Error()
	}
	if e.Dropped != (discovery.Dropped{}) {
		dropped := documentDropped(e.Dropped)
		d.Dropped = &dropped
	}
	if r.first || len(r.changes) > 0 {
		set := make([]documentEndpoint, 0, len(r.set))
		for _, e := range r.set {
			set = append(set, documentEndpoint{
				Addr: e.Addr, Weight: max(e.Weight, 1), Zone: e.Zone, Priority: e.Priority, Health: e.Health.String(),
				Meta: e.Meta, Since: e.since.UTC(),
			})
		}
		d.Endpoints = &set
	}
	for _, c := range r.changes {
		switch c.sign {
		case '+':
			d.Added = append(d.Added, c.entry.Addr)
		case '-':
			d.Removed = append(d.Removed, c.entry.Addr)
		case '~':
			d.Changed = append(d.Changed, c.entry.Addr)
		}
	}
	return d
}

// escaped returns JSON that means the same and that terminals show as it is: json.Marshal leaves some control characters.
func escaped(doc string) string {
	if !strings.ContainsFunc(doc, unsafeRune) {
		return doc
	}
	var b strings.Builder
	for _, r := range doc {
		if !unsafeRune(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/zerohop/zerohop/discovery"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// story is what a source may go through, as reports.
func story() []report {
	start := time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)
	h := history{service: "orders", source: "consul://127.0.0.1:8500"}
	var reports []report
	at := func(seconds int, e discovery.Event) {
		e.Endpoints = len(h.set)
		reports = append(reports, h.event(start.Add(time.Duration(seconds)*time.Second), e))
	}
	a := discovery.Endpoint{Addr: "10.0.0.1:8080", Weight: 1, Zone: "eu-1"}
	b := discovery.Endpoint{Addr: "10.0.0.2:8080", Weight: 3, Zone: "eu-2", Meta: map[string]string{"version": "2", "team": "a b", "commit": "0123456789abcdef0123456789abcdef"}}
	c := discovery.Endpoint{Addr: "[2001:db8::1]:8080", Priority: 1, Health: discovery.Draining}
	at(0, discovery.Event{Kind: discovery.EventWatchFailed, Err: errors.New("connection refused"), Wait: 250 * time.Millisecond, Lost: start})
	h.update([]discovery.Endpoint{a, b})
	at(1, discovery.Event{Kind: discovery.EventPublished})
	a.Weight, a.Health = 2, discovery.Unhealthy
	h.update([]discovery.Endpoint{a, b, c})
	at(61, discovery.Event{Kind: discovery.EventPublished})
	for range 2 { // lines tell it once
		at(70, discovery.Event{Kind: discovery.EventEndpointsDropped, Dropped: discovery.Dropped{Refused: 1, Meta: 2},
			Err: discovery.AddressPolicy{}.Check("127.0.0.1:80")})
	}
	at(71, discovery.Event{Kind: discovery.EventRemovalHeld, Held: 2})
	at(72, discovery.Event{Kind: discovery.EventAnswerRejected, Held: 2, Lost: start.Add(72 * time.Second), Err: errors.New("no usable endpoint")})
	at(80, discovery.Event{Kind: discovery.EventConfirmed})
	h.update([]discovery.Endpoint{c})
	at(90, discovery.Event{Kind: discovery.EventPublished})
	at(95, discovery.Event{Kind: discovery.EventEmptyHeld, Held: 1})
	h.update(nil)
	at(100, discovery.Event{Kind: discovery.EventPublished})
	return reports
}

func TestPrintersTellTheWholeStory(t *testing.T) {
	var tables, lines, documents bytes.Buffer
	for _, p := range []printer{&tablePrinter{w: &tables}, &linePrinter{w: &lines}, jsonPrinter{&documents}} {
		for _, r := range story() {
			if err := p.print(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, got := range map[string]string{"table": tables.String(), "lines": lines.String(), "json": documents.String()} {
		path := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestPrintersLetNoTextReachTheTerminal(t *testing.T) {
	hostile := "\x1b[2J\r\n\t\x00\x7f\u009b31m\u202e\u2028\xff\U000e0041"
	h := history{service: hostile, source: hostile}
	h.update([]discovery.Endpoint{{Addr: hostile, Zone: hostile, Meta: map[string]string{hostile: hostile}}})
	reports := []report{h.event(time.Time{}.Add(time.Hour), discovery.Event{Kind: discovery.EventPublished})}
	h.update([]discovery.Endpoint{{Addr: hostile, Zone: "x", Meta: map[string]string{"x": hostile}}})
	reports = append(reports, h.event(time.Time{}.Add(time.Hour), discovery.Event{Kind: discovery.EventPublished}))
	for kind := discovery.EventPublished; kind <= discovery.EventSnapshotRejected; kind++ {
		reports = append(reports, h.event(time.Time{}.Add(time.Hour), discovery.Event{Kind: kind, Err: errors.New(hostile), Dropped: discovery.Dropped{Addr: 1}}))
	}
	var out bytes.Buffer
	for _, p := range []printer{&tablePrinter{w: &out}, &linePrinter{w: &out}, jsonPrinter{&out}} {
		for _, r := range reports {
			if err := p.print(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, r := range strings.ToValidUTF8(out.String(), "\x00") {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("%U at %d of %q", r, i, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var d document
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(hostile, "\ufffd"); d.Service != want {
			t.Fatalf("service is %q, want %q", d.Service, want)
		}
	}
}

func TestScreenNeitherWrapsNorScrolls(t *testing.T) {
	var set []entry
	for i := range 100 {
		set = append(set, entry{Endpoint: discovery.Endpoint{Addr: "10.0.0.1:80", Zone: strings.Repeat("é", i)}})
	}
	p := tablePrinter{last: story()[5], trouble: story()[5]}
	for height := 1; height < 12; height++ {
		got := screen(table(set, time.Time{}, true), p.status(time.Time{}), 20, height)
		rows := strings.Split(strings.TrimSuffix(strings.TrimPrefix(got, "\x1b[H"), "\x1b[J"), "\r\n")
		if len(rows) > height {
			t.Errorf("%d rows on a screen of %d:\n%q", len(rows), height, got)
		}
		for _, row := range rows {
			if n := len([]rune(strings.TrimSuffix(row, "\x1b[K"))); n >= 20 {
				t.Errorf("%d columns on a screen of 20: %q", n, row)
			}
		}
		if height == 8 && !strings.Contains(got, "... 97 more") {
			t.Errorf("screen() = %q, want the rows left out to be counted", got)
		}
	}
}

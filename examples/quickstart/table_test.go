package main

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var updateGolden = flag.Bool("update", false, "write the golden files")

// exampleShow is a run in its last phase.
func exampleShow(out *screen) *show {
	s := newShow(out, 5*time.Second)
	s.done = len(story) - 1
	s.noticed = 1900 * time.Millisecond
	for i, name := range names {
		s.backends[i] = &process{name: name, state: beHealthy}
	}
	s.backends[1].state, s.backends[2].state, s.backends[3].state = beSlow, beFailing, beKilled
	for n := range s.results {
		for c := range columns {
			t := &s.results[n][c]
			for i := range 1000 {
				t.begin(0)
				switch {
				case c == 0 && i%4 == n, c == 3 && n == 1 && i == 0:
					t.record(0, errors.New("status 503 Service Unavailable"))
				case c == 2 && n == 3:
					t.record(time.Duration(900+i)*time.Millisecond, nil)
				default:
					t.record(time.Duration(9000+10*i)*time.Microsecond, nil)
				}
				if c != 1 || i%3 > 0 {
					t.execute((i + c) % backends)
				}
			}
		}
	}
	return s
}

func TestPictureFitsATerminal(t *testing.T) {
	s := exampleShow(&screen{})
	lines := s.picture(3, 1500*time.Millisecond)
	got := strings.Join(lines, "\n") + "\n"
	golden := filepath.Join("testdata", "picture.golden")
	if *updateGolden {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.ReplaceAll(string(want), "\r\n", "\n"), got); diff != "" {
		t.Errorf("picture (-want +got):\n%s", diff)
	}
	if len(lines) > 24 {
		t.Errorf("%d lines, want at most 24", len(lines))
	}
	for _, line := range lines {
		if n := utf8.RuneCountInString(line); n > 79 {
			t.Errorf("%d columns in %q, want at most 79", n, line)
		}
	}

	// With colour it is the same picture.
	s.painter = painter{colour: true}
	coloured := strings.Join(s.picture(3, 1500*time.Millisecond), "\n") + "\n"
	if !strings.Contains(coloured, "\x1b[31m") {
		t.Errorf("no red in %q", coloured)
	}
	trailing := regexp.MustCompile(`(?m) +$`)
	if bare := regexp.MustCompile(`\x1b\[\d+m`).ReplaceAllString(coloured, ""); trailing.ReplaceAllString(bare, "") != got {
		t.Errorf("without its colours the picture is\n%s, want\n%s", bare, got)
	}
}

func TestEndSaysWhatWasLost(t *testing.T) {
	var out strings.Builder
	s := exampleShow(&screen{out: &out})
	s.end()
	for _, want := range []string{
		"Interrupted in phase 4 of 4.\n", "Of 6000 calls each, the plain clients lost 750 and zerohop 1.\n",
		"The first one lost with zerohop: status 503 Service Unavailable\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("end does not say %q:\n%s", want, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("%d columns in %q, want at most 79", n, line)
		}
	}
}

func TestSuccessIsNeverRoundedUp(t *testing.T) {
	for _, c := range []struct {
		calls, failed int
		want          string
		verdict       style
	}{
		{0, 0, "-", plain}, {7, 0, "100.00 %", good}, {1_000_000, 1, "99.99 %", good}, {1000, 1, "99.90 %", good},
		{999, 1, "99.89 %", bad}, {3, 1, "66.66 %", bad}, {3, 3, "0.00 %", bad},
	} {
		s := stats{calls: c.calls, failed: c.failed}
		if got := success(s); got != c.want || verdict(s) != c.verdict {
			t.Errorf("success of %d calls, %d lost = %q in style %q, want %q in %q", c.calls, c.failed, got, verdict(s), c.want, c.verdict)
		}
	}
}

func TestLatencyHasThreeDigitsAtMost(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "-", 1: "0.0 ms", 9949 * time.Microsecond: "9.9 ms", 9950 * time.Microsecond: "10 ms",
		999499 * time.Microsecond: "999 ms", 999500 * time.Microsecond: "1.00 s", time.Second: "1.00 s",
	} {
		if got := latency(d); got != want {
			t.Errorf("latency(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestBarIsFullAtHalf(t *testing.T) {
	for _, c := range []struct {
		n, of int
		want  string
	}{
		{0, 0, ""}, {0, 9, ""}, {1, 1000, ""}, {1, 100, "▏"}, {25, 100, "███"}, {49, 100, "█████▉"}, {50, 100, "██████"}, {9, 9, "██████"},
	} {
		if got := bar(c.n, c.of); got != c.want {
			t.Errorf("bar(%d, %d) = %q, want %q", c.n, c.of, got, c.want)
		}
	}
}

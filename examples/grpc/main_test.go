package main

import (
	"os/exec"
	"regexp"
	"testing"
)

// TestOutput runs the program as its opening comment says.
func TestOutput(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "run", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go run: %v\n%s", err, out)
	}
	const answered = `\d{3,} calls: all answered in \d+ attempts\n`
	const explained = `(  one of them: first attempt to [abc], Unavailable; retry to [abc], OK\n)?`
	want := regexp.MustCompile(`\A` + answered + `[abc] breaks\n` + answered +
		`  one of them: first attempt to [abc], Unavailable; retry to [abc], OK\n` +
		`[abc] leaves\n` + answered + explained + `[abc] is repaired\n` +
		`watching: 100 pieces\nan order of 30 leaves 70\nwatching: 70 pieces\n\z`)
	if !want.Match(out) {
		t.Errorf("output does not match %v:\n%s", want, out)
	}
}

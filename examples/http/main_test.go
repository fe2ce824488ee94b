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
	want := regexp.MustCompile(`\A(hello from [ab]\n){2}` +
		`(hello from a\na stops\n(hello from b\n){3}|hello from b\nb stops\n(hello from a\n){3})\z`)
	if !want.Match(out) {
		t.Errorf("output does not match %v:\n%s", want, out)
	}
}

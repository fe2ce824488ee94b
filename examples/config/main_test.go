package main

import (
	"io"
	"os"
	"strings"
	"testing"
)

// TestOutput runs the program, which prints what its opening comment says.
func TestOutput(t *testing.T) {
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, comment, _ := strings.Cut(string(source), "It prints:\n//\n//\t")
	comment, _, _ = strings.Cut(comment, "\npackage main")
	want := strings.ReplaceAll(comment, "\n//\t", "\n")
	read, write, err := os.Pipe() // takes the little that is printed without anybody reading
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = write
	main()
	os.Stdout = stdout
	write.Close()
	got, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want+"\n" {
		t.Errorf("output is\n%s\nwant\n%s", got, want)
	}
}

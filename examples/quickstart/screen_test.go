package main

import (
	"os"
	"strings"
	"testing"
)

func TestScreenIsPlainWithoutATerminal(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if s := newScreen(f); s.live || s.colour {
		t.Errorf("newScreen(file) = %+v, want neither live nor colour", s)
	}
}

func TestScreenIsGivenBackAsItWas(t *testing.T) {
	var out strings.Builder
	s := &screen{out: &out, live: true}
	s.open()
	s.draw([]string{"one", "two"})
	s.close()
	s.print("three", "four")
	want := "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J" + "\x1b[1;1Hone\x1b[K\x1b[2;1Htwo\x1b[K\x1b[J" + "\x1b[?7h\x1b[?25h\x1b[?1049l" + "three\nfour\n"
	if got := out.String(); got != want {
		t.Errorf("written %q, want %q", got, want)
	}
}

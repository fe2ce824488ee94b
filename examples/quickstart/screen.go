package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// screen is where the program shows itself: in a terminal a picture that is drawn again and again, and else lines.
type screen struct {
	painter
	out  io.Writer
	live bool
}

// newScreen finds out what standard output is.
func newScreen(out *os.File) *screen {
	info, err := out.Stat()
	live := err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb" && understandsEscapes(out)
	return &screen{painter: painter{colour: live && os.Getenv("NO_COLOR") == ""}, out: out, live: live}
}

// open takes the screen over and close gives it back as it was.
func (s *screen) open() {
	if s.live {
		s.write("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J") // other screen, no cursor, no line wrap, clear
	}
}

func (s *screen) close() {
	if s.live {
		s.write("\x1b[?7h\x1b[?25h\x1b[?1049l")
	}
}

// draw shows a picture in place of the one before. It goes out in one piece and nothing is cleared before it is
// drawn over, so it does not flicker. What does not fit the terminal is cut off.
func (s *screen) draw(lines []string) {
	var b strings.Builder
	for i, line := range lines {
		fmt.Fprintf(&b, "\x1b[%d;1H%s\x1b[K", i+1, line)
	}
	b.WriteString("\x1b[J")
	s.write(b.String())
}

// print adds lines that stay.
func (s *screen) print(lines ...string) { s.write(strings.Join(lines, "\n") + "\n") }

func (s *screen) write(text string) { _, _ = io.WriteString(s.out, text) } // nobody is there to be told

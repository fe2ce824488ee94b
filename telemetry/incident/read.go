package incident

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Bounds of what Read takes. A dump of the default size has 20 MB of text.
const (
	maxDumpBytes = 256 << 20 // when it is not compressed
	maxLine      = 64 << 10
	maxEntries   = 500_000
	// maxRatio is how much larger than itself a compressed file may be once it is not small: dumps are 10 to 30 times, bombs 1,000.
	maxRatio = 200
	// maxAge bounds times, so that sums of them do not overflow.
	maxAge = 50 * 365 * 24 * time.Hour
)

// Dump is a dump that was read.
type Dump struct {
	// Name is that of the file.
	Name   string
	Header Header
	// Entries are in the order of the file.
	Entries []Entry
	// Incomplete says why the dump does not go to its end, empty if it does.
	Incomplete string
}

// Read reads a dump. Of one that breaks off it returns what there is, and says so in Dump.Incomplete; the error, which has the name and
// the line, is for what is no dump, has been tampered with, or is larger than any dump.
func Read(r io.Reader, name string) (*Dump, error) {
	packed := &counter{r: r}
	head := bufio.NewReader(packed)
	plain := io.Reader(head)
	magic, _ := head.Peek(2)
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		zip, err := gzip.NewReader(head)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		zip.Multistream(false)
		plain = zip
	}
	bounded := &counter{r: plain, packed: packed}
	lines := bufio.NewScanner(bounded)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	d := &Dump{Name: name}
	n := 0
	fail := func(format string, args ...any) (*Dump, error) {
		return nil, fmt.Errorf("%s:%d: %w", name, n, fmt.Errorf(format, args...))
	}
	ended := false
	for lines.Scan() {
		n++
		line := lines.Bytes()
		switch {
		case ended:
			return fail("text after the end")
		case n == 1:
			if err := json.Unmarshal(line, &d.Header); err != nil || d.Header.Format != Format {
				return fail("no dump of an incident: the first line is no header")
			}
			if err := d.Header.validate(); err != nil {
				return fail("%w", err)
			}
			continue
		}
		var e struct {
			Entry
			Footer
		}
		if err := json.Unmarshal(line, &e); err != nil {
			if n++; !lines.Scan() && lines.Err() != nil {
				break // the rest of a line that could not be read to its end
			}
			n--
			return fail("%w", err)
		}
		if e.End != nil {
			if *e.End != len(d.Entries) {
				return fail("%d entries, but the end says %d", len(d.Entries), *e.End)
			}
			ended = true
			continue
		}
		if err := e.Entry.validate(len(d.Header.Bounds)); err != nil {
			return fail("%w", err)
		}
		if len(d.Entries) == maxEntries {
			return fail("more than %d entries", maxEntries)
		}
		d.Entries = append(d.Entries, e.Entry)
	}
	err := lines.Err()
	n++
	switch {
	case errors.Is(err, errTooLarge):
		return fail("%w", err)
	case errors.Is(err, bufio.ErrTooLong):
		return fail("longer than %d bytes", maxLine)
	case n == 2 && err != nil || n == 1:
		n = 1
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return fail("%w", err)
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return fail("%w", err) // such as a wrong checksum
	case !ended:
		d.Incomplete = fmt.Sprintf("breaks off after line %d", n-1)
	}
	return d, nil
}

var errTooLarge = errors.New("too large for a dump, or a bomb")

// A counter refuses to read too much.
type counter struct {
	r      io.Reader
	n      int64
	packed *counter // what is unpacked, nil if that is itself
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if c.n > maxDumpBytes || c.packed != nil && c.n > 4<<20 && c.n > maxRatio*c.packed.n {
		return 0, errTooLarge
	}
	return n, err
}

func (h *Header) validate() error {
	switch {
	case h.Version < 1:
		return fmt.Errorf("version is %d", h.Version)
	case h.Version > Version:
		return fmt.Errorf("version is %d, this program reads up to %d: use a newer one", h.Version, Version)
	case h.At < 0 || h.At > maxAge:
		return fmt.Errorf("at is %d", h.At)
	case h.Wall.Year() < 1990 || h.Wall.Year() > 2200:
		return fmt.Errorf("wall is %v", h.Wall)
	case len(h.Bounds) > 1000:
		return fmt.Errorf("%d bounds", len(h.Bounds))
	}
	for i, b := range h.Bounds {
		if b <= 0 || i > 0 && b <= h.Bounds[i-1] {
			return fmt.Errorf("bounds[%d] is %d, want more than the one before", i, b)
		}
	}
	p := &h.Process
	for _, s := range []*string{&p.Instance, &p.Zone, &p.Mesh, &p.Program, &p.Go, &p.Module, &p.Version, &p.Revision} {
		*s = name(*s)
	}
	return nil
}

func (e *Entry) validate(bounds int) error {
	if e.Kind == "" {
		return errors.New("kind is missing")
	}
	for _, d := range []time.Duration{e.At, e.For, e.Took} {
		if d < -maxAge || d > maxAge {
			return fmt.Errorf("time out of range: %d", d)
		}
	}
	if math.IsNaN(e.Value) || math.IsInf(e.Value, 0) {
		return errors.New("value is no number")
	}
	for _, s := range []*string{(*string)(&e.Kind), &e.Service, &e.Route, &e.Addr, &e.Zone, &e.Cause, &e.By} {
		*s = name(*s)
	}
	e.Text = printable(cut(e.Text, maxText))
	if c := e.Call; c != nil {
		if len(c.Tries) > 100 || len(c.Refusals) > 100 {
			return errors.New("too many tries or refusals")
		}
		for _, t := range c.Tries {
			if t.Start < -maxAge || t.Start > maxAge {
				return fmt.Errorf("time out of range: %d", t.Start)
			}
		}
	}
	s := e.Second
	if (e.Kind == KindSecond) != (s != nil) {
		return errors.New("a second without its sums, or sums of something else")
	}
	if s == nil {
		return nil
	}
	const most = 1 << 40
	for _, n := range []uint64{s.Calls, s.Bad, s.Canceled, s.Slow, s.Retries, s.Backups, s.Refused, s.FellBack} {
		if n > most {
			return fmt.Errorf("%d of something in a second", n)
		}
	}
	if len(s.Flags) > 100 || len(s.Attempts) > 100 {
		return errors.New("too many flags or failures")
	}
	for _, n := range s.Flags {
		if n > most {
			return fmt.Errorf("%d calls in a second", n)
		}
	}
	for _, n := range s.Attempts {
		if n > most {
			return fmt.Errorf("%d attempts in a second", n)
		}
	}
	if len(s.Addrs) > 100 {
		return errors.New("too many addresses")
	}
	for _, n := range s.Addrs {
		if n > most {
			return fmt.Errorf("%d attempts in a second", n)
		}
	}
	for _, p := range s.Latency {
		if p[0] > uint64(bounds) || p[1] > most {
			return fmt.Errorf("bucket %d of latency with %d calls", p[0], p[1])
		}
	}
	return nil
}

// Wall returns when something was by the clock of the wall of its process.
func (d *Dump) Wall(at time.Duration) time.Time { return d.Header.Wall.Add(at - d.Header.At) }

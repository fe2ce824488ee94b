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

// Bounds of what Read takes. A dump of the default size has 20 MB of text, and one of maxMemory at most some 1.2 million entries.
const (
	maxDumpBytes = 256 << 20 // when it is not compressed
	maxLine      = 64 << 10
	maxEntries   = 1_250_000
	// maxRatio is how much larger than itself a compressed file may be once it is not small: dumps are 10 to 30 times, bombs 1,000.
	maxRatio = 200
	// maxNames is how many names are kept once rather than in each entry: a made-up file may have as many as entries.
	maxNames = 100_000
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
	names := map[string]string{} // that come again and again
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
		for _, s := range e.names() {
			if known, ok := names[*s]; ok {
				*s = known
			} else if len(names) < maxNames {
				names[*s] = *s
			}
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
	if _, more := head.ReadByte(); err == nil && more == nil {
		return fail("more after the end: read one dump at a time")
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

// names are those that most entries have.
func (e *Entry) names() [7]*string {
	return [...]*string{(*string)(&e.Kind), &e.Service, &e.Route, &e.Addr, &e.Zone, &e.Cause, &e.By}
}

// validate says what no recorder writes, and replaces what a terminal or a browser might obey.
func (e *Entry) validate(bounds int) error {
	if e.Kind == "" {
		return errors.New("kind is missing")
	}
	if err := inTime(e.At, e.For, e.Took); err != nil {
		return err
	}
	if e.Out < 0 || e.Out > maxCount || e.Endpoints < 0 || e.Endpoints > maxCount {
		return fmt.Errorf("%d of %d endpoints", e.Out, e.Endpoints)
	}
	for _, s := range e.names() {
		*s = name(*s)
	}
	e.Text = printable(cut(e.Text, maxText))
	if len(e.Fields) > maxItems {
		return fmt.Errorf("%d fields", len(e.Fields))
	}
	for i, f := range e.Fields {
		e.Fields[i] = printable(cut(f, maxText))
	}
	if e.Call != nil {
		if err := e.Call.validate(); err != nil {
			return err
		}
	}
	if (e.Kind == KindSecond) != (e.Second != nil) {
		return errors.New("a second without its sums, or sums of something else")
	}
	if e.Second != nil {
		return e.Second.validate(bounds)
	}
	return nil
}

const (
	maxItems = 100           // of a list
	maxCount = math.MaxInt32 // of anything in a second
)

func inTime(list ...time.Duration) error {
	for _, d := range list {
		if d < -maxAge || d > maxAge {
			return fmt.Errorf("time out of range: %d", d)
		}
	}
	return nil
}

func (c *Call) validate() error {
	if len(c.Tries) > maxItems || len(c.Refusals) > maxItems {
		return errors.New("too many tries or refusals")
	}
	if err := inTime(c.Took, c.Left); err != nil {
		return err
	}
	for _, s := range []*string{&c.Protocol, &c.Method, &c.Flag, &c.Reason, &c.Detail} {
		*s = name(*s)
	}
	for i, r := range c.Refusals {
		c.Refusals[i] = name(r)
	}
	for i := range c.Tries {
		t := &c.Tries[i]
		if err := inTime(t.Start, t.Took); err != nil {
			return err
		}
		if len(t.Removed) > maxItems || len(t.Compared) > maxItems {
			return errors.New("too many endpoints removed or compared")
		}
		for _, s := range []*string{&t.Addr, &t.Zone, &t.Cause, &t.Outcome, &t.Flag} {
			*s = name(*s)
		}
		t.Text = printable(cut(t.Text, maxText))
		for i, c := range t.Compared {
			t.Compared[i] = printable(cut(c, maxText))
		}
		renamed(t.Removed)
	}
	return nil
}

func (s *Second) validate(bounds int) error {
	for _, n := range []uint64{s.Calls, s.Bad, s.Canceled, s.Slow, s.Retries, s.Backups, s.Refused, s.FellBack} {
		if n > maxCount {
			return fmt.Errorf("%d of something in a second", n)
		}
	}
	if len(s.Flags) > maxItems || len(s.Attempts) > maxItems || len(s.Addrs) > maxItems {
		return errors.New("too many flags, failures or addresses")
	}
	for _, m := range []map[string]uint64{s.Flags, s.Addrs} {
		for _, n := range m {
			if n > maxCount {
				return fmt.Errorf("%d of something in a second", n)
			}
		}
		renamed(m)
	}
	for _, n := range s.Attempts {
		if n > maxCount {
			return fmt.Errorf("%d attempts in a second", n)
		}
	}
	renamed(s.Attempts)
	for i, p := range s.Latency {
		if p[0] > uint64(bounds) || p[1] > maxCount {
			return fmt.Errorf("bucket %d of latency with %d calls", p[0], p[1])
		}
		if i > 0 && p[0] <= s.Latency[i-1][0] { // Add relies on it
			return fmt.Errorf("bucket %d of latency after bucket %d", p[0], s.Latency[i-1][0])
		}
	}
	return nil
}

// renamed makes names of the keys of a map.
func renamed[K ~string, V ~int | ~uint64](m map[K]V) {
	for k, v := range m {
		if safe := K(name(string(k))); safe != k {
			delete(m, k)
			m[safe] += v
		}
	}
}

// Wall returns when something was by the clock of the wall of its process.
func (d *Dump) Wall(at time.Duration) time.Time { return d.Header.Wall.Add(at - d.Header.At) }

package incident

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
)

// Format is the value of Header.Format, and Version that of Header.Version in dumps of this version of the package.
const (
	Format  = "zerohop incident"
	Version = 1
)

// Header is the first line of a dump. The lines that follow are entries in about the order of their time, and the last one a Footer.
// All are JSON, and the whole is compressed by gzip. Later versions may add fields, which readers must ignore; Version changes if
// anything else does.
type Header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Process is what the dump is of.
	Process Process `json:"process"`
	// Start is when the recorder began, by the clock of the wall then: what Entry.At counts from.
	Start time.Time `json:"start"`
	// Wall is the time of the dump by the clock of the wall, and At the same counted from Start by a clock that nobody sets. So an entry
	// was at Wall - (At - Entry.At), as far as the clock of the wall was right at the time of the dump.
	Wall time.Time     `json:"wall"`
	At   time.Duration `json:"at"`
	// Why is "request" or "slo".
	Why string `json:"why"`
	// States, Traffic and Seconds say how far back the dump goes: for what happened to the mesh, to calls, and for sums.
	States  RingState `json:"states"`
	Traffic RingState `json:"traffic"`
	Seconds RingState `json:"seconds"`
	// Bounds are the upper bounds of the buckets of Second.Latency in nanoseconds.
	Bounds []time.Duration `json:"bounds"`
}

// Process says whose dump it is.
type Process struct {
	Instance string `json:"instance"`
	Zone     string `json:"zone,omitempty"`
	Mesh     string `json:"mesh,omitempty"`
	PID      int    `json:"pid"`
	// Program is the name of the executable without its directory.
	Program string `json:"program"`
	// Go, Module, Version and Revision are what the program was built from, as far as it knows.
	Go       string `json:"go"`
	Module   string `json:"module,omitempty"`
	Version  string `json:"version,omitempty"`
	Revision string `json:"revision,omitempty"`
}

// Footer is the last line of a dump; where it is missing the dump is not whole.
type Footer struct {
	// End is the number of entries.
	End *int `json:"end"`
}

func (r *Recorder) header(why string) Header {
	r.learnZone(r.mesh.Load())
	h := Header{
		Format: Format, Version: Version, Start: r.start.Round(0), Wall: time.Now().Round(0), At: r.now(), Why: why, Bounds: Bounds(),
		States: r.states.state(), Traffic: r.traffic.state(), Seconds: r.seconds.state(),
		Process: Process{Instance: r.instance, Zone: *r.zone.Load(), Mesh: name(r.cfg.Mesh), PID: os.Getpid(), Go: runtime.Version()},
	}
	p := &h.Process
	if path, err := os.Executable(); err == nil {
		p.Program = name(filepath.Base(path))
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		p.Module, p.Version = name(info.Main.Path), name(info.Main.Version)
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				p.Revision = name(s.Value)
			}
		}
	}
	return h
}

// Dump writes all that is recorded, compressed by gzip; see Header. It may be called at any time, also after Close. Calls go on
// meanwhile, and what they overwrite is not in the dump. The error is that of w.
func (r *Recorder) Dump(w io.Writer) error {
	return r.dump(w, "request")
}

func (r *Recorder) dump(w io.Writer, why string) error {
	zip := gzip.NewWriter(w)
	buf := bufio.NewWriterSize(zip, 1<<16)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(true) // for those who put it into pages
	if err := enc.Encode(r.header(why)); err != nil {
		return err
	}
	// The sums of the running second stay where they are. The ring is looked at before them: those that are moved there in between are
	// not in the dump, and none is in it twice.
	r.flush(secondOf(r.now()))
	cursors := []*cursor{r.states.cursor(), r.traffic.cursor(), r.seconds.cursor()}
	pending := r.pending()
	slices.SortFunc(pending, func(a, b Entry) int { return cmp.Compare(a.At, b.At) })
	n := 0
	for {
		var next *Entry
		var from *cursor
		for _, c := range cursors {
			if c.ok && (next == nil || c.next.At < next.At) {
				next, from = &c.next, c
			}
		}
		if len(pending) > 0 && (next == nil || pending[0].At < next.At) {
			next, from = &pending[0], nil
		}
		if next == nil {
			break
		}
		if err := enc.Encode(next); err != nil {
			return err
		}
		n++
		if from != nil {
			from.advance()
		} else {
			pending = pending[1:]
		}
	}
	if err := enc.Encode(Footer{&n}); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	return zip.Close()
}

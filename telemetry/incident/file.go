package incident

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	filePrefix = "incident-"
	fileSuffix = ".jsonl.gz"
	tempPrefix = ".incident-"
	// tempAge is how old a file is that another process has left half written. Writing takes less than a second.
	tempAge = time.Hour
)

// Stats says what a Recorder has done.
type Stats struct {
	// Breaches are objectives that were missed, but for those within Config.CoolDown of another.
	Breaches uint64
	// Saved and Failed are dumps that were written to Config.Dir, and that could not be.
	Saved, Failed uint64
	// Panics are those of Config.OnBreach.
	Panics uint64
	// Entries is how many were recorded, but for sums. Overwritten is how many of all are not there any more.
	Entries, Overwritten uint64
}

type stats struct{ breaches, saved, failed, panics atomic.Uint64 }

// Stats returns what the recorder has done since its beginning.
func (r *Recorder) Stats() Stats {
	return Stats{
		Breaches: r.stats.breaches.Load(), Saved: r.stats.saved.Load(), Failed: r.stats.failed.Load(), Panics: r.stats.panics.Load(),
		Entries:     r.seq.Load(),
		Overwritten: r.states.overwritten.Load() + r.traffic.overwritten.Load() + r.seconds.overwritten.Load(),
	}
}

// Save writes a dump to a file in Config.Dir, and returns its path: "incident-" with the time in UTC, the name of the instance and
// ".jsonl.gz". The file is there as a whole or not at all. Old dumps are removed; see Config.MaxFiles. The error tells why there is none,
// such as a full disk; nothing else comes of it.
func (r *Recorder) Save() (path string, err error) { return r.save("request") }

func (r *Recorder) save(why string) (path string, err error) {
	r.saving.Lock()
	defer r.saving.Unlock()
	defer func() {
		if err != nil {
			r.stats.failed.Add(1)
		} else {
			r.stats.saved.Add(1)
		}
	}()
	if r.cfg.Dir == "" {
		return "", errors.New("incident: Dir is not set")
	}
	if err := os.MkdirAll(r.cfg.Dir, 0o700); err != nil {
		return "", fmt.Errorf("incident: %w", err)
	}
	path = filepath.Join(r.cfg.Dir, filePrefix+time.Now().UTC().Format("20060102T150405.000000000Z")+"-"+fileName(r.instance)+fileSuffix)
	if err := writeFile(path, func(w io.Writer) error { return r.dump(w, why) }); err != nil {
		return "", fmt.Errorf("incident: %w", err)
	}
	if err := prune(r.cfg.Dir, path, r.cfg.MaxFiles, r.cfg.MaxBytes); err != nil {
		return path, fmt.Errorf("incident: removing old dumps: %w", err)
	}
	return path, nil
}

// fileName returns a name with only what every file system takes.
func fileName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '.' || r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z') {
			return r
		}
		return '_'
	}, cut(s, 64))
	if s = strings.Trim(s, "."); s == "" {
		return "unnamed"
	}
	return s
}

// writeFile writes a file that is there as a whole or not at all, and that only its owner can read.
func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), tempPrefix+"*.tmp") // of mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreGone(os.Remove(f.Name())))
		}
	}()
	if err := write(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// prune removes the oldest dumps of a directory until there are so many and no more bytes, but for the one to keep, and what was left
// half written long ago.
func prune(dir, keep string, files int, size int64) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	type dump struct {
		path string
		size int64
		at   time.Time
	}
	var dumps []dump
	var errs []error
	for _, d := range list {
		temp := strings.HasPrefix(d.Name(), tempPrefix) && strings.HasSuffix(d.Name(), ".tmp")
		if !temp && !(strings.HasPrefix(d.Name(), filePrefix) && strings.HasSuffix(d.Name(), fileSuffix)) || !d.Type().IsRegular() {
			continue
		}
		info, err := d.Info()
		if err != nil {
			errs = append(errs, ignoreGone(err))
			continue
		}
		path := filepath.Join(dir, d.Name())
		switch {
		case path == keep:
			files, size = files-1, size-info.Size()
		case !temp:
			dumps = append(dumps, dump{path, info.Size(), info.ModTime()})
		case time.Since(info.ModTime()) > tempAge:
			errs = append(errs, ignoreGone(os.Remove(path)))
		}
	}
	slices.SortFunc(dumps, func(a, b dump) int { return cmp.Or(b.at.Compare(a.at), cmp.Compare(b.path, a.path)) }) // the newest first
	for i, d := range dumps {
		if size -= d.size; i >= files || size < 0 {
			errs = append(errs, ignoreGone(os.Remove(d.path)))
		}
	}
	return errors.Join(errs...)
}

// ServeHTTP answers GET with a dump to save, one at a time: others get 429 meanwhile. Who takes nothing of it for 10 s is cut off. It has
// no guard of its own but that pages of other sites cannot have it fetched: mount it where only operators get, behind their login.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if req.Method != http.MethodGet {
		h.Set("Allow", http.MethodGet)
		http.Error(w, "only GET is allowed", http.StatusMethodNotAllowed)
		return
	}
	if site := req.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		http.Error(w, "not for other sites", http.StatusForbidden)
		return
	}
	if !r.serving.CompareAndSwap(false, true) { // one at a time: each costs a second of a processor
		h.Set("Retry-After", "1")
		http.Error(w, "another dump is being written", http.StatusTooManyRequests)
		return
	}
	defer r.serving.Store(false)
	out := &patient{w, http.NewResponseController(w)}
	defer out.extend() // for what net/http has not sent yet
	h.Set("Content-Type", "application/gzip")
	h.Set("Content-Disposition", `attachment; filename="`+filePrefix+time.Now().UTC().Format("20060102T150405Z")+"-"+fileName(r.instance)+fileSuffix+`"`)
	if err := r.dump(out, "request"); err != nil {
		panic(http.ErrAbortHandler) // so that half a dump is not taken for a whole one
	}
}

// patience is how long who downloads a dump may take for a piece of it, of some kilobytes.
const patience = 10 * time.Second

// A patient writer gives up on who takes nothing, so that they keep nobody else from a download.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (p *patient) Write(b []byte) (int, error) {
	p.extend()
	return p.ResponseWriter.Write(b)
}

func (p *patient) extend() {
	_ = p.control.SetWriteDeadline(time.Now().Add(patience)) // of what has no deadlines, such as a recorder of tests
}

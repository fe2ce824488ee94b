package discovery

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Snapshot is a directory that keeps the last good set of each service, for processes that start while the source is out. Each
// service has a file, which is replaced as a whole: a process that is killed leaves the old one or the new one. Processes
// of one user that see the same services may share the directory; those with other sources need one of their own.
type Snapshot struct {
	// Dir is the directory. It is made, with the permissions 0700, if there is none. Empty means no snapshots.
	Dir string
	// MaxAge is how long ago the source may have been heard last for a set to be used. 0 means no limit.
	MaxAge time.Duration
}

const (
	snapshotMagic = "zerohop-snapshot-1"
	// maxSnapshot is the size of a file, which bounds the memory that a wrong one can take.
	maxSnapshot = 16 << 20
	// snapshotAfter is how long a source may take to answer before a snapshot is used in its place: the answer is better.
	snapshotAfter = 500 * time.Millisecond
)

var errNoSnapshot = errors.New("discovery: no snapshot")

type snapshotContent struct {
	Service   string     `json:"service"`
	Endpoints []Endpoint `json:"endpoints"`
}

// path returns the file of a service. Names come from outside: what could lead out of the directory is replaced, and a hash
// tells apart what is then alike.
func (s Snapshot) path(service string) string {
	service = strings.ToLower(service)
	safe := strings.Map(func(r rune) rune {
		if r < 0x80 && (alphanumeric(byte(r)) || r == '-' || r == '_') {
			return r
		}
		return '_'
	}, service)
	sum := sha256.Sum256([]byte(service))
	return filepath.Join(s.Dir, safe[:min(len(safe), 80)]+"-"+hex.EncodeToString(sum[:8])+".snapshot")
}

// Save writes the set of a service to the disk, and waits for it. The file can be read by its owner only.
func (s Snapshot) Save(service string, set []Endpoint) error {
	content, err := json.Marshal(snapshotContent{Service: strings.ToLower(service), Endpoints: set})
	if err != nil {
		return fmt.Errorf("discovery: snapshot of %q: %w", service, err)
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("discovery: snapshot of %q: %w", service, err)
	}
	sum := sha256.Sum256(content)
	data := append([]byte(snapshotMagic+" "+hex.EncodeToString(sum[:])+"\n"), content...)
	if len(data) > maxSnapshot {
		return fmt.Errorf("discovery: snapshot of %q has %d bytes, more than %d", service, len(data), maxSnapshot)
	}
	if err := replaceFile(s.path(service), data); err != nil {
		return fmt.Errorf("discovery: snapshot of %q: %w", service, err)
	}
	return nil
}

// replaceFile writes a file such that after a crash there is the old one or the new one.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".snapshot-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = cmp.Or(err, f.Sync())
	err = cmp.Or(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// Confirm notes that the set that was saved is still right.
func (s Snapshot) Confirm(service string, now time.Time) error {
	return os.Chtimes(s.path(service), now, now)
}

// Load reads the set of a service as it was saved, and when its source was last heard. Nobody has checked its endpoints. The
// file must be a regular one that belongs to the user of the process and that no other can write to. The error is
// an os.ErrNotExist if there is none.
func (s Snapshot) Load(service string) (set []Endpoint, heard time.Time, err error) {
	set, heard, err = s.load(service)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("discovery: snapshot of %q is not used: %w", service, err)
	}
	return set, heard, err
}

func (s Snapshot) load(service string) ([]Endpoint, time.Time, error) {
	if s.Dir == "" {
		return nil, time.Time{}, fmt.Errorf("%w: %w", errNoSnapshot, os.ErrNotExist)
	}
	f, err := openOwn(s.path(service))
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	heard := info.ModTime()
	if age := time.Since(heard); s.MaxAge > 0 && age > s.MaxAge {
		return nil, heard, fmt.Errorf("it is %v old, more than %v", age.Round(time.Second), s.MaxAge)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSnapshot+1))
	if err != nil {
		return nil, heard, err
	}
	if len(data) > maxSnapshot {
		return nil, heard, fmt.Errorf("it has more than %d bytes", maxSnapshot)
	}
	head, content, _ := bytes.Cut(data, []byte("\n"))
	magic, want, _ := strings.Cut(string(head), " ")
	if magic != snapshotMagic {
		return nil, heard, errors.New("it is of another version, or no snapshot")
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != want {
		return nil, heard, errors.New("its checksum is wrong")
	}
	var c snapshotContent
	if err := json.Unmarshal(content, &c); err != nil {
		return nil, heard, err
	}
	if c.Service != strings.ToLower(service) {
		return nil, heard, fmt.Errorf("it is of %q", c.Service)
	}
	return c.Endpoints, heard, nil
}

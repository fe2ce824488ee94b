package incident

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestSaveKeepsTheNewestDumps(t *testing.T) {
	dir := t.TempDir()
	r := open(t, Config{Instance: "../we b", Dir: dir, MaxFiles: 3})
	old := filepath.Join(dir, tempPrefix+"1.tmp")
	mine := filepath.Join(dir, "mine.txt")
	for _, path := range []string{old, mine} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-2*tempAge)); err != nil {
		t.Fatal(err)
	}
	var last string
	for range 5 {
		var err error
		if last, err = r.Save(); err != nil {
			t.Fatal(err)
		}
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 4 {
		t.Errorf("%d files, %v, want 3 dumps and one that is none of them", len(list), err)
	}
	if filepath.Dir(last) != dir || !strings.HasSuffix(last, "-_we_b.jsonl.gz") {
		t.Errorf("Save() = %s", last)
	}
	if _, err := os.Stat(last); err != nil {
		t.Error(err)
	}
}

func TestPruneBoundsBytes(t *testing.T) {
	dir := t.TempDir()
	for i := range 4 {
		path := filepath.Join(dir, fmt.Sprintf("%s%d%s", filePrefix, i, fileSuffix))
		if err := os.WriteFile(path, make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := prune(dir, filepath.Join(dir, filePrefix+"3"+fileSuffix), 10, 250); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("%d files, %v, want 2", len(list), err)
	}
}

func TestWriteFileLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "dump")
	err := writeFile(path, func(w io.Writer) error {
		if _, err := w.Write([]byte("half")); err != nil {
			return err
		}
		return syscall.ENOSPC
	})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writeFile() = %v, want ENOSPC", err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("%d files, %v, want none", len(list), err)
	}
}

func TestServeHTTPAnswersGetFromItsOwnPages(t *testing.T) {
	r := open(t, Config{Instance: "web-1"})
	for _, test := range []struct {
		method, site string
		want         int
	}{{"GET", "", 200}, {"GET", "same-origin", 200}, {"GET", "cross-site", 403}, {"GET", "same-site", 403}, {"POST", "", 405}, {"HEAD", "", 405}} {
		req := httptest.NewRequest(test.method, "/", nil)
		if test.site != "" {
			req.Header.Set("Sec-Fetch-Site", test.site)
		}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		if w.Code != test.want || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s from %q = %d, want %d", test.method, test.site, w.Code, test.want)
		}
		if w.Code == http.StatusOK {
			if d, err := Read(w.Body, "download"); err != nil || d.Header.Process.Instance != "web-1" {
				t.Errorf("Read() = %v", err)
			}
		}
	}
	r.serving.Store(true)
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	r.serving.Store(false)
	if w.Code != http.StatusTooManyRequests {
		t.Errorf("a second download at a time = %d, want 429", w.Code)
	}
}

// Who downloads a dump and reads none of it keeps nobody from writing another one, and Close from nothing.
func TestSaveDoesNotWaitForReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, Config{
			Dir:  t.TempDir(),
			SLOs: []SLO{{Objective: .9, MinCalls: 1, Burns: []Burn{{time.Second, time.Second, 1}}}},
		})
		out, in := io.Pipe()
		ended := make(chan error)
		go func() { ended <- r.Dump(in) }()
		synctest.Wait() // it waits for somebody to read
		call(r.Hooks(), "orders", 0, errBroken)
		time.Sleep(3 * time.Second)
		r.Close()
		if s := r.Stats(); s.Saved != 1 {
			t.Errorf("Stats() = %+v, want a dump", s)
		}
		out.Close()
		if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Dump() = %v, want that of the writer", err)
		}
	})
}

// wire is where an answer goes, a connection.
type wire struct {
	net.Conn
	header http.Header
}

func (w wire) Header() http.Header { return w.header }
func (w wire) WriteHeader(int)     {}

func TestServeHTTPGivesUpOnWhoTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, Config{})
		here, there := net.Pipe()
		defer there.Close()
		ended := make(chan any)
		go func() {
			defer func() { ended <- recover() }()
			r.ServeHTTP(wire{here, http.Header{}}, httptest.NewRequest("GET", "/", nil))
		}()
		get := func() int {
			w := httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			return w.Code
		}
		synctest.Wait() // it waits for somebody to read
		if code := get(); code != http.StatusTooManyRequests {
			t.Errorf("another download meanwhile = %d, want 429", code)
		}
		begin := time.Now()
		if v := <-ended; v != http.ErrAbortHandler || time.Since(begin) != patience {
			t.Errorf("the download ended with %v after %v, want %v", v, time.Since(begin), patience)
		}
		if code := get(); code != http.StatusOK {
			t.Errorf("another download afterwards = %d, want 200", code)
		}
	})
}

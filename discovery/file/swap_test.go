package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// A thousand changes in all the ways that files change, good and bad ones: no set may be anything but one that was
// written as a whole.
func TestChangesNeverShowInPart(t *testing.T) {
	t.Parallel()
	const swaps, size = 1000, 40
	file := func(version int) string {
		var b strings.Builder
		b.WriteString("services:\n  orders:\n")
		for i := range size {
			fmt.Fprintf(&b, "  - 192.0.2.%d:%d\n", i+1, 1000+version)
		}
		return b.String()
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "f.yaml")
	configMap(t, dir, "0", file(0))
	f := follow(t, &Resolver{Path: path}, "orders")
	var excused sync.Map // versions that were written too slowly to be told from one that is complete

	check := func(set []discovery.Endpoint) (version int) {
		ports := map[string]int{}
		for _, ep := range set {
			_, port, _ := strings.Cut(ep.Addr, ":")
			ports[port]++
		}
		_, _ = fmt.Sscan(strings.SplitN(set[0].Addr, ":", 2)[1], &version)
		version -= 1000
		if _, ok := excused.Load(version); !ok && (len(ports) != 1 || len(set) != size) {
			t.Fatalf("set of %d endpoints with ports %v was never written", len(set), ports)
		}
		return version
	}
	seen := 0
	until := func(version int) {
		t.Helper()
		late := time.After(patience)
		for {
			select {
			case set := <-f.sets:
				if len(set) == 0 {
					t.Fatal("the set became empty")
				}
				seen++
				if check(set) == version {
					return
				}
			case <-late:
				t.Fatalf("version %d does not show", version)
			}
		}
	}
	until(0)
	removeAll := func() {
		t.Helper()
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n <= swaps; n++ {
		text := file(n)
		switch n % 5 {
		case 0: // ..data swap
			removeAll()
			link(t, filepath.Join("..data", "f.yaml"), path)
			configMap(t, dir, fmt.Sprint(n), text)
		case 1: // in two parts, the first of which is a valid file
			removeAll()
			cut := strings.Index(text[len(text)/2:], "\n") + len(text)/2 + 1
			start := time.Now()
			w, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.WriteString(text[:cut])
			if n%25 == 1 { // a slow writer, though not one that is too slow
				<-time.After(settleTime / 4)
			}
			_, err2 := w.WriteString(text[cut:])
			if err := errors.Join(err, err2, w.Close()); err != nil {
				t.Fatal(err)
			}
			if time.Since(start) > settleTime/2 {
				excused.Store(n, true)
			}
		case 2: // truncated, then written in place
			if err := os.Truncate(path, int64(len(text)/3)); err != nil {
				t.Fatal(err)
			}
			write(t, path, text)
		case 3: // removed, then created
			removeAll()
			write(t, path, text)
		case 4: // half of a file that is not valid, and then a whole one
			replace(t, path, text+"  - 192.0.2.9")
			replace(t, path, text)
		}
		if n%25 == 0 {
			until(n)
		}
	}
	t.Logf("%d sets seen of %d written", seen, swaps+1)
}

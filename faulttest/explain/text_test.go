package explain

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/zerohop/zerohop"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	spoken  = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	lasting = regexp.MustCompile(`\b(\d+h)?(\d+m)?\d+(\.\d+)?(ns|µs|ms|s)\b`)
	drawn   = regexp.MustCompile(`[0-9a-f]{16}`)
	loads   = regexp.MustCompile(`( score [0-9.e+-]+)?, \d+ in flight(, takes \S+)?`)
	left    = regexp.MustCompile(`, <time> left until the deadline`)
	// A backup that finds no other endpoint may come before the end of the call or after.
	backup = regexp.MustCompile(`(?m)^  attempt \d+ \(backup\) at \S+: not made.*\n(    .*\n)*`)
)

// plain puts names in the place of what is different each time.
func plain(s string) string {
	names := map[string]string{}
	s = spoken.ReplaceAllStringFunc(s, func(addr string) string {
		if names[addr] == "" {
			names[addr] = fmt.Sprintf("endpoint-%d", len(names)+1)
		}
		return names[addr]
	})
	s = lasting.ReplaceAllString(s, "<time>")
	s = strings.ReplaceAll(s, "stream terminated by RST_STREAM with error code: CANCEL", "context deadline exceeded") // whoever was faster
	s = left.ReplaceAllString(drawn.ReplaceAllString(s, "<word>"), "")
	return backup.ReplaceAllString(loads.ReplaceAllString(s, " <load>"), "")
}

// The texts are for people who have to act on them: they are reviewed as they are.
func TestTextsForPeople(t *testing.T) {
	var got strings.Builder
	for i, f := range faults {
		if f.name == "gRPC: UNAVAILABLE" || f.name == "gRPC: port refused" { // who is connected by then is not certain
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			var mu sync.Mutex
			x := &trial{t: t, rnd: rand.New(lockedSource{&mu, rand.New(rand.NewPCG(uint64(i), 2))})}
			v, _ := f.call(x)
			fmt.Fprintf(&got, "== %s ==\n%s\n", f.name, plain(zerohop.Explain(v).String()))
		})
	}
	path := filepath.Join("testdata", "texts.golden")
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal([]byte(got.String()), want) {
		a, b := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
		for i := range a {
			if i >= len(b) || a[i] != b[i] {
				t.Fatalf("line %d is\n%s\nwant\n%s\nin\n%s", i+1, a[i], b[min(i, len(b)-1)], got.String())
			}
		}
		t.Fatalf("%d lines, want %d", len(a), len(b))
	}
}

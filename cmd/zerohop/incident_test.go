package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	mesh "github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/telemetry/incident"
)

// dumps writes those of two processes that call orders, whose endpoints are gone after 20 s.
func dumps(t *testing.T) (paths []string) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var recs []*incident.Recorder
		for _, name := range []string{"web-1", "web-\x1b2"} {
			r, err := incident.New(incident.Config{Instance: name, Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			recs = append(recs, r)
		}
		for i := range 300 {
			for _, r := range recs {
				info := mesh.CallInfo{Service: "orders", Protocol: "http", Method: "GET", Start: time.Now()}
				result := mesh.CallResult{Status: 200, Duration: 3 * time.Millisecond}
				if i >= 200 {
					result.Status, result.Err, result.Outcome = -1, errors.New("connection refused \x1b[2J"), resilience.Failure
					r.Hooks().AttemptDone(context.Background(), info, mesh.AttemptInfo{}, mesh.AttemptResult{Status: -1, Err: syscall.ECONNREFUSED, Outcome: resilience.Failure})
					x := &mesh.Explanation{CallInfo: info, CallResult: result, Reason: mesh.Failed, Flag: mesh.FlagConnect, N: 1}
					x.Tries[0] = mesh.Try{Addr: "10.0.0.1:80", Flag: mesh.FlagConnect, Outcome: resilience.Failure, Status: -1}
					r.Hooks().Explained(context.Background(), x)
				}
				r.Hooks().CallDone(context.Background(), info, result)
			}
			time.Sleep(100 * time.Millisecond)
		}
		for _, r := range recs {
			path, err := r.Save()
			if err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
		}
	})
	return paths
}

func TestIncidentShowNamesTheFirstCause(t *testing.T) {
	code, stdout, stderr := zerohop(t.Context(), append([]string{"incident", "show"}, dumps(t)...)...)
	if code != exitOK || stderr != "" && !strings.Contains(stderr, "clock is taken as it is") {
		t.Fatalf("code %d, stderr %q", code, stderr)
	}
	for _, want := range []string{"First cause for orders, 00:00:20.000: the endpoints: connection refused", "200 of 200 calls failed", "Calls to orders, by 1s:", "UF 20", "Some calls that failed:", "10.0.0.1:80: failure"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("stdout has no %q:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout+stderr, "\x1b") {
		t.Error("control characters in the output")
	}
}

func TestIncidentMergeWritesOneTimeline(t *testing.T) {
	paths := dumps(t)
	out := filepath.Join(t.TempDir(), "out")
	code, stdout, _ := zerohop(t.Context(), "incident", "merge", "-o", out, "--json", "--offset", "web-1=1m", paths[0], paths[1])
	if code != exitOK || stdout != "" {
		t.Fatalf("code %d, stdout %q", code, stdout)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kinds := map[string]int{}
	var last time.Time
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var line struct {
			Kind, Process string
			Time          time.Time
		}
		var process struct{ Process json.RawMessage }
		if err := json.Unmarshal(lines.Bytes(), &process); err != nil {
			t.Fatal(err)
		}
		_ = json.Unmarshal(lines.Bytes(), &line) // the process of a source is no string
		if kinds[line.Kind]++; !line.Time.IsZero() {
			if line.Time.Before(last) {
				t.Errorf("%v after %v", line.Time, last)
			}
			last = line.Time
		}
	}
	if kinds["source"] != 2 || kinds["second"] < 58 || kinds["failed"] == 0 || kinds["finding"] == 0 {
		t.Errorf("lines by kind = %v", kinds)
	}
	code, stdout, _ = zerohop(t.Context(), append([]string{"incident", "merge", "--service", "orders", "--from", "00:00:25", "--to", "00:00:26"}, paths...)...)
	if code != exitOK || !strings.Contains(stdout, "00:00:25.000  web-1") || strings.Contains(stdout, "00:00:24") || strings.Contains(stdout, "00:00:27") {
		t.Errorf("code %d, stdout %s", code, stdout)
	}
}

// The time that is asked for may have nothing but failures: the cause and what is usual are before it.
func TestIncidentShowLooksBeforeTheTimeAskedFor(t *testing.T) {
	paths := dumps(t)
	for _, test := range []struct {
		args  []string
		found bool
	}{
		{[]string{"--from", "00:00:25", "--service", "orders"}, true},
		{[]string{"--from", "2000-01-01T00:00:25Z", "--to", "00:00:27"}, true},
		{[]string{"--to", "00:00:15"}, false},
		{[]string{"--service", "stock"}, false},
	} {
		code, stdout, _ := zerohop(t.Context(), slices.Concat([]string{"incident", "show"}, test.args, paths)...)
		if found := strings.Contains(stdout, "First cause for orders, 00:00:20.000"); code != exitOK || found != test.found {
			t.Errorf("show %v = %d, found the cause: %v\n%s", test.args, code, found, stdout)
		}
	}
}

func TestIncidentTimesGoPastMidnight(t *testing.T) {
	first := time.Date(2026, 5, 1, 23, 50, 0, 500, time.UTC)
	day := func(at time.Time) int { return at.Day() }
	for _, test := range []struct {
		from, to   string
		begin, end int
	}{
		{"23:55:00", "00:05:00", 1, 2}, {"00:01:00", "00:59:00", 2, 2}, {"23:50:00", "23:51:00", 1, 1}, {"20:00:00", "20:00:00", 1, 2},
		{"2026-05-01T00:00:00Z", "2026-05-01T00:00:00Z", 1, 1},
	} {
		in := inspecting{from: test.from, to: test.to}
		if in.bound(first, first.Add(20*time.Minute)); day(in.begin) != test.begin || day(in.end) != test.end {
			t.Errorf("%s to %s is %v to %v", test.from, test.to, in.begin, in.end)
		}
	}
}

func TestIncidentSaysWhatIsWrong(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad\x1b")
	if err := os.WriteFile(bad, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "want incident merge or incident show"},
		{[]string{"x\x1b"}, `unknown command incident "x\x1b"`},
		{[]string{"show"}, "want the names of FILEs"},
		{[]string{"show", "--from", "noon", "a"}, `--from is "noon"`},
		{[]string{"show", "--offset", "a", "b"}, "want NAME=DURATION"},
		{[]string{"show", filepath.Join(filepath.Dir(bad), "none")}, "no such file"},
		{[]string{"merge", bad}, `bad\x1b:1: no dump of an incident`},
	} {
		code, stdout, stderr := zerohop(t.Context(), append([]string{"incident"}, test.args...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("incident %q = %d, stdout %q, stderr %q, want %q", test.args, code, stdout, stderr, test.want)
		}
	}
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
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

package stdsuite

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	_ "github.com/zerohop/zerohop/httpmesh" // so that results that the go command has cached are those of this code
)

// TestReverseProxySuite runs all tests of net/http/httputil with every transport of httputil.ReverseProxy, and that of
// http.DefaultClient, wrapped into one of ours. The same tests have to run and pass that do without us.
func TestReverseProxySuite(t *testing.T) {
	source := filepath.Join(output(t, "", nil, "go", "env", "GOROOT"), "src", "net", "http")
	if _, err := os.Stat(filepath.Join(source, "httputil", "reverseproxy_test.go")); err != nil {
		t.Skipf("this Go distribution comes without its tests: %v", err)
	}
	want := results(t, "", nil, "net/http/httputil")
	dir := suite(t, source)
	for _, mode := range []string{"transport", "guard", "service"} {
		t.Run(mode, func(t *testing.T) {
			report := filepath.Join(t.TempDir(), "report.json")
			got := results(t, dir, []string{"STDSUITE_MODE=" + mode, "STDSUITE_REPORT=" + report}, "./httputil")
			for _, name := range slices.Sorted(maps.Keys(want)) {
				if got[name] != want[name] {
					t.Errorf("%s: %q over our transport, %q without", name, got[name], want[name])
				}
			}
			for name, result := range got {
				if want[name] == "" {
					t.Errorf("%s: %q over our transport, not run without", name, result)
				}
			}
			data, err := os.ReadFile(report)
			if err != nil {
				t.Fatal(err)
			}
			var used struct {
				Tests    map[string]int64 // requests of each test that came to us
				Attempts int64            // on services
			}
			if err := json.Unmarshal(data, &used); err != nil {
				t.Fatal(err)
			}
			var silent []string
			for _, name := range slices.Sorted(maps.Keys(used.Tests)) {
				if used.Tests[name] == 0 {
					silent = append(silent, name)
				}
			}
			through := len(used.Tests) - len(silent)
			t.Logf("%d tests; %d functions sent requests through us, %d attempts on services; %q sent none",
				len(got), through, used.Attempts, silent)
			if through < 30 {
				t.Errorf("%d test functions sent requests through us, want 30 or more", through)
			}
			if (used.Attempts > 0) != (mode != "transport") {
				t.Errorf("%d attempts on services", used.Attempts)
			}
		})
	}
}

// suite makes a module of a copy of net/http/httputil and returns its directory.
func suite(t *testing.T, source string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	imports := strings.NewReplacer(
		`"net/http/internal/ascii"`, `"stdsuite/internal/ascii"`, `"net/http/internal"`, `"stdsuite/internal"`,
		`"internal/godebug"`, `"stdsuite/internal/godebug"`, `"net/http/httputil"`, `"stdsuite/httputil"`,
	)
	add := func(to, from string, edit func(string) string) {
		t.Helper()
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to = filepath.Join(dir, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(edit(string(data))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	same := func(s string) string { return s }
	files, err := filepath.Glob(filepath.Join(source, "httputil", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		add("httputil/"+filepath.Base(f), f, func(s string) string {
			switch name := filepath.Base(f); {
			case name == "reverseproxy.go":
				s = wrapped(t, s)
			case strings.HasSuffix(name, "_test.go"):
				s = testFunc.ReplaceAllString(s, "$0\n\tdefer begin(t)()")
			}
			return imports.Replace(s)
		})
	}
	add("internal/chunked.go", filepath.Join(source, "internal", "chunked.go"), same)
	add("internal/ascii/print.go", filepath.Join(source, "internal", "ascii", "print.go"), same)
	add("internal/godebug/godebug.go", "testdata/godebug.go", same)
	add("httputil/through_test.go", "testdata/through_test.go", same)
	add("go.sum", filepath.Join(root, "go.sum"), same)
	add("go.mod", filepath.Join(root, "go.mod"), func(s string) string {
		_, rest, _ := strings.Cut(s, "\n")
		return "module stdsuite\n" + rest + "\nrequire github.com/zerohop/zerohop v0.0.0\nreplace github.com/zerohop/zerohop => " + root + "\n"
	})
	return dir
}

var testFunc = regexp.MustCompile(`(?m)^func Test\w+\(t \*testing\.T\) \{$`)

// wrapped makes ReverseProxy use one of our transports over the one that it would use.
func wrapped(t *testing.T, source string) string {
	t.Helper()
	const choice = "\t\ttransport = http.DefaultTransport\n\t}\n"
	if n := strings.Count(source, choice); n != 1 {
		t.Fatalf("reverseproxy.go chooses its transport in %d places, want 1: this test does not fit that version of Go", n)
	}
	return strings.Replace(source, choice, choice+"\ttransport = through(transport)\n", 1)
}

// results runs the tests of a package and returns how each ended. They must pass.
func results(t *testing.T, dir string, env []string, pkg string) map[string]string {
	t.Helper()
	args := []string{"go", "test", "-json", "-count=1", "-vet=off"}
	if raced() {
		args = append(args, "-race")
	}
	out := output(t, dir, env, append(args, pkg)...)
	ended := map[string]string{}
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var ev struct{ Action, Test string }
		if err := dec.Decode(&ev); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("output of go test: %v", err)
		}
		if ev.Test != "" && (ev.Action == "pass" || ev.Action == "fail" || ev.Action == "skip") {
			ended[ev.Test] = ev.Action
		}
	}
	if len(ended) == 0 {
		t.Fatalf("no tests were run:\n%s", out)
	}
	return ended
}

// raced reports whether this test runs under the race detector.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// output returns what a command prints. It gets no modules but those in the cache.
func output(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOPROXY=off", "GOWORK=off", "GOFLAGS=-mod=readonly"), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, failures(out), &stderr)
	}
	return strings.TrimSpace(string(out))
}

// failures returns what failed tests printed, out of the output of go test -json.
func failures(out []byte) string {
	var text strings.Builder
	printed := map[string][]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var ev struct{ Action, Test, Output string }
		if dec.Decode(&ev) != nil {
			return text.String()
		}
		switch ev.Action {
		case "output", "build-output":
			printed[ev.Test] = append(printed[ev.Test], ev.Output)
		case "fail", "build-fail":
			text.WriteString(strings.Join(printed[ev.Test], ""))
		}
	}
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const endpointsFile = `services:
  orders:
  - 10.0.0.1:8080
  - {addr: "10.0.0.2:8080", weight: 3, zone: eu-1, health: draining, meta: {version: "2"}}
  empty: []
`

func TestOnceTellsTheFirstAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endpoints.yaml")
	write(t, path, endpointsFile)
	from := "file:" + path
	for _, test := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"orders", "--from", from}, exitOK, "10.0.0.2:8080  3       eu-1  0         draining  version=2\n", ""},
		{[]string{"--from", from, "ORDERS", "-o=lines"}, exitOK, "+ 10.0.0.2:8080 weight=3 zone=eu-1 health=draining version=2\n", ""},
		{[]string{"orders", "--from", from, "-o", "json"}, exitOK, `"addr":"10.0.0.2:8080","weight":3,"zone":"eu-1"`, ""},
		{[]string{"orders", "--from", "static:10.0.0.9:80", "--from", from}, exitOK, "10.0.0.2:8080  3       eu-1  1 ", ""},
		{[]string{"empty", "--from", from}, exitNone, "(no endpoints)", ""},
		{[]string{"nobody", "--from", from}, exitNone, "(no endpoints)", "unknown service"},
		{[]string{"orders", "--from", from + ".none", "--timeout", "100ms"}, exitTimeout, "", "no answer within 100ms"},
		{[]string{"orders", "--from", "consul://" + closedPort(t), "--timeout", "2s"}, exitTimeout, "", "connection refused"},
	} {
		code, stdout, stderr := zerohop(t.Context(), append([]string{"endpoints", "--once"}, test.args...)...)
		if code != test.code || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) ||
			(stdout == "") != (test.stdout == "") || (stderr == "") != (test.stderr == "") {
			t.Errorf("%q: code %d, stdout %q, stderr %q, want %d, %q, %q", test.args, code, stdout, stderr, test.code, test.stdout, test.stderr)
		}
	}
}

// closedPort returns an address where nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestWatchAppendsALineForEachChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endpoints.yaml")
	write(t, path, endpointsFile)
	next := watching(t, "orders", "--from", "file:"+path)
	for _, step := range []struct {
		file string // "" leaves it as it is
		want []string
	}{
		{"", []string{"+ 10.0.0.1:8080 weight=1 health=healthy", "+ 10.0.0.2:8080 weight=3 zone=eu-1 health=draining version=2"}},
		{
			"services: {orders: [{addr: '10.0.0.1:8080', weight: 2}, '10.0.0.3:8080']}",
			[]string{"~ 10.0.0.1:8080 weight 1 -> 2", "- 10.0.0.2:8080", "+ 10.0.0.3:8080 weight=1 health=healthy"},
		},
		{"services: {orders: []}", []string{"! held: the source says that there are no endpoints; 2 stay until it says so again"}},
		{"services: {orders: ['10.0.0.1:99999']}", []string{"! failed, again in "}},
	} {
		if step.file != "" {
			write(t, path+".new", step.file)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range step.want {
			if line := next(); !strings.HasPrefix(line, want) {
				t.Fatalf("line %q, want %q", line, want)
			}
		}
	}
}

var stamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z `)

// watching runs the command until the test ends, and returns what waits for its next line, of which it removes the time.
func watching(t *testing.T, args ...string) (next func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"endpoints"}, args...), w, &stderr)
		w.Close() // next does not wait for a command that has ended
	}()
	lines := bufio.NewScanner(r)
	t.Cleanup(func() {
		cancel()
		go func() { // until w is closed
			for lines.Scan() {
			}
		}()
		if got := <-code; got != exitOK || stderr.Len() > 0 {
			t.Errorf("the command ends with %d and %q, want 0 and nothing", got, &stderr)
		}
	})
	return func() string {
		t.Helper()
		if !lines.Scan() {
			t.Fatal("the output ends")
		}
		rest, ok := strings.CutPrefix(lines.Text(), stamp.FindString(lines.Text()))
		if !ok || rest == lines.Text() {
			t.Fatalf("line without a time: %q", lines.Text())
		}
		return rest
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestOutputThatCannotBeWrittenEndsTheProgram(t *testing.T) {
	for _, args := range [][]string{nil, {"-o", "json"}, {"-o", "table"}, {"--once"}} {
		var stderr bytes.Buffer
		code := run(t.Context(), append([]string{"endpoints", "orders", "--from", "static:10.0.0.1:80"}, args...), brokenWriter{}, &stderr)
		if code != exitNone || stderr.String() != "zerohop: disk full\n" {
			t.Errorf("%q: code %d and %q, want %d and the error", args, code, &stderr, exitNone)
		}
	}
}

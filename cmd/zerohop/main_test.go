package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// zerohop runs the program.
func zerohop(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(ctx, args, &out, &err)
	return code, out.String(), err.String()
}

func TestRunSaysWhatTheProgramCanDo(t *testing.T) {
	for _, test := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{nil, exitUsage, "", "zerohop endpoints SERVICE"},
		{[]string{"help"}, exitOK, "zerohop endpoints SERVICE", ""},
		{[]string{"endpoints", "-h"}, exitOK, "zerohop endpoints SERVICE", ""},
		{[]string{"version"}, exitOK, "zerohop ", ""},
		{[]string{"\x1b[2J"}, exitUsage, "", `unknown command "\x1b[2J"`},
		{[]string{"endpoints"}, exitUsage, "", "--from SOURCE is missing"},
		{[]string{"endpoints"}, exitUsage, "", "one SERVICE, got 0"},
		{[]string{"endpoints", "a", "b"}, exitUsage, "", "one SERVICE, got 2"},
		{[]string{"endpoints", "a", "--from", "static:10.0.0.1:80", "-o", "xml"}, exitUsage, "", `-o is "xml"`},
		{[]string{"endpoints", "a", "--from", "static:10.0.0.1:80", "--timeout", "0s"}, exitUsage, "", "--timeout is 0s"},
		{[]string{"endpoints", "a", "--allow", "10.0.0.1"}, exitUsage, "", "allow"},
		{[]string{"endpoints", "a", "--from", "dns:///x", "--from", "zookeeper:"}, exitUsage, "", "--from 1: dns: parameter port or srv"},
		{[]string{"endpoints", "a", "--from", "dns:///x", "--from", "zookeeper:"}, exitUsage, "", "--from 2: want KIND"},
	} {
		code, stdout, stderr := zerohop(t.Context(), test.args...)
		if code != test.code || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) ||
			(stdout == "") != (test.stdout == "") || (stderr == "") != (test.stderr == "") {
			t.Errorf("run(%q) = %d, stdout %q, stderr %q, want %d, %q, %q", test.args, code, stdout, stderr, test.code, test.stdout, test.stderr)
		}
	}
}

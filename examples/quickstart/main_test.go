package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// mainVariable makes the test binary the program, which starts its backends from its own binary.
const mainVariable = "QUICKSTART_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" || os.Getenv(nameVariable) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// program is a run of the program in a process of its own, with no terminal.
type program struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr *os.File // held open by its backends too
}

func startProgram(t *testing.T, args ...string) *program {
	t.Helper()
	stderr, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stderr.Close() })
	p := &program{cmd: exec.CommandContext(t.Context(), os.Args[0], args...), stderr: stderr}
	p.cmd.Env = append(os.Environ(), mainVariable+"=1")
	p.cmd.Stderr = w
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(stdout)
	err = p.cmd.Start()
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// awaitPhase waits until the program says that the first phase begins, when all backends run.
func (p *program) awaitPhase(t *testing.T) {
	t.Helper()
	if line, err := p.stdout.ReadString('\n'); !strings.HasPrefix(line, "Phase 1 of 4: ") {
		t.Fatalf("the program printed %q, %v", line, err)
	}
}

// end reads what the program prints until it ends, and checks that it leaves no process behind: the pipe
// would still be open.
func (p *program) end(t *testing.T) (stdout, stderr string, err error) {
	t.Helper()
	out, err := io.ReadAll(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	err = p.cmd.Wait()
	if e := p.stderr.SetReadDeadline(time.Now().Add(10 * time.Second)); e != nil {
		t.Fatal(e)
	}
	text, e := io.ReadAll(p.stderr)
	if e != nil {
		t.Errorf("a process is left behind: %v", e)
	}
	return string(out), string(text), err
}

func TestProgramTellsItsStoryInPlainLines(t *testing.T) {
	p := startProgram(t, "-phase", "200ms")
	out, stderr, err := p.end(t)
	if err != nil || stderr != "" {
		t.Errorf("the program ended with %v %s\n%s", err, stderr, out)
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("escape sequences without a terminal: %q", out)
	}
	for _, want := range []string{
		"Phase 1 of 4: All", "Phase 2 of 4: Backend b", "Phase 3 of 4: Backend c", "Phase 4 of 4: Backend d",
		"\nwhere calls went\n", "\n  b slow ", "\n  c failing ", "\n  d killed ", "\nall healthy ", "\none killed ", "\nRead next: ",
	} {
		if got := strings.Count(out, want); got != 1 && want != "\nwhere calls went\n" || got == 0 {
			t.Errorf("%q occurs %d times in\n%s", want, got, out)
		}
	}
}

func TestInterruptEndsTheProgram(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be interrupted on Windows")
	}
	p := startProgram(t, "-phase", "1m")
	p.awaitPhase(t)
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	out, stderr, err := p.end(t)
	if want := "Interrupted in phase 1 of 4.\n"; err != nil || stderr != "" || out != want {
		t.Errorf("the program printed %q, %v %s, want %q", out, err, stderr, want)
	}
}

func TestBackendsEndWithTheProgramThatWasKilled(t *testing.T) {
	p := startProgram(t, "-phase", "1m")
	p.awaitPhase(t)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _, _ = p.end(t)
}

func TestFlagIsChecked(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-phase", "-1s")
	cmd.Env = append(os.Environ(), mainVariable+"=1")
	out, err := cmd.CombinedOutput()
	if want := "quickstart: -phase must be more than 0 and at most 1h, got -1s\n"; err == nil || string(out) != want {
		t.Errorf("the program printed %q, %v, want %q", out, err, want)
	}
}

//go:build unix

package servertest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a server that is one process at a time. It is not safe for concurrent use.
type Process struct {
	name, dir string
	run       *run
	started   chan *run // to reap
}

type run struct {
	*exec.Cmd
	exited chan struct{} // closed when it has ended
	log    int           // where its log begins
}

// New returns a server that is called name in errors and keeps its log in dir. It is killed with the test, and the end of its
// log is shown if the test fails.
func New(t testing.TB, name, dir string) *Process {
	p := &Process{name: name, dir: dir, started: make(chan *run)}
	reaped := make(chan struct{})
	// One goroutine for all processes: a restart within a test starts none, which a check for leaks would find.
	go func() {
		defer close(reaped)
		for r := range p.started {
			_ = r.Wait()
			close(r.exited)
		}
	}()
	t.Cleanup(func() {
		p.End()
		close(p.started)
		<-reaped
		if t.Failed() {
			const most = 8000
			text := p.Log()
			t.Logf("end of the log of %s in %s:\n%s", name, dir, text[max(0, len(text)-most):])
		}
	})
	return p
}

// Start starts the program bin. The one before must have ended. Its environment is HOME, PATH and env.
func (p *Process) Start(t testing.TB, bin string, args []string, env ...string) {
	t.Helper()
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r := &run{exec.Command(bin, args...), make(chan struct{}), len(p.Log())}
	r.Stdout, r.Stderr = log, log
	r.SysProcAttr = procAttr()
	r.Env = append([]string{"HOME=" + p.dir, "PATH=" + os.Getenv("PATH")}, env...)
	if err := r.Start(); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	p.run = r
	p.started <- r
}

// Errors of Await.
var (
	ErrPort = errors.New("a port is in use")
	ErrLate = errors.New("not ready in time")
)

// Await asks every 20 ms whether the server is ready, and returns nil when it is. ErrPort means that the process has ended because a
// port is in use, ErrLate that limit is over. It fails the test if the process ended for another reason.
func (p *Process) Await(t testing.TB, limit time.Duration, ready func() bool) error {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if ready() {
				return nil
			}
		case <-p.run.exited:
			if strings.Contains(p.Log()[p.run.log:], "in use") {
				return fmt.Errorf("%s: %w", p.name, ErrPort)
			}
			t.Fatalf("%s has ended:\n%s", p.name, p.Log())
		case <-deadline:
			return fmt.Errorf("%s: %w: %v", p.name, ErrLate, limit)
		}
	}
}

// Up is Await for servers without an excuse to be late: that fails the test. It returns false if a port is in use.
func (p *Process) Up(t testing.TB, limit time.Duration, ready func() bool) bool {
	t.Helper()
	err := p.Await(t, limit, ready)
	if errors.Is(err, ErrLate) {
		t.Fatalf("%v:\n%s", err, p.Log())
	}
	return err == nil
}

// Started reports whether there was ever a process.
func (p *Process) Started() bool { return p.run != nil }

// End kills the process if there is one, and waits until it is gone.
func (p *Process) End() {
	if p.run != nil {
		_ = p.run.Process.Kill() // fails if it has ended before
		<-p.run.exited
	}
}

// Kill ends the process with SIGKILL and waits until it is gone. It fails the test if it has ended before.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	<-p.run.exited
}

// Stop freezes the process: its sockets stay open, and it answers nothing that comes once Stop has returned.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGSTOP)
	// The signal is on its way when it was sent: until every thread has it, the server may answer.
	for !stopped(p.run.Process.Pid) {
		runtime.Gosched()
	}
}

// Cont ends what Stop began.
func (p *Process) Cont(t testing.TB) { t.Helper(); p.signal(t, syscall.SIGCONT) }

// Log returns what all processes of the server have printed.
func (p *Process) Log() string {
	text, _ := os.ReadFile(p.logFile()) // not there before the first start
	return string(text)
}

func (p *Process) logFile() string { return filepath.Join(p.dir, p.name+".log") }

func (p *Process) signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := p.run.Process.Signal(sig); err != nil {
		t.Fatalf("%s: %v: %v", p.name, sig, err)
	}
}

// stopped reports whether no thread of the process runs. Where there is no /proc, it is taken for granted.
func stopped(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range tasks {
		stat, _ := os.ReadFile(name) // fails if the thread has ended
		if i := bytes.LastIndexByte(stat, ')'); i >= 0 && !bytes.HasPrefix(stat[i:], []byte(") T")) && !bytes.HasPrefix(stat[i:], []byte(") Z")) {
			return false
		}
	}
	return true
}

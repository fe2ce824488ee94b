//go:build unix

package faulttest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// backendEnv holds the setup of a backend. The test binary is one if it is set.
const backendEnv = "ZEROHOP_FAULTTEST_BACKEND"

func TestMain(m *testing.M) {
	if config := os.Getenv(backendEnv); config != "" {
		if err := serve(config); err != nil {
			fmt.Fprintln(os.Stderr, "backend:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// backend is a process that serves HTTP and gRPC. It is not safe for concurrent use.
type backend struct {
	setup   setup
	cmd     *exec.Cmd // nil after kill
	control io.Closer
	input   io.Writer
	stops   []span // when it was stopped
}

// startBackends starts n backends, which end with the test.
func startBackends(t *testing.T, n int, c capacity) []*backend {
	t.Helper()
	dir := logDir(t)
	list := make([]*backend, n)
	for i := range list {
		list[i] = &backend{setup: setup{Log: filepath.Join(dir, fmt.Sprint(i)), Seed: uint64(i + 1), capacity: c}}
		list[i].start(t)
		t.Cleanup(func() {
			if list[i].cmd != nil {
				list[i].kill(t)
			}
		})
	}
	return list
}

// logDir returns a directory for what backends log, in memory if there is such a place: a disk that others write to would
// make them slow, all at once.
func logDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "zerohop-faulttest-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// start starts the process and waits until it serves, on the ports it had before if any.
func (b *backend) start(t *testing.T) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(b.setup)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	// One thread each: a dozen processes that look for work on all cores take them from one another.
	cmd.Env = append(os.Environ(), backendEnv+"="+string(config), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = procAttr()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.cmd, b.input, b.control = cmd, in, in
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &b.setup.HTTP, &b.setup.GRPC)
	}
	if err != nil {
		b.kill(t)
		t.Fatalf("backend did not start: %v", err)
	}
}

// become changes how the backend behaves.
func (b *backend) become(t *testing.T, m mode) {
	t.Helper()
	if _, err := fmt.Fprintln(b.input, m); err != nil {
		t.Fatal(err)
	}
}

// stop freezes the process: connections to it are made and nobody answers.
func (b *backend) stop(t *testing.T) {
	t.Helper()
	b.stops = append(b.stops, span{from: time.Now()})
	b.signal(t, syscall.SIGSTOP)
}

// cont ends what stop began.
func (b *backend) cont(t *testing.T) {
	t.Helper()
	b.signal(t, syscall.SIGCONT)
	b.stops[len(b.stops)-1].to = time.Now()
}

// kill ends the process, stopped or not, and waits until it is gone.
func (b *backend) kill(t *testing.T) {
	t.Helper()
	b.signal(t, syscall.SIGKILL)
	_ = b.cmd.Wait() // killed
	b.control.Close()
	b.cmd = nil
}

func (b *backend) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := b.cmd.Process.Signal(s); err != nil {
		t.Errorf("backend: %v: %v", s, err)
	}
}

// arrivals returns how many requests the process and those before it began to handle.
func (b *backend) arrivals(t *testing.T) int { t.Helper(); return len(b.logged(t, began)) }

// logged returns the texts of all entries of a kind that the process and those before it logged.
func (b *backend) logged(t *testing.T, kind string) (texts []string) {
	t.Helper()
	log, err := os.ReadFile(b.setup.Log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if what, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); what == kind {
			texts = append(texts, text)
		}
	}
	return texts
}

//go:build unix

package xds

import (
	"bufio"
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
)

// child is a control plane in a process of its own.
type child struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	addr string
}

func startChild(t testing.TB, addr string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(exe)}
	c.cmd.Env = append(os.Environ(), planeVariable+"="+addr)
	c.cmd.SysProcAttr = procAttr()
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	c.addr = c.line(t)
	return c
}

func (c *child) line(t testing.TB) string {
	t.Helper()
	if !c.out.Scan() {
		t.Fatalf("the control plane ended: %v", c.out.Err())
	}
	return c.out.Text()
}

func (c *child) set(t testing.TB, services map[string][]discovery.Endpoint) {
	t.Helper()
	if err := json.NewEncoder(c.in).Encode(services); err != nil {
		t.Fatal(err)
	}
	if got := c.line(t); got != "<nil>" {
		t.Fatal(got)
	}
}

func (c *child) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// kill may be called again.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func TestResolverConformance(t *testing.T) {
	c := startChild(t, "")
	services := map[string][]discovery.Endpoint{"other": nil}
	c.set(t, services)
	r := resolverOf(t, c.addr, nil)
	r.limits.linger = 0 // the suite looks for goroutines
	discoverytest.Test(t, discoverytest.Source{
		Resolver: r,
		Set: func(t testing.TB, service string, set []discovery.Endpoint) {
			services = maps.Clone(services)
			services[service] = set
			c.set(t, services)
		},
		Break: func(testing.TB) {
			r.mu.Lock()
			s := r.session
			r.mu.Unlock()
			c.kill()
			if s != nil {
				<-s.done // until it is known, watches get what the stream has said
			}
		},
		Heal: func(testing.TB) { // with versions from 1 on again, until the end of the whole test
			c = startChild(t, c.addr)
			c.set(t, services)
		},
		Timeout: 30 * time.Second,
	})
}

func TestPlaneKilledAndRestartedFromVersionZero(t *testing.T) {
	c := startChild(t, "")
	c.set(t, serviceAt("192.0.2.1:80"))
	f := follow(t, resolverOf(t, c.addr, nil), "orders", discovery.RunOptions{})
	f.until("192.0.2.1:80")

	c.kill()
	for range 4 { // an outage that lasts long enough for the pauses to grow
		if err := f.failure(); err == nil {
			t.Fatal("a watch failed without an error")
		}
	}
	f.same()
	c = startChild(t, c.addr)
	c.set(t, serviceAt("192.0.2.2:80")) // the same version as the set before, with another content
	start := time.Now()
	f.until("192.0.2.2:80")
	if got := time.Since(start); got > 2*time.Second {
		t.Errorf("the new set came after %v, want at most 2 s", got)
	}
}

func TestFrozenPlaneIsNoticed(t *testing.T) {
	c := startChild(t, "")
	c.set(t, serviceAt("192.0.2.1:80"))
	r := resolverOf(t, c.addr, nil)
	r.limits.firstProbe, r.limits.probeInterval, r.limits.probeTime = time.Second, 300*time.Millisecond, 300*time.Millisecond
	f := follow(t, r, "orders", discovery.RunOptions{})
	f.until("192.0.2.1:80")

	c.signal(t, syscall.SIGSTOP)
	start := time.Now()
	err := f.failure()
	if got := time.Since(start); got > 2*time.Second {
		t.Errorf("the watch failed after %v, want at most 2 s", got)
	}
	t.Logf("noticed after %v: %v", time.Since(start), err)
	f.same()
	c.signal(t, syscall.SIGCONT)
	c.set(t, serviceAt("192.0.2.2:80"))
	start = time.Now()
	f.until("192.0.2.2:80")
	if got := time.Since(start); got > 2*time.Second {
		t.Errorf("the new set came after %v, want at most 2 s", got)
	}
}

package ebpfaccel_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/zerohop/zerohop/ebpfaccel"
)

func TestNothingChangesWithoutAnAccelerator(t *testing.T) {
	if os.Getenv("ZEROHOP_ACCEL_TEST_PLAIN") == "" {
		// A process of its own: the line in the log comes once in the life of one.
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "ZEROHOP_ACCEL_TEST_PLAIN=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	checkPlain(t)
}

// checkPlain fails if connections are other than plain ones, or more or less than one line is logged, with the reason. Only one
// test of a process can call it.
func checkPlain(t *testing.T) {
	t.Helper()
	reason := ebpfaccel.Probe()
	if reason == nil {
		t.Skip("this process is in a cgroup with an accelerator")
	}
	if !errors.Is(reason, ebpfaccel.ErrNotSupported) {
		t.Errorf("Probe() = %v, want ErrNotSupported", reason)
	}
	if want := "needs Linux"; runtime.GOOS != "linux" && !strings.Contains(reason.Error(), want) {
		t.Errorf("Probe() = %v, want one with %q", reason, want)
	}
	var log bytes.Buffer
	before := ebpfaccel.ReadStats()
	own := slog.New(slog.NewTextHandler(&log, nil))
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)).With("default", true))
	for range 2 {
		l, err := (&ebpfaccel.ListenConfig{Logger: own}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		client, err := ebpfaccel.DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		for _, c := range []net.Conn{client, server} {
			if _, ok := c.(*net.TCPConn); !ok {
				t.Errorf("the connection is a %T, want a *net.TCPConn", c)
			}
		}
		if _, err := client.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(server, b); err != nil || string(b) != "hello" {
			t.Errorf("read %q, %v", b, err)
		}
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), reason.Error()) {
		t.Errorf("the log has %d lines, want one with the reason:\n%s", lines, &log)
	}
	if strings.Contains(log.String(), "default=true") {
		t.Errorf("the line went to another logger than that of the ListenConfig, which was first:\n%s", &log)
	}
	after := ebpfaccel.ReadStats()
	if n := after.Fallbacks[ebpfaccel.ReasonNotSupported] - before.Fallbacks[ebpfaccel.ReasonNotSupported]; n != 4 {
		t.Errorf("%d sockets could not be marked, want those of 2 listeners and 2 dialers: %+v", n, after)
	}
}

func TestDialerKeepsTheControlsOfItsUser(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	refused := errors.New("refused")
	for name, d := range map[string]ebpfaccel.Dialer{
		"Control": {Dialer: net.Dialer{Control: func(string, string, syscall.RawConn) error { return refused }}},
		"ControlContext": {Dialer: net.Dialer{
			ControlContext: func(context.Context, string, string, syscall.RawConn) error { return refused },
		}},
	} {
		if _, err := d.Dial("tcp", l.Addr().String()); !errors.Is(err, refused) {
			t.Errorf("Dial() with a %s that refuses = %v", name, err)
		}
	}
	lc := ebpfaccel.ListenConfig{ListenConfig: net.ListenConfig{
		Control: func(string, string, syscall.RawConn) error { return refused },
	}}
	if _, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0"); !errors.Is(err, refused) {
		t.Errorf("Listen() with a Control that refuses = %v", err)
	}
}

func TestOtherNetworksAreDialedAsEver(t *testing.T) {
	path := t.TempDir() + "/socket"
	l, err := (&ebpfaccel.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Skip(err) // not on every system
	}
	defer l.Close()
	c, err := ebpfaccel.DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.(*net.UnixConn); !ok {
		t.Errorf("the connection is a %T, want a *net.UnixConn", c)
	}
}

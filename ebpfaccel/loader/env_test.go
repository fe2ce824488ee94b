//go:build linux

package loader

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/zerohop/zerohop/ebpfaccel"
	"github.com/zerohop/zerohop/internal/testenv"
)

// testCgroup returns the cgroup of this process, or ends the test if there can be no accelerator in it.
func testCgroup(t testing.TB) string {
	t.Helper()
	if reason := os.Getenv(reasonVar); reason != "" {
		testenv.Need(t, "ebpf", reason)
	}
	if err := ebpfaccel.CheckHost(); err != nil {
		testenv.Need(t, "ebpf", err.Error())
	}
	for _, err := range []error{checkStructures(), checkCapabilities()} {
		if err != nil {
			testenv.Need(t, "ebpf", err.Error())
		}
	}
	return os.Getenv(cgroupVar)
}

// load loads the accelerator for the cgroup of this process until the test ends, without pins.
func load(t testing.TB, settings accelSettings, change ...func(*ebpf.CollectionSpec)) *accelObjects {
	t.Helper()
	cgroup := testCgroup(t)
	spec, err := loadAccel()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(spec)
	}
	o := new(accelObjects)
	if err := spec.LoadAndAssign(o, nil); err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { o.Close() })
	if err := o.Setting.Put(uint32(0), settings); err != nil {
		t.Fatal(err)
	}
	if err := attachSend(o); err != nil {
		t.Fatal(err)
	}
	for _, a := range attachments(o) {
		l, err := a.attach(cgroup)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	return o
}

// loadNaive loads the control.
func loadNaive(t testing.TB) {
	t.Helper()
	cgroup := testCgroup(t)
	spec, err := ebpf.LoadCollectionSpec("testdata/naive.o")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(c.Close)
	if err := link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: c.Maps["sockets"].FD(), Program: c.Programs["naive_send"], Attach: ebpf.AttachSkMsgVerdict,
	}); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]ebpf.AttachType{
		"naive_event": ebpf.AttachCGroupSockOps, "naive_opt_in": ebpf.AttachCGroupSetsockopt,
	} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: at, Program: c.Programs[name]})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
}

func counters(t testing.TB, o *accelObjects) Counters {
	t.Helper()
	c, err := readCounters(o.Counts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pinsDir returns a place for pins that is gone when the test ends.
func pinsDir(t testing.TB) string {
	t.Helper()
	testCgroup(t)
	dir := t.TempDir()
	if err := syscall.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return filepath.Join(dir, "zerohop")
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := (&ebpfaccel.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// patience ends what a fault would hang for ever. Nothing depends on how long it takes otherwise.
const patience = 40 * time.Second

// connect returns the ends of a new connection, that which dialed first.
func connect(l net.Listener, d *ebpfaccel.Dialer) (client, server net.Conn, err error) {
	if client, err = d.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if server, err = l.Accept(); err != nil {
		client.Close()
		return nil, nil, err
	}
	client.SetDeadline(time.Now().Add(patience))
	server.SetDeadline(time.Now().Add(patience))
	client, server = measured(client, server)
	return client, server, nil
}

// pair is connect for tests that need a single connection.
func pair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	client, server, err := connect(listen(t, "127.0.0.1:0"), new(ebpfaccel.Dialer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// inNamespace runs f in a new network namespace with a loopback interface and fast open. Sockets that f makes, and all that their
// listeners accept, stay in it; what f starts in other goroutines does not.
func inNamespace(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		done <- func() error {
			if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
			if err := raiseLoopback(); err != nil {
				return fmt.Errorf("raise lo: %w", err)
			}
			if err := setFastOpen(); err != nil {
				return err
			}
			return f()
		}()
	}()
	return <-done
}

func raiseLoopback() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var request struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], "lo")
	request.flags = syscall.IFF_UP | syscall.IFF_RUNNING
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}

// setFastOpen sets the sysctl of the thread's own network namespace.
func setFastOpen() error {
	// 1 and 2: for both ends; 4 and 0x200: without cookies.
	return os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", []byte(fmt.Sprint(1|2|4|0x200)), 0)
}

// roleVar makes this program play another part than that of the tests.
const roleVar = "ZEROHOP_ACCEL_TEST_ROLE"

// roles are the parts. Their arguments are in the variable, after the name.
var roles = map[string]func(args []string) error{}

func playRole(role string) int {
	args := strings.Fields(role)
	if err := roles[args[0]](args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startRole starts a process that plays a part, in the cgroup of the tests.
func startRole(t testing.TB, role string) *exec.Cmd {
	t.Helper()
	cmd := roleCommand(t.Context(), role)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

func roleCommand(ctx context.Context, role string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

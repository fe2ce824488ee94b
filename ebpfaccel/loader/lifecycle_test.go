//go:build linux

package loader

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/zerohop/zerohop/ebpfaccel"
	"github.com/zerohop/zerohop/internal/testenv"
)

func init() {
	roles["up"] = func(args []string) error {
		_, err := Up(context.Background(), Config{Cgroup: args[0], Pins: args[1]})
		return err
	}
	roles["down"] = func(args []string) error { return Down(context.Background(), args[0], false) }
	roles["stay"] = roleStay
	roles["send"] = func(args []string) error {
		c, err := ebpfaccel.DialContext(context.Background(), "tcp", args[0])
		if err != nil {
			return err
		}
		return sendStream(c, 1, 1<<40)
	}
	roles["call"] = roleCall
	roles["outside"] = roleOutside
}

func up(t *testing.T, pins string) Status {
	t.Helper()
	s, err := Up(t.Context(), Config{Cgroup: testCgroup(t), Pins: pins})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func down(t *testing.T, pins string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := Down(ctx, pins, false); err != nil {
		t.Fatal(err)
	}
}

// call sends something there and back.
func call(client, server net.Conn, n int) error {
	s := stream{seed: uint64(n)}
	b, got := s.fill(make([]byte, n)), make([]byte, n)
	for _, c := range [][2]net.Conn{{client, server}, {server, client}} {
		if _, err := c[0].Write(b); err != nil {
			return err
		}
		if _, err := io.ReadFull(c[1], got); err != nil {
			return err
		}
		if string(got) != string(b) {
			return errors.New("other bytes arrived than were sent")
		}
	}
	return nil
}

func TestUpPinsForItsOwnerAloneAndDownLeavesNothing(t *testing.T) {
	pins := pinsDir(t)
	if _, err := Read(pins); !errors.Is(err, ErrNotUp) {
		t.Errorf("Read() before Up = %v, want ErrNotUp", err)
	}
	if s := up(t, pins); s.Cgroup != testCgroup(t) || s.Pins != pins || s.Draining || s.Sockets != 0 {
		t.Errorf("Up() = %+v", s)
	}
	if err := filepath.WalkDir(pins, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		want := os.FileMode(0o600)
		if path == pins {
			want = os.ModeDir | 0o700
		}
		if err == nil && info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := ebpfaccel.Probe(); err != nil {
		t.Errorf("Probe() after Up = %v", err)
	}
	client, server := pair(t)
	if err := call(client, server, 1000); err != nil {
		t.Fatal(err)
	}
	s, err := Read(pins)
	if err != nil {
		t.Fatal(err)
	}
	if c := s.Counters; s.Sockets != 2 || c.Sockets != 2 || c.Accelerated != 2 || c.RedirectedBytes != 2000 || c.TCPBytes != 0 {
		t.Errorf("Read() after a call of 1000 bytes = %+v", s)
	}
	client.Close()
	server.Close()
	down(t, pins)
	if _, err := os.Stat(pins); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Down the directory is there: %v", err)
	}
	if err := ebpfaccel.Probe(); !errors.Is(err, ErrNotSupported) {
		t.Errorf("Probe() after Down = %v, want ErrNotSupported", err)
	}
	if err := Down(t.Context(), pins, false); !errors.Is(err, ErrNotUp) {
		t.Errorf("second Down() = %v, want ErrNotUp", err)
	}
}

// traffic keeps calls and streams going, on new connections again and again, until it is stopped. It reports what goes wrong.
func traffic(t *testing.T) (stop func()) {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	var done atomic.Bool
	var wg sync.WaitGroup
	run := func(f func(client, server net.Conn) error) {
		wg.Go(func() {
			for !done.Load() {
				if err := onListener(l, f); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Millisecond) // Others need the processors, too.
			}
		})
	}
	run(func(client, server net.Conn) error {
		for i := 1; i < 1000 && !done.Load(); i++ {
			if err := call(client, server, i*31); err != nil {
				return err
			}
			time.Sleep(100 * time.Microsecond)
		}
		return nil
	})
	run(func(client, server net.Conn) error { return call(client, server, 100) })
	run(func(client, server net.Conn) error {
		errs := make(chan error, 1)
		go func() { errs <- sendStream(client, 3, 3<<20) }()
		return errors.Join(readStream(server, 3, 3<<20, 64), <-errs)
	})
	return func() { done.Store(true); wg.Wait() }
}

// dialing keeps the dials of a listener apart: what Accept returns is then the other end of what was dialed.
var dialing sync.Mutex

func onListener(l net.Listener, f func(client, server net.Conn) error) error {
	dialing.Lock()
	client, server, err := connect(l, new(ebpfaccel.Dialer))
	dialing.Unlock()
	if err != nil {
		return err
	}
	defer client.Close()
	defer server.Close()
	return f(client, server)
}

func TestUpTakesThePlaceOfAnotherUnderTraffic(t *testing.T) {
	noStalls(t)
	pins := pinsDir(t)
	up(t, pins)
	client, server := pair(t)
	if err := call(client, server, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	stop := traffic(t)
	for range 2 {
		up(t, pins)
	}
	stop()
	b := make([]byte, 6)
	if _, err := io.ReadFull(server, b); err != nil || string(b) != "unread" {
		t.Errorf("read %q, %v", b, err)
	}
	if err := call(client, server, 1000); err != nil {
		t.Error(err)
	}
	before, err := Read(pins)
	if err != nil {
		t.Fatal(err)
	}
	newClient, newServer := pair(t)
	if err := call(newClient, newServer, 1000); err != nil {
		t.Fatal(err)
	}
	after, err := Read(pins)
	if err != nil {
		t.Fatal(err)
	}
	if got := after.Counters.RedirectedBytes - before.Counters.RedirectedBytes; got != 2000 {
		t.Errorf("%d bytes of a new connection were redirected, want 2000: %+v", got, after)
	}
	for _, c := range []net.Conn{client, server, newClient, newServer} {
		c.Close()
	}
	down(t, pins)
}

// An earlier version had other maps. What listeners have been marked with must last, and so must its connections.
func TestUpTakesThePlaceOfAnotherVersion(t *testing.T) {
	noStalls(t)
	pins := pinsDir(t)
	cgroup := testCgroup(t)
	old := load(t, defaults, func(spec *ebpf.CollectionSpec) { spec.Maps[accelMapSockets].MaxEntries = 1000 })
	if err := os.Mkdir(pins, 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := openPins(pins, false)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range old.byName() {
		if err := dir.pin(name, m); err != nil {
			t.Fatal(err)
		}
	}
	dir.Close()
	stop := traffic(t) // It listens with the old version.
	up(t, pins)
	// Both were attached until now, as load is not undone before the test ends: that is as bad as it can get.
	stop()
	client, server := pair(t)
	if err := call(client, server, 1000); err != nil {
		t.Fatal(err)
	}
	if s, err := Read(pins); err != nil || s.Cgroup != cgroup {
		t.Errorf("Read() = %+v, %v", s, err)
	}
	client.Close()
	server.Close()
	down(t, pins)
}

// A command that is newer, or older, than the accelerator can take it down all the same.
func TestDownTakesAnotherVersionDown(t *testing.T) {
	pins := pinsDir(t)
	up(t, pins)
	dir, err := openPins(pins, false)
	if err != nil {
		t.Fatal(err)
	}
	setting, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer setting.Close()
	if err := dir.pin(accelMapSetting, setting); err != nil {
		t.Fatal(err)
	}
	dir.Close()
	if _, err := Read(pins); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Errorf("Read() = %v, want an error that tells of another version", err)
	}
	down(t, pins)
	value, err := setting.LookupBytes(uint32(0))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 64)
	binary.NativeEndian.PutUint32(want, 1)
	if !bytes.Equal(value, want) {
		t.Errorf("settings after Down = %v, want the switch alone changed", value)
	}
}

func TestUpSurvivesBeingKilled(t *testing.T) {
	noStalls(t)
	pins := pinsDir(t)
	cgroup := testCgroup(t)
	stop := traffic(t)
	const all = 9 // six maps and three links
	for n := range all {
		cmd := startRole(t, "up "+cgroup+" "+pins)
		for start := time.Now(); ; time.Sleep(time.Millisecond) {
			if entries, _ := os.ReadDir(pins); len(entries) >= n {
				break
			}
			if time.Since(start) > patience {
				t.Fatalf("no %d pins", n)
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
	up(t, pins)
	stop()
	client, server := pair(t)
	if err := call(client, server, 1000); err != nil {
		t.Fatal(err)
	}
	after, err := Read(pins)
	if err != nil {
		t.Fatal(err)
	}
	if after.Counters.RedirectedBytes < 2000 {
		t.Errorf("nothing is redirected: %+v", after)
	}
	client.Close()
	server.Close()
	down(t, pins)
}

// roleStay loads the accelerator without pins and stays.
func roleStay(args []string) error {
	o := new(accelObjects)
	if err := loadAccelObjects(o, nil); err != nil {
		return err
	}
	if err := o.Setting.Put(uint32(0), defaults); err != nil {
		return err
	}
	if err := attachSend(o); err != nil {
		return err
	}
	for _, a := range attachments(o) {
		if _, err := a.attach(args[0]); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	select {}
}

func TestConnectionsOutliveALoaderWithoutPins(t *testing.T) {
	noStalls(t)
	cmd := roleCommand(t.Context(), "stay "+testCgroup(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := ebpfaccel.Probe(); err != nil {
		t.Fatal(err)
	}
	client, server := pair(t)
	if err := call(client, server, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	stop := traffic(t)
	cmd.Process.Kill()
	cmd.Wait()
	b := make([]byte, 6)
	if _, err := io.ReadFull(server, b); err != nil || string(b) != "unread" {
		t.Errorf("read %q, %v", b, err)
	}
	for i := range 1000 {
		if err := call(client, server, 1+i); err != nil {
			t.Fatal(err)
		}
	}
	stop()
}

// roleCall writes a few messages and waits for the other end to close.
func roleCall(args []string) error {
	if err := checkCapabilities(); err == nil {
		return errors.New("this process has capabilities")
	}
	c, err := ebpfaccel.DialContext(context.Background(), "tcp", args[0])
	if err != nil {
		return err
	}
	if err := sendStream(c, 1, 1000); err != nil {
		return err
	}
	if s := ebpfaccel.ReadStats(); s.Accelerated != 1 || s.RedirectedBytes != 1000 {
		return fmt.Errorf("after 1000 bytes: %+v", s)
	}
	_, err = io.Copy(io.Discard, c)
	return err
}

func TestProgramsNeedNoPrivileges(t *testing.T) {
	o := load(t, defaults)
	l := listen(t, "127.0.0.1:0")
	cmd := roleCommand(t.Context(), "call "+l.Addr().String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := readStream(server, 1, 1000, 0); err != nil {
		t.Error(err)
	}
	server.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if c := counters(t, o); c.RedirectedBytes != 1000 {
		t.Errorf("1000 bytes were sent: %+v", c)
	}
}

func TestReaderGetsTheBeginningWhenTheWriterIsKilled(t *testing.T) {
	noStalls(t)
	load(t, defaults)
	l := listen(t, "127.0.0.1:0")
	for range 10 {
		cmd := startRole(t, "send "+l.Addr().String())
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		server.SetDeadline(time.Now().Add(patience))
		s := stream{seed: 1}
		b := make([]byte, 64<<10)
		var killed time.Time
		for {
			from, begun := time.Now(), s.at > 0
			n, err := server.Read(b)
			if begun { // The writer is another process, which takes its time to start. Then it always has something to write.
				noteStall(from, time.Now())
			}
			if err := s.check(b[:n]); err != nil {
				t.Fatal(err)
			}
			if isTimeout(err) {
				t.Fatalf("no end %v after the writer was killed", time.Since(killed))
			} else if err != nil {
				break // EOF or a reset
			}
			if killed.IsZero() && s.at > 1<<20 {
				killed = time.Now()
				cmd.Process.Kill()
			}
		}
		server.Close()
	}
}

func TestWriterFailsWhenTheReaderIsKilled(t *testing.T) {
	noStalls(t)
	load(t, defaults)
	l := listen(t, "127.0.0.1:0")
	for range 10 {
		cmd := startRole(t, "send "+l.Addr().String()) // It never reads.
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fillUp(server, selfTestQueue); err != nil {
			t.Fatal(err)
		}
		server.SetWriteDeadline(time.Now().Add(patience))
		cmd.Process.Kill()
		cmd.Wait()
		var writeErr error
		for writeErr == nil {
			from := time.Now()
			_, writeErr = server.Write(make([]byte, 8<<10))
			noteStall(from, time.Now())
		}
		if isTimeout(writeErr) {
			t.Error("writes wait for a reader that is gone")
		}
		server.Close()
	}
}

func TestDownWaitsForConnectionsAndHarmsNone(t *testing.T) {
	noStalls(t)
	pins := pinsDir(t)
	up(t, pins)
	client, server := pair(t)
	if err := call(client, server, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Down(ctx, pins, false); !errors.Is(err, context.Canceled) {
		t.Fatalf("Down() with a connection that is open = %v, want that of ctx", err)
	}
	s, err := Read(pins)
	if err != nil || !s.Draining || s.Sockets != 2 {
		t.Errorf("Read() while draining = %+v, %v", s, err)
	}
	// What joins now must not, and what goes on is plain, in order.
	if _, err := client.Write([]byte(", more")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 12)
	if _, err := io.ReadFull(server, b); err != nil || string(b) != "unread, more" {
		t.Errorf("read %q, %v", b, err)
	}
	other, end := pair(t)
	if err := call(other, end, 1000); err != nil {
		t.Fatal(err)
	}
	after, err := Read(pins)
	if err != nil || after.Counters.RedirectedBytes != s.Counters.RedirectedBytes {
		t.Errorf("bytes are redirected while draining: %+v, %v", after, err)
	}
	// Up again ends it.
	if s := up(t, pins); s.Draining {
		t.Error("Up does not end draining")
	}
	// It waits no longer than it has to, although nobody closes anything: sockets in use leave by themselves.
	errs := make(chan error, 1)
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { errs <- Down(ctx, pins, false) }()
	for {
		select {
		case err := <-errs:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
			if err := call(client, server, 1000); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDownAtOnceLosesNothing(t *testing.T) {
	noStalls(t)
	pins := pinsDir(t)
	for range 3 {
		up(t, pins)
		client, server := pair(t)
		if err := call(client, server, 1000); err != nil {
			t.Fatal(err)
		}
		out, in := stream{}, stream{}
		if _, err := client.Write(out.fill(make([]byte, 100_000))); err != nil {
			t.Fatal(err)
		}
		stop := traffic(t)
		if err := Down(t.Context(), pins, true); err != nil {
			t.Fatal(err)
		}
		stop()
		b := make([]byte, 100_000)
		if _, err := io.ReadFull(server, b); err != nil {
			t.Fatal(err)
		}
		if err := in.check(b); err != nil {
			t.Fatal(err)
		}
		if err := call(client, server, 1000); err != nil {
			t.Fatal(err)
		}
	}
}

// The socket has joined by then.
func TestConnectionsAreWrappedAfterDown(t *testing.T) {
	pins := pinsDir(t)
	up(t, pins)
	l := listen(t, "127.0.0.1:0")
	c, err := (&net.Dialer{Control: ebpfaccel.Control}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := Down(t.Context(), pins, true); err != nil {
		t.Fatal(err)
	}
	if wrapped := ebpfaccel.Wrap(c); wrapped == c {
		t.Error("Wrap returns the connection itself, which may be accelerated")
	}
}

func TestLockIsThatOfTheDirectoryInPlace(t *testing.T) {
	pins := pinsDir(t)
	dir, err := openPins(pins, true)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := os.Remove(pins); err != nil {
		t.Fatal(err)
	}
	if err := dir.lock(); err == nil {
		t.Error("a directory that is gone could be locked")
	}
	if err := os.Mkdir(pins, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := dir.lock(); err == nil {
		t.Error("a directory that was made anew could be locked by who opened the one before")
	}
}

func TestDoctorTakesNoLinkForTheDirectory(t *testing.T) {
	pins := pinsDir(t)
	if err := os.Mkdir(pins, 0o700); err != nil {
		t.Fatal(err)
	}
	link := pins + "-link"
	if err := os.Symlink(pins, link); err != nil {
		t.Fatal(err)
	}
	for _, f := range Doctor(Config{Pins: link}) {
		if f.Subject == "pins" && f.OK {
			t.Errorf("Doctor() finds %+v, but Up refuses it", f)
		}
	}
}

func TestUpRefuses(t *testing.T) {
	cgroup := testCgroup(t)
	root, err := cgroup2Mount()
	if err != nil {
		t.Fatal(err)
	}
	pins := pinsDir(t)
	refused := func(name string, config Config, want string) {
		t.Helper()
		_, err := Up(t.Context(), config)
		if err == nil || !strings.Contains(err.Error(), want) || strings.HasSuffix(err.Error(), ": ") {
			t.Errorf("%s: Up() = %v, want one with %q", name, err, want)
		}
	}
	refused("no cgroup", Config{Pins: pins}, "none is given")
	refused("the root", Config{Cgroup: root, Pins: pins}, "is the root")
	refused("no cgroup's directory", Config{Cgroup: t.TempDir(), Pins: pins}, "not the directory of a cgroup")
	refused("a file of a cgroup", Config{Cgroup: filepath.Join(cgroup, "cgroup.procs"), Pins: pins}, "not the directory of a cgroup")
	refused("pins elsewhere", Config{Cgroup: cgroup, Pins: filepath.Join(t.TempDir(), "pins")}, "not in a BPF file system")
	if err := os.Mkdir(pins, 0o755); err != nil {
		t.Fatal(err)
	}
	refused("pins that others can open", Config{Cgroup: cgroup, Pins: pins}, "0755")
	if err := os.Chmod(pins, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Run("another program", func(t *testing.T) {
		loadNaive(t)
		refused("another program", Config{Cgroup: cgroup, Pins: pins}, "naive_send")
	})
	refused("failed self-test", Config{Cgroup: cgroup, Pins: pins, SelfTest: []string{failingArg}}, "self-test")
	if entries, err := os.ReadDir(pins); err != nil || len(entries) > 0 {
		t.Errorf("after refusals %v are pinned, %v", entries, err)
	}
	up(t, pins)
	other := filepath.Join(cgroup, "other")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(other)
	setting, err := ebpf.LoadPinnedMap(filepath.Join(pins, accelMapSetting), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer setting.Close()
	draining := defaults
	draining.Off = 1
	if err := setting.Put(uint32(0), draining); err != nil {
		t.Fatal(err)
	}
	refused("another cgroup", Config{Cgroup: other, Pins: pins}, "take it down first")
	if s, err := Read(pins); err != nil || !s.Draining {
		t.Errorf("after a refusal Read() = %+v, %v, want that it is draining as before", s, err)
	}
	if err := os.Chmod(filepath.Join(pins, accelMapSockets), 0o666); err != nil {
		t.Fatal(err)
	}
	refused("a pin that others can open", Config{Cgroup: cgroup, Pins: pins}, "0666")
	if err := os.Chmod(filepath.Join(pins, accelMapSockets), 0o600); err != nil {
		t.Fatal(err)
	}
	down(t, pins)
}

func TestUpNeedsThreeCapabilitiesAndNoRoot(t *testing.T) {
	const nobody, netAdmin, perfmon, bpf = 65534, 12, 38, 39
	pins := pinsDir(t)
	mount := filepath.Dir(pins)
	for dir, mode := range map[string]os.FileMode{mount: 0o777, filepath.Dir(mount): 0o711} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	run := func(role string, caps ...uintptr) (string, error) {
		cmd := roleCommand(t.Context(), role)
		cmd.Stderr = nil
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: caps, Pdeathsig: syscall.SIGKILL,
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	up := "up " + testCgroup(t) + " " + pins
	if out, err := run(up, netAdmin, bpf); err == nil || !strings.Contains(out, "lacks CAP_PERFMON") {
		t.Errorf("without CAP_PERFMON: %v, %s", err, out)
	}
	if out, err := run(up, netAdmin, perfmon, bpf); err != nil {
		t.Fatalf("with the three: %v, %s", err, out)
	}
	if err := ebpfaccel.Probe(); err != nil {
		t.Error(err)
	}
	client, server := pair(t)
	if err := call(client, server, 1000); err != nil {
		t.Error(err)
	}
	client.Close()
	server.Close()
	// Not even root takes for granted what is another's.
	if _, err := Read(pins); err == nil || !strings.Contains(err.Error(), "65534") {
		t.Errorf("Read() of pins of another user = %v", err)
	}
	if out, err := run("down "+pins, netAdmin, perfmon, bpf); err != nil {
		t.Errorf("down: %v, %s", err, out)
	}
}

func TestStatusSaysThatTheCgroupIsGone(t *testing.T) {
	pins := pinsDir(t)
	cgroup := filepath.Join(testCgroup(t), "gone")
	if err := os.Mkdir(cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), Config{Cgroup: cgroup, Pins: pins}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(cgroup); err != nil {
		t.Fatal(err)
	}
	if s, err := Read(pins); err != nil || !strings.HasPrefix(s.Cgroup, "(gone") {
		t.Errorf("Read() = %+v, %v, want that the cgroup is gone", s, err)
	}
	if err := Down(t.Context(), pins, false); err != nil {
		t.Error(err)
	}
}

func TestUpSaysThatCapabilitiesOfContainersDoNotCount(t *testing.T) {
	pins := pinsDir(t)
	cmd := roleCommand(t.Context(), "up "+testCgroup(t)+" "+pins)
	cmd.Stderr = nil
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{Size: 1 << 16}}, GidMappings: []syscall.SysProcIDMap{{Size: 1 << 16}},
		Pdeathsig: syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		testenv.Need(t, "ebpf", "no user namespace: "+err.Error())
	}
	if err == nil || !strings.Contains(string(out), "user namespace") {
		t.Errorf("up in a user namespace: %v, %s", err, out)
	}
}

func TestUpTestsItselfFirst(t *testing.T) {
	pins := pinsDir(t)
	up(t, pins) // The self-test must not get in the way of one that is up, nor the other way round.
	link := filepath.Join(t.TempDir(), "cgroup")
	if err := os.Symlink(testCgroup(t), link); err != nil {
		t.Fatal(err)
	}
	s, err := Up(t.Context(), Config{Cgroup: link, Pins: pins, SelfTest: []string{selfTestArg}})
	if err != nil {
		t.Fatal(err)
	}
	if s.Counters.Sockets != 0 {
		t.Errorf("the self-test counts: %+v", s)
	}
	down(t, pins)
}

// Two may test themselves at a time.
func TestUpRemovesTheCgroupsOfKilledSelfTestsAlone(t *testing.T) {
	cgroup := testCgroup(t)
	ended := roleCommand(t.Context(), "down "+t.TempDir())
	ended.Stderr = nil
	if err := ended.Run(); err == nil {
		t.Fatal("there is nothing to take down")
	}
	for pid, want := range map[int]bool{os.Getpid(): true, os.Getppid(): true, ended.Process.Pid: false} {
		dir := filepath.Join(cgroup, fmt.Sprint(selfTestCgroup, pid, "-1"))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(dir)
		removeKilled(cgroup)
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("the cgroup of process %d is there: %v, want %t", pid, err, want)
		}
	}
}

// roleOutside makes a connection like any, in a cgroup without an accelerator, to a listener in one.
func roleOutside(args []string) error {
	if err := ebpfaccel.Probe(); !errors.Is(err, ErrNotSupported) {
		return fmt.Errorf("Probe() = %w, want ErrNotSupported", err)
	}
	c, err := ebpfaccel.DialContext(context.Background(), "tcp", args[0])
	if err != nil {
		return err
	}
	if _, ok := c.(*net.TCPConn); !ok {
		return fmt.Errorf("the connection is a %T, want a plain one", c)
	}
	return sendStream(c, 1, 100_000)
}

func TestOtherCgroupsAreLeftAlone(t *testing.T) {
	o := load(t, defaults)
	l := listen(t, "127.0.0.1:0")
	root, err := cgroup2Mount()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := roleCommand(t.Context(), "outside "+l.Addr().String())
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := readStream(server, 1, 100_000, 0); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if c := counters(t, o); c.Sockets != 0 || c.RedirectedMessages != 0 || c.TCPMessages != 0 {
		t.Errorf("%+v", c)
	}
}

//go:build linux

package loader

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// A socket can be disconnected and connected to somebody else, by connect(2): bytes of the connection before are not of the new one.
func TestSocketsThatConnectAgainReadNothingOfBefore(t *testing.T) {
	o := load(t, defaults)
	client, server := pair(t)
	b := make([]byte, 64)
	for _, c := range [][2]net.Conn{{client, server}, {server, client}} {
		if _, err := c[0].Write(b[:5]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c[1], b[:5]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := server.Write([]byte("of the connection before")); err != nil {
		t.Fatal(err)
	}
	if c := counters(t, o); c.RedirectedMessages != 3 {
		t.Fatalf("%d messages were redirected, want 3: %+v", c.RedirectedMessages, c)
	}

	l := listen(t, "127.0.0.1:0")
	raw, err := client.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if ctlErr := raw.Control(func(fd uintptr) {
		nobody := syscall.RawSockaddr{Family: syscall.AF_UNSPEC}
		_, _, errno := syscall.Syscall(syscall.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&nobody)), unsafe.Sizeof(nobody))
		if errno != 0 {
			err = errno
			return
		}
		to := syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: l.Addr().(*net.TCPAddr).Port}
		if err = syscall.Connect(int(fd), &to); err == syscall.EINPROGRESS {
			err = nil
		}
	}); ctlErr != nil || err != nil {
		t.Fatalf("connect again: %v, %v", ctlErr, err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetDeadline(time.Now().Add(patience))
	if _, err := other.Write([]byte("new")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, b[:3]); err != nil || string(b[:3]) != "new" {
		t.Fatalf("first bytes of the new connection are %q (%v), want %q", b[:3], err, "new")
	}
	for range 3 { // It is a plain connection, both ways.
		for _, c := range [][2]net.Conn{{client, other}, {other, client}} {
			if _, err := c[0].Write([]byte("more")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c[1], b[:4]); err != nil || string(b[:4]) != "more" {
				t.Fatalf("read %q (%v), want %q", b[:4], err, "more")
			}
		}
	}
	if c := counters(t, o); c.RedirectedMessages != 3 {
		t.Errorf("%d messages were redirected, want the 3 of before: %+v", c.RedirectedMessages, c)
	}
}

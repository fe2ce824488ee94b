//go:build linux

package loader

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"unsafe"
)

// A reader that waits in the kernel for more than there is over TCP does not see what comes past it.
func TestReadersThatWaitForAllGetItInOrder(t *testing.T) {
	for _, wait := range []struct {
		name  string
		lowat bool
		flags int
	}{{"MSG_WAITALL", false, syscall.MSG_WAITALL}, {"SO_RCVLOWAT", true, 0}} {
		t.Run(wait.name, func(t *testing.T) {
			o := load(t, accelSettings{Limit: 4 << 10, Messages: 64, Hold: 1})
			client, server := pair(t)
			raw, err := server.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			out, in := stream{seed: 3}, stream{seed: 3}
			send := func(n int) {
				t.Helper()
				if _, err := client.Write(out.fill(make([]byte, n))); err != nil {
					t.Fatal(err)
				}
			}
			for range 8 { // The queue becomes full, and what comes after that goes over TCP.
				send(1000)
			}
			if c := counters(t, o); c.RedirectedMessages == 0 || c.Held == 0 || c.TCPMessages <= c.Held {
				t.Fatalf("there is nothing in both ways yet: %+v", c)
			}
			const more = 500
			total := int(out.at) + more
			read := make(chan error, 1)
			go func() { // reads until it has what was sent after it had read all there was
				var readErr error
				err := raw.Control(func(fd uintptr) { readErr = readWaiting(int(fd), &in, total, wait.lowat, wait.flags) })
				read <- errors.Join(err, readErr)
			}()
			for unread := 1; unread > 0; {
				if err := raw.Control(func(fd uintptr) { unread, err = inQueue(fd) }); err != nil {
					t.Fatal(err)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			send(more)
			for range 10 { // If the reader has not seen that, these are what it takes for it.
				send(1000)
			}
			if err := <-read; err != nil {
				t.Fatal(err)
			}
			b := make([]byte, out.at-in.at)
			if _, err := io.ReadFull(server, b); err != nil {
				t.Fatal(err)
			}
			if err := in.check(b); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// readWaiting reads a stream up to a position, by calls of a socket that waits, each of which asks for all.
func readWaiting(fd int, s *stream, total int, lowat bool, flags int) error {
	if err := syscall.SetNonblock(fd, false); err != nil {
		return err
	}
	defer syscall.SetNonblock(fd, true)
	end := syscall.NsecToTimeval(patience.Nanoseconds())
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &end); err != nil {
		return err
	}
	for s.at < uint64(total) {
		b := make([]byte, total-int(s.at))
		if lowat {
			if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, len(b)); err != nil {
				return err
			}
		}
		n, _, err := syscall.Recvfrom(fd, b, flags)
		if err == syscall.EINTR {
			continue
		} else if err != nil || n == 0 {
			return fmt.Errorf("recv at %d of %d: %d, %w", s.at, total, n, err)
		}
		if err := s.check(b[:n]); err != nil {
			return err
		}
	}
	return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, 1)
}

// inQueue returns how many bytes of a socket are unread.
func inQueue(fd uintptr) (int, error) {
	var n int32
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

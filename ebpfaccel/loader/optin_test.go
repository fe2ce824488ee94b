//go:build linux

package loader

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"unsafe"
)

// setOption returns what the kernel makes of an option with a value of so many bytes.
func setOption(t *testing.T, domain, kind, level, name, size int) error {
	t.Helper()
	fd, err := syscall.Socket(domain, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	value := make([]byte, size)
	value[0] = 1
	_, _, errno := syscall.Syscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&value[0])), uintptr(size), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func TestOtherOptionsStayAsTheyAre(t *testing.T) {
	const mark = 0x6c6f
	options := map[string]func() error{
		"an option with a value of two pages": func() error {
			return setOption(t, syscall.AF_INET, syscall.SOCK_STREAM, syscall.SOL_IP, syscall.IP_MSFILTER, 8192)
		},
		"keep-alive": func() error {
			return setOption(t, syscall.AF_INET, syscall.SOCK_STREAM, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 4)
		},
		"the mark on a socket of UDP":     func() error { return setOption(t, syscall.AF_INET, syscall.SOCK_DGRAM, mark, 1, 4) },
		"the mark on a Unix socket":       func() error { return setOption(t, syscall.AF_UNIX, syscall.SOCK_STREAM, mark, 1, 4) },
		"another option beside the mark":  func() error { return setOption(t, syscall.AF_INET, syscall.SOCK_STREAM, mark, 2, 4) },
		"a long option beside the mark's": func() error { return setOption(t, syscall.AF_INET, syscall.SOCK_STREAM, mark, 2, 8192) },
	}
	testCgroup(t)
	before := make(map[string]error)
	for name, set := range options {
		before[name] = set()
	}
	load(t, defaults)
	for name, set := range options {
		if got, want := set(), before[name]; !errors.Is(got, want) {
			t.Errorf("%s: setsockopt = %v, want %v as without the accelerator", name, got, want)
		}
	}
	if err := setOption(t, syscall.AF_INET6, syscall.SOCK_STREAM, mark, 1, 4); err != nil {
		t.Errorf("the mark on a socket of TCP: %v", err)
	}
}

// askOption returns what the kernel answers to a question with room for so many bytes.
func askOption(t *testing.T, domain, kind, level, name, size int) string {
	t.Helper()
	fd, err := syscall.Socket(domain, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	value, length := make([]byte, size), uint32(size)
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&length)), 0)
	return fmt.Sprintf("%d, %d: %x", errno, length, value)
}

func TestOtherAnswersStayAsTheyAre(t *testing.T) {
	const mark, report, size = 0x6c6f, 2, 56
	questions := map[string]func() string{}
	for name, q := range map[string]struct{ domain, kind, level, name, size int }{
		"keep-alive":                           {syscall.AF_INET, syscall.SOCK_STREAM, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 4},
		"no room":                              {syscall.AF_INET, syscall.SOCK_STREAM, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		"two pages":                            {syscall.AF_INET, syscall.SOCK_STREAM, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8192},
		"two pages for other options":          {syscall.AF_INET, syscall.SOCK_STREAM, syscall.SOL_IP, syscall.IP_OPTIONS, 8192},
		"an error with two pages":              {syscall.AF_INET, syscall.SOCK_STREAM, syscall.SOL_TCP, 999, 8192},
		"the report on a socket of UDP":        {syscall.AF_INET, syscall.SOCK_DGRAM, mark, report, size},
		"the report on a Unix socket":          {syscall.AF_UNIX, syscall.SOCK_STREAM, mark, report, size},
		"the report on one that is not marked": {syscall.AF_INET, syscall.SOCK_STREAM, mark, report, size},
		"another option beside the report":     {syscall.AF_INET, syscall.SOCK_STREAM, mark, 3, size},
	} {
		questions[name] = func() string { return askOption(t, q.domain, q.kind, q.level, q.name, q.size) }
	}
	testCgroup(t)
	before := make(map[string]string)
	for name, ask := range questions {
		before[name] = ask()
	}
	load(t, defaults)
	for name, ask := range questions {
		if got, want := ask(), before[name]; got != want {
			t.Errorf("%s: getsockopt = %.200s, want %.200s as without the accelerator", name, got, want)
		}
	}
}

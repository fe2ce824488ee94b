//go:build !386 && !s390x

package ebpfaccel

import (
	"syscall"
	"unsafe"
)

// readReport asks the accelerator about a socket.
func readReport(fd uintptr) (report, error) {
	var r report
	size := uint32(unsafe.Sizeof(r))
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, optionLevel, optionReport,
		uintptr(unsafe.Pointer(&r)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return report{}, errno
	}
	return r, nil
}

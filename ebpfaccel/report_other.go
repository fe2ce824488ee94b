//go:build !linux || 386 || s390x

package ebpfaccel

// On some systems the options of sockets have no system call of their own.
func readReport(uintptr) (report, error) { return report{}, ErrNotSupported }

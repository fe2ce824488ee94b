package ebpfaccel

import "syscall"

// The option that the accelerator adds to sockets. No protocol has its level.
const (
	optionLevel      = 0x6c6f
	optionAccelerate = 1
)

func setMark(fd uintptr) error {
	return syscall.SetsockoptInt(int(fd), optionLevel, optionAccelerate, 1)
}

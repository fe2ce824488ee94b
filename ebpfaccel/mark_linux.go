package ebpfaccel

import "syscall"

// The options that the accelerator adds to sockets. No protocol has their level.
const (
	optionLevel      = 0x6c6f
	optionAccelerate = 1
	optionReport     = 2
)

func setMark(fd uintptr) error {
	return syscall.SetsockoptInt(int(fd), optionLevel, optionAccelerate, 1)
}

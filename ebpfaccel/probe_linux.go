package ebpfaccel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

func probe() []string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return []string{fmt.Sprintf("cannot make a socket: %v", err)}
	}
	defer syscall.Close(fd)
	err = setMark(uintptr(fd))
	if err == nil {
		return nil
	}
	var reasons []string
	if err := CheckHost(); err != nil {
		var missing *NotSupportedError
		errors.As(err, &missing)
		reasons = missing.Reasons
	}
	if !errors.Is(err, syscall.ENOPROTOOPT) {
		return append(reasons, fmt.Sprintf("cannot set the option of sockets: %v", err))
	}
	return append(reasons, fmt.Sprintf("no accelerator is up for the cgroup of this process (%s): see zerohop accel up", ownCgroup()))
}

// ownCgroup returns the path of the process in the hierarchy of cgroup v2.
func ownCgroup() string {
	data, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path
		}
	}
	return "none of version 2"
}

// CheckHost returns nil if the kernel of this host can have an accelerator, and otherwise a [*NotSupportedError]. It needs no
// privileges and does not say whether there is one: see [Probe].
func CheckHost() error {
	var reasons []string
	if release, err := kernelRelease(); err != nil {
		reasons = append(reasons, fmt.Sprintf("cannot tell the kernel: %v", err))
	} else if err := CheckKernel(release); err != nil {
		reasons = append(reasons, err.Error())
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		reasons = append(reasons, "the kernel has no BTF: it needs CONFIG_DEBUG_INFO_BTF")
	}
	if data, err := os.ReadFile("/proc/filesystems"); err == nil && !bytes.Contains(data, []byte("\tcgroup2\n")) {
		reasons = append(reasons, "the kernel has no cgroup v2")
	}
	if data, err := os.ReadFile("/sys/kernel/security/lockdown"); err == nil && bytes.Contains(data, []byte("[confidentiality]")) {
		reasons = append(reasons, "the kernel is locked down: programs may not read its memory in mode confidentiality")
	}
	if len(reasons) > 0 {
		return &NotSupportedError{Reasons: reasons}
	}
	return nil
}

// kernelRelease returns what uname -r prints. Tests put others in its place.
var kernelRelease = func() (string, error) {
	var uname syscall.Utsname
	if err := syscall.Uname(&uname); err != nil {
		return "", err
	}
	release := make([]byte, 0, len(uname.Release))
	for _, c := range uname.Release {
		release = append(release, byte(c))
	}
	release, _, _ = bytes.Cut(release, []byte{0})
	return string(release), nil
}

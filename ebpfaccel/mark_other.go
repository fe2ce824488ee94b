//go:build !linux

package ebpfaccel

func setMark(uintptr) error { return ErrNotSupported }

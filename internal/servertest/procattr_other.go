//go:build unix && !linux

package servertest

import "syscall"

func procAttr() *syscall.SysProcAttr { return nil }

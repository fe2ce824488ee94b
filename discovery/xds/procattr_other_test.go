//go:build unix && !linux

package xds

import "syscall"

func procAttr() *syscall.SysProcAttr { return nil }

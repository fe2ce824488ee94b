package xds

import "syscall"

// procAttr makes a control plane end with the test, even if that is killed while the control plane is stopped.
func procAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

package servertest

import "syscall"

// procAttr makes a server end with the test, even if that is killed.
func procAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

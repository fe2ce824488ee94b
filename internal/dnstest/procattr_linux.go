package dnstest

import "syscall"

// procAttr makes the server end with the test, even if that is killed.
func procAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

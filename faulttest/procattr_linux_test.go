package faulttest

import "syscall"

// procAttr makes a backend end with the test, even if that is killed while the backend is stopped.
func procAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

package consultest

import "syscall"

// procAttr makes the agent end with the test, even if that is killed.
func procAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

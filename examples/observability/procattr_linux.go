package main

import "syscall"

// procAttr makes a server end with this program, even if that is killed.
func procAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

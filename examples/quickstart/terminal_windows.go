package main

import (
	"os"
	"syscall"
)

var setConsoleMode = syscall.NewLazyDLL("kernel32.dll").NewProc("SetConsoleMode")

// understandsEscapes switches the escape sequences of the console on, which versions before Windows 10 do not have.
func understandsEscapes(console *os.File) bool {
	const virtualTerminalProcessing = 4
	var mode uint32
	if err := syscall.GetConsoleMode(syscall.Handle(console.Fd()), &mode); err != nil {
		return false
	}
	ok, _, _ := setConsoleMode.Call(console.Fd(), uintptr(mode|virtualTerminalProcessing))
	return ok != 0
}

//go:build unix

package orca

import (
	"syscall"
	"time"
)

// cpuTime returns the time that processors have worked for this process, 0 if unknown.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

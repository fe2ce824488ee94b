//go:build !linux

package ebpfaccel

import "runtime"

func probe() []string { return []string{"needs Linux, not " + runtime.GOOS} }

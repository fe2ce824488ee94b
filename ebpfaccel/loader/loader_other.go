//go:build !linux

package loader

import (
	"context"
	"runtime"

	"github.com/zerohop/zerohop/ebpfaccel"
)

func notSupported() error {
	return &ebpfaccel.NotSupportedError{Reasons: []string{"needs Linux, not " + runtime.GOOS}}
}

// Up loads the accelerator, on Linux.
func Up(context.Context, Config) (Status, error) { return Status{}, notSupported() }

// Down drains the accelerator and takes it out, on Linux.
func Down(_ context.Context, pins string, now bool) error { return notSupported() }

// Read returns the status of the accelerator, on Linux.
func Read(pins string) (Status, error) { return Status{}, notSupported() }

// SelfTest tests the accelerator, on Linux.
func SelfTest(context.Context) error { return notSupported() }

// MeasureGain measures the accelerator, on Linux.
func MeasureGain(context.Context) (Gain, error) { return Gain{}, notSupported() }

// Doctor looks at what Up needs, on Linux.
func Doctor(Config) []Finding {
	return []Finding{{Subject: "system", Detail: "needs Linux, not " + runtime.GOOS}}
}

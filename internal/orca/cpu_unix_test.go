//go:build unix

package orca

import (
	"runtime"
	"testing"
	"time"
)

func TestCPUTimeGrowsWithWork(t *testing.T) {
	const work = 20 * time.Millisecond
	before, start := cpuTime(), time.Now()
	for cpuTime()-before < work { // this is the work
	}
	if least := work / time.Duration(runtime.NumCPU()) / 2; time.Since(start) < least {
		t.Errorf("%v of work took %v, want at least %v", work, time.Since(start), least)
	}
}

//go:build linux

package loader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// The variables by which the process that go test started tells the one that runs the tests what it has made for it.
const (
	cgroupVar = "ZEROHOP_ACCEL_TEST_CGROUP"
	reasonVar = "ZEROHOP_ACCEL_TEST_REASON"
)

// These make this program the self-test, and one that fails.
const (
	selfTestArg = "selftest"
	failingArg  = "failing-selftest"
)

// TestMain runs the tests in a process of their own, in its own mount namespace and cgroup: what they mount is gone with
// that process, however it ends, and programs that they attach see no other process.
func TestMain(m *testing.M) {
	switch os.Args[len(os.Args)-1] {
	case selfTestArg:
		if err := SelfTest(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case failingArg:
		os.Exit(1)
	}
	if role := os.Getenv(roleVar); role != "" {
		os.Exit(playRole(role))
	}
	if os.Getenv(cgroupVar) != "" || os.Getenv(reasonVar) != "" {
		goleak.VerifyTestMain(m)
		return
	}
	lockHost()
	cgroup, err := makeCgroup()
	if err != nil {
		os.Setenv(reasonVar, err.Error())
		os.Exit(m.Run())
	}
	code := runIn(cgroup)
	os.Remove(cgroup)
	os.Exit(code)
}

// lockHost keeps two runs apart: each would refuse to load what it tests while the other has its control loaded, which is one
// of the programs that get in the way. The lock ends with the process.
func lockHost() {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "zerohop-ebpf-test.lock"), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "other runs are not waited for: %v\n", err)
	}
	held = f
}

// held keeps the file of the lock open.
var held *os.File

func makeCgroup() (string, error) {
	if os.Getuid() != 0 {
		return "", errors.New("not root")
	}
	mount, err := cgroup2Mount()
	if err != nil {
		return "", err
	}
	// Runs that were killed leave theirs. The kernel keeps those in use.
	removeKilled(mount)
	for _, left := range []string{"zerohop-test-*/*", "zerohop-test-*"} {
		dirs, _ := filepath.Glob(filepath.Join(mount, left))
		for _, dir := range dirs {
			syscall.Rmdir(dir)
		}
	}
	dir, err := os.MkdirTemp(mount, "zerohop-test-*")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755) // Tests without root attach to it.
}

// runIn runs this program again in cgroup and returns its exit code.
func runIn(cgroup string) int {
	dir, err := os.Open(cgroup)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), cgroupVar+"="+cgroup)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(dir.Fd()), Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(1, exit.ExitCode())
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

package ebpfaccel_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/zerohop/zerohop/internal/testenv"
)

// A user namespace has all privileges but those of the kernel itself.
func TestNothingChangesInAUserNamespace(t *testing.T) {
	const inner = "ZEROHOP_ACCEL_TEST_NAMESPACE"
	if os.Getenv(inner) != "" {
		checkPlain(t)
		return
	}
	for name, id := range map[string]int{"root": 0, "somebody": 1000} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestNothingChangesInAUserNamespace$", "-test.v")
			cmd.Env = append(os.Environ(), inner+"=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: id, HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: id, HostID: os.Getgid(), Size: 1}},
			}
			out, err := cmd.CombinedOutput()
			if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
				testenv.Need(t, "ebpf", "no user namespaces: "+err.Error())
			}
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

package ebpfaccel

import (
	"errors"
	"strings"
	"testing"
)

// A process whose sockets cannot be marked learns what is the matter with the kernel, too.
func TestProbeNamesAnOldKernel(t *testing.T) {
	if Probe() == nil {
		t.Skip("this process is in a cgroup with an accelerator")
	}
	defer func(f func() (string, error)) { kernelRelease = f }(kernelRelease)
	for release, want := range map[string]string{
		"5.10.200-generic": "network namespaces cannot be told apart",
		"6.1.141":          "fixed in 6.1.142",
		"6.12.79":          "short answers",
		"6.15.3":           "fixed in 6.17",
		"strange":          "cannot be read",
	} {
		kernelRelease = func() (string, error) { return release, nil }
		for _, err := range []error{Probe(), CheckHost()} {
			if !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), release) || !strings.Contains(err.Error(), want) {
				t.Errorf("kernel %s: %v, want %q", release, err, want)
			}
		}
	}
	kernelRelease = func() (string, error) { return "", errors.New("not today") }
	if err := CheckHost(); err == nil || !strings.Contains(err.Error(), "not today") {
		t.Errorf("CheckHost() = %v", err)
	}
}

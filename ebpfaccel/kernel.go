package ebpfaccel

import (
	"fmt"
	"strconv"
	"strings"
)

// A version is that of a kernel: 6.18.44.
type version [3]int

func (v version) before(w version) bool {
	for i := range v {
		if v[i] != w[i] {
			return v[i] < w[i]
		}
	}
	return false
}

// A bad range is one of kernels that lose, mix up or withhold bytes of accelerated connections, or fall over them. It is of one
// or more branches, each up to the first version with the fixes.
type badRange struct {
	from, to version // to is not in it
	why      string
}

// The fixes came to the branches that are maintained for long, and to 6.17: those between them ended without.
var badKernels = []badRange{
	{version{}, version{5, 15, 0}, "network namespaces cannot be told apart (needs 5.15)"},
	{version{5, 15, 0}, version{6, 1, 142}, "connections stall, and sends of large messages may crash it (fixed in 6.1.142)"},
	{version{6, 2, 0}, version{6, 6, 94}, "use after free and crashes with redirected messages (fixed in 6.6.94)"},
	{version{6, 7, 0}, version{6, 12, 80}, "does not charge what waits at readers; stalls and short answers were seen up to 6.12.79"},
	{version{6, 13, 0}, version{6, 17, 0}, "loses bytes and frees what is in use while sending (fixed in 6.17)"},
}

// CheckKernel returns an error if a kernel of this release, as uname -r prints it, must not accelerate connections. That it
// returns nil does not say that the kernel has all that is needed.
func CheckKernel(release string) error {
	v, ok := parseRelease(release)
	if !ok {
		return fmt.Errorf("kernel %q has a release that cannot be read", release)
	}
	for _, bad := range badKernels {
		if !v.before(bad.from) && v.before(bad.to) {
			return fmt.Errorf("kernel %s: %s", release, bad.why)
		}
	}
	return nil
}

// parseRelease reads 6.1.0-49-amd64, 6.18.44+ and 6.17-rc3, whose last number is 0.
func parseRelease(release string) (version, bool) {
	var v version
	numbers := release
	if i := strings.IndexFunc(release, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		numbers = release[:i]
	}
	parts := strings.Split(numbers, ".")
	if len(parts) < 2 {
		return v, false
	}
	for i, part := range parts[:min(3, len(parts))] {
		n, err := strconv.Atoi(part)
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, true
}

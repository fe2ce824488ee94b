//go:build linux

package loader

import (
	"errors"
	"strings"
	"testing"

	"github.com/zerohop/zerohop/ebpfaccel"
)

func TestLackingNamesCapabilities(t *testing.T) {
	const netAdmin, sysAdmin, perfmon, bpf = 1 << 12, 1 << 21, 1 << 38, 1 << 39
	for _, test := range []struct {
		effective uint64
		want      string
	}{
		{0, "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"},
		{bpf | netAdmin, "CAP_PERFMON"},
		{netAdmin | perfmon, "CAP_BPF"},
		{sysAdmin, "CAP_NET_ADMIN"},
		{bpf | netAdmin | perfmon, ""},
		{sysAdmin | netAdmin, ""},
		{1<<41 - 1, ""},
	} {
		err := lacking(test.effective)
		if (err == nil) != (test.want == "") || err != nil && err.Error() != "lacks "+test.want {
			t.Errorf("lacking(%#x) = %v, want %q", test.effective, err, test.want)
		}
	}
}

func TestDoctorNamesAllThatIsMissing(t *testing.T) {
	err := missing([]Finding{
		{Subject: "a", OK: true}, {Subject: "b", Detail: "is not there"}, {Subject: "c", Unknown: true},
		{Subject: "d", Detail: "neither"},
	})
	var reasons *ebpfaccel.NotSupportedError
	if !errors.As(err, &reasons) || strings.Join(reasons.Reasons, "|") != "b: is not there|d: neither" {
		t.Errorf("missing() = %v", err)
	}
	if err := missing([]Finding{{Subject: "a", OK: true}, {Subject: "c", Unknown: true}}); err != nil {
		t.Errorf("missing() = %v although all that is known is there", err)
	}
	// Neither needs privileges.
	for _, f := range Doctor(Config{Cgroup: t.TempDir(), Pins: t.TempDir()}) {
		if f.Subject == "" || f.Detail == "" || (f.Subject == "cgroup" || f.Subject == "pins") && f.OK {
			t.Errorf("Doctor() finds %+v", f)
		}
	}
}

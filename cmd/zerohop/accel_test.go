package main

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop/ebpfaccel"
	"github.com/zerohop/zerohop/ebpfaccel/loader"
)

func TestAccelSaysWhatIsWrong(t *testing.T) {
	nowhere := t.TempDir() + "/pins"
	missing, notUp := "is not the directory of a cgroup", "no accelerator is up in "+nowhere
	if runtime.GOOS != "linux" {
		missing, notUp = "needs Linux", "needs Linux"
	}
	for _, test := range []struct {
		args   []string
		code   int
		stderr string
	}{
		{nil, exitUsage, "want accel up"},
		{[]string{"sideways"}, exitUsage, `unknown command accel "sideways"`},
		{[]string{"up"}, exitUsage, "want --cgroup"},
		{[]string{"up", "--now"}, exitUsage, "-now"},
		{[]string{"down", "--allow-no-gain"}, exitUsage, "-allow-no-gain"},
		{[]string{"down", "now"}, exitUsage, `unexpected argument "now"`},
		{[]string{"up", "--cgroup", t.TempDir(), "--pins", nowhere}, exitNone, missing},
		{[]string{"status", "--pins", nowhere}, exitNone, notUp},
		{[]string{"down", "--pins", nowhere}, exitNone, notUp},
	} {
		code, _, stderr := zerohop(t.Context(), append([]string{"accel"}, test.args...)...)
		if code != test.code || !strings.Contains(stderr, test.stderr) {
			t.Errorf("accel %q = %d, %q, want %d, %q", test.args, code, stderr, test.code, test.stderr)
		}
	}
}

func TestAccelDoctorListsWhatIsMissing(t *testing.T) {
	code, stdout, stderr := zerohop(t.Context(), "accel", "doctor", "--cgroup", t.TempDir(), "--pins", t.TempDir()+"/pins")
	if code != exitNone || !strings.Contains(stdout, "MISSING") || !strings.Contains(stderr, "are missing") {
		t.Errorf("accel doctor = %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, _ = zerohop(t.Context(), "accel", "doctor", "--json")
	if code != exitNone || !strings.Contains(stdout, `"subject": "this process"`) {
		t.Errorf("accel doctor --json = %d, %q", code, stdout)
	}
}

func TestAccelMeasuresWhatIsUpAlone(t *testing.T) {
	if err := ebpfaccel.Probe(); !errors.Is(err, ebpfaccel.ErrNotSupported) {
		t.Skip("there is one for this process")
	}
	for _, command := range []string{"bench", "self-test"} {
		code, stdout, stderr := zerohop(t.Context(), "accel", command)
		if code != exitNone || stdout != "" || !strings.Contains(stderr, "ebpfaccel: ") {
			t.Errorf("accel %s = %d, %q, %q", command, code, stdout, stderr)
		}
	}
}

func TestAccelStatusShowsEveryCounter(t *testing.T) {
	var b strings.Builder
	s := loader.Status{Cgroup: "/sys/fs/cgroup/x", Pins: "/sys/fs/bpf/zerohop", Sockets: 3, Draining: true}
	s.Counters.RedirectedBytes, s.Counters.Stranger = 71, 72
	if err := writeStatus(&b, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"draining", "/sys/fs/cgroup/x", "sockets now", "redirected bytes     71", "stranger             72",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the status lacks %q:\n%s", want, &b)
		}
	}
}

func TestAccelBenchComparesWithTCP(t *testing.T) {
	tcp, unix := benchPaths[0], benchPaths[2]
	echo, stream := workload{name: "echo", size: 64}, workload{name: "stream", size: 1 << 10}
	results := []benchResult{
		resultOf(echo, unix, 30*time.Microsecond, 8*time.Microsecond, 40*time.Microsecond, 10*time.Microsecond),
		resultOf(stream, unix, time.Millisecond, time.Microsecond, 2*time.Millisecond, 4*time.Microsecond),
		resultOf(stream, tcp, time.Millisecond, 0, time.Millisecond, 0),
	}
	want := []benchResult{
		{Workload: "echo", Bytes: 64, Path: "Unix socket", P50: 30, CPU: 8, Ratio: 0.75, CPURatio: 0.8},
		{Workload: "stream", Bytes: 1024, Path: "Unix socket", Rate: 1000, CPU: 1, Ratio: 2, CPURatio: 0.25},
		{Workload: "stream", Bytes: 1024, Path: "TCP", Rate: 1000, Ratio: 1},
	}
	if !slices.Equal(results, want) {
		t.Errorf("resultOf() = %+v, want %+v", results, want)
	}
	var b strings.Builder
	if err := writeBench(&b, results); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"30.0 µs 0.75 8.0 µs 0.80", "1000 MB/s 2.00 1.0 µs 0.25"} {
		if !strings.Contains(strings.Join(strings.Fields(b.String()), " "), want) {
			t.Errorf("the table lacks %q:\n%s", want, &b)
		}
	}
}

// All that does not take an accelerator.
func TestAccelBenchRunsOverEveryPath(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no Unix sockets are compared")
	}
	for _, p := range benchPaths {
		loads := []workload{{name: "echo", size: 1 << 10, run: benchEcho}, {name: "stream", size: 1 << 10, run: benchStream}}
		if p.network == "" {
			loads = []workload{{name: "HTTP GET", size: 1 << 10, run: benchHTTP}}
		}
		for _, load := range loads {
			m, err := load.run(t.Context(), p, load.size, time.Millisecond)
			if err != nil || m.wall <= 0 {
				t.Errorf("%s, %s: %+v, %v", load.name, p.name, m, err)
			}
		}
	}
}

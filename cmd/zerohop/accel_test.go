package main

import (
	"context"
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
	// Rounds on a host that is slower in some.
	us := time.Microsecond
	of := func(wall, cpu time.Duration, percent ...time.Duration) (ms []measure) {
		for _, p := range percent {
			ms = append(ms, measure{wall * p / 100, cpu * p / 100})
		}
		return ms
	}
	slow := []time.Duration{100, 100, 300, 100, 200}
	results := []benchResult{
		resultOf(echo, unix, of(30*us, 8*us, slow...), of(40*us, 10*us, slow...)),
		resultOf(stream, unix, of(1000*us, us, slow...), of(2000*us, 4*us, slow...)),
		resultOf(stream, tcp, of(1000*us, 0, slow...), of(1000*us, 0, slow...)),
		resultOf(echo, unix, of(100*us, 0, 5, 50, 60, 60, 61, 62, 70, 71, 71, 72, 80, 80, 90, 99, 900), of(100*us, 0, slices.Repeat(slow[:1], 15)...)),
	}
	want := []benchResult{
		{Workload: "echo", Bytes: 64, Path: "Unix socket", P50: 30, CPU: 8, Ratio: 0.75, Low: 0.75, High: 0.75, CPURatio: 0.8},
		{Workload: "stream", Bytes: 1024, Path: "Unix socket", Rate: 1000, CPU: 1, Ratio: 2, Low: 2, High: 2, CPURatio: 0.25},
		{Workload: "stream", Bytes: 1024, Path: "TCP", Rate: 1000, Ratio: 1, Low: 1, High: 1},
		{Workload: "echo", Bytes: 64, Path: "Unix socket", P50: 71, Ratio: 0.71, Low: 0.6, High: 0.8},
	}
	if !slices.Equal(results, want) {
		t.Errorf("resultOf() = %+v, want %+v", results, want)
	}
	var b strings.Builder
	if err := writeBench(&b, results); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"30.0 µs 0.75 0.75 0.75 8.0 µs 0.80", "1000 MB/s 2.00 2.00 2.00 1.0 µs 0.25", "71.0 µs 0.71 0.60 0.80"} {
		if !strings.Contains(strings.Join(strings.Fields(b.String()), " "), want) {
			t.Errorf("the table lacks %q:\n%s", want, &b)
		}
	}
}

func TestAccelBenchRangeHoldsTheMedian(t *testing.T) {
	// From tables of the sign test at 5 %.
	for n, want := range map[int]int{1: 0, 5: 0, 6: 0, 7: 0, 8: 0, 9: 1, 15: 3, 25: 7, 40: 13, 99: 39} {
		if got := outer(n); got != want {
			t.Errorf("outer(%d) = %d, want %d", n, got, want)
		}
	}
}

func TestAccelBenchMakesMoreRoundsInMoreTime(t *testing.T) {
	const samples = 90
	for _, test := range []struct {
		total, sample time.Duration
		rounds        int
	}{
		{time.Minute, benchSample, 15},
		{4 * time.Minute, benchSample, 59},
		{30 * time.Second, benchSample, 7},
		{7 * time.Second, 10 * time.Millisecond, 7},
	} {
		if rounds, sample := turns(test.total, samples); rounds != test.rounds || sample != test.sample {
			t.Errorf("turns(%v) = %d, %v, want %d, %v", test.total, rounds, sample, test.rounds, test.sample)
		}
	}
}

func TestAccelBenchTakesTurnsThereAndBack(t *testing.T) {
	var order []string
	load := workload{size: 5, run: func(_ context.Context, p path, size int, d time.Duration) (measure, error) {
		if size != 5 || d != time.Second {
			t.Errorf("a run of %d bytes for %v", size, d)
		}
		order = append(order, p.name)
		return measure{time.Duration(len(order)), time.Duration(2 * len(order))}, nil
	}}
	const rounds = 15
	paths := []path{{name: "a"}, {name: "b"}, {name: "c"}}
	taken, err := takeTurns(t.Context(), load, paths, rounds, time.Second)
	if err != nil || len(order) != 6*rounds {
		t.Fatalf("%d runs, %v", len(order), err)
	}
	firsts := make(map[string]bool)
	for round := range rounds {
		turn := order[6*round:][:6]
		for i, p := range paths {
			if there := slices.Index(turn[:3], p.name); there < 0 || turn[5-there] != p.name {
				t.Errorf("the order of a round is %v", turn)
			}
			// All are at the same time, on average.
			if want := time.Duration(6*round+1+6*round+6) / 2; taken[i][round] != (measure{want, 2*want + 1}) {
				t.Errorf("round %d of %s = %v, want %v", round, p.name, taken[i][round], want)
			}
		}
		firsts[turn[0]] = true
	}
	if len(firsts) < 2 {
		t.Error("one is always first")
	}
	failure := errors.New("broken")
	load.run = func(context.Context, path, int, time.Duration) (measure, error) { return measure{}, failure }
	if _, err := takeTurns(t.Context(), load, paths, rounds, time.Second); !errors.Is(err, failure) {
		t.Errorf("takeTurns() = %v, want %v", err, failure)
	}
}

// All that does not take an accelerator.
func TestAccelBenchRunsOverEveryPath(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no Unix sockets are compared")
	}
	addrs, stop, err := serveBench(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, p := range benchPaths {
		loads := []workload{{name: "HTTP GET", size: 1 << 10, run: benchNear}}
		if p.network != "" {
			p.near, addrs = addrs[0], addrs[1:]
			p.far = p.near // what serves elsewhere is the same
			loads = append(loads, workload{name: "HTTP GET to another process", size: 1 << 10, run: benchFar},
				workload{name: "echo", size: 1 << 10, run: benchEcho}, workload{name: "stream", size: 1 << 10, run: benchStream})
		}
		for _, load := range loads {
			m, err := load.run(t.Context(), p, load.size, time.Millisecond)
			if err != nil || m.wall <= 0 {
				t.Errorf("%s, %s: %+v, %v", load.name, p.name, m, err)
			}
		}
	}
}

package sim

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// one is a service with one endpoint and clients that repeat nothing, so that what is seen is what the endpoint does.
func one(v Service, rate float64, timeout time.Duration, faults ...Fault) Scenario {
	for i := range faults {
		faults[i].Service = "s"
	}
	return Scenario{
		Services: map[string]Service{"s": v},
		Clients:  []Client{{Service: "s", Rate: rate, Timeout: timeout, Mesh: noRetry()}},
		Faults:   faults,
		For:      30 * time.Second,
	}
}

func TestFaultsDoWhatTheySay(t *testing.T) {
	const from, to = 10 * time.Second, 20 * time.Second
	service := Service{Workers: 10, Time: Constant(10 * time.Millisecond)}
	for _, tt := range []struct {
		name  string
		fault Fault
		want  Bounds // meanwhile
		most  float64
	}{
		{"none", Fault{Load: 1}, Bounds{Success: 1, P999: 12 * time.Millisecond}, 1},
		{"capacity", Fault{Capacity: 0.1}, Bounds{Goodput: 90}, 0.55},
		{"slow", Fault{Slow: 3}, Bounds{Success: 1, P50: 32 * time.Millisecond}, 1},
		{"latency", Fault{Latency: 20 * time.Millisecond}, Bounds{Success: 1, P50: 52 * time.Millisecond}, 1},
		{"fail", Fault{Fail: 0.5}, Bounds{Success: 0.46}, 0.54},
		{"shed", Fault{Shed: 0.5, After: 2 * time.Second}, Bounds{Success: 0.46}, 0.54},
		{"registry", Fault{Registry: RegistryBroken}, Bounds{Success: 1}, 1},
		{"kill", Fault{Kill: true}, Bounds{}, 0.001},
		{"hang", Fault{Hang: true}, Bounds{}, 0.001},
		{"partition", Fault{Partition: true}, Bounds{}, 0.001},
		{"leave", Fault{Leave: true}, Bounds{}, 1},
		{"load", Fault{Load: 2}, Bounds{Goodput: 380}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := tt.fault
			f.At, f.For = from, to-from
			s := one(service, 200, time.Second, f)
			if tt.name == "capacity" { // else all of them wait too long
				s.Services["s"] = Service{Workers: 10, Time: Constant(10 * time.Millisecond), Queue: 20}
			}
			r := Run(t, s)
			during := tt.want
			during.From, during.To = from+time.Second, to
			r.Check(t, during)
			if got := r.Success(from+time.Second, to); got > tt.most {
				t.Errorf("success meanwhile = %.3f, want at most %.3f", got, tt.most)
			}
			// Those of the last second before a fault may suffer from it.
			r.Check(t, Bounds{To: from - time.Second, Success: 1, P999: 15 * time.Millisecond})
			r.Check(t, Bounds{From: to + 4*time.Second, // what a hang has left is done then
				Success: 1, P999: 15 * time.Millisecond})
		})
	}
}

func TestQueueIsLimited(t *testing.T) {
	r := Run(t, one(Service{Workers: 10, Time: Constant(100 * time.Millisecond), Queue: 20, Latency: Constant(0)}, 200, 0))
	if got := r.Quantile(1, 0, 0); got > 310*time.Millisecond {
		t.Errorf("longest call took %v, want 300 ms: two in the queue for each worker, and itself", got)
	}
	if got := r.Goodput(time.Second, 0); got < 99 || got > 101 {
		t.Errorf("goodput = %.1f, want 100, the capacity", got)
	}
}

func TestLastFirstServesHalfAtOnce(t *testing.T) {
	v := Service{Workers: 10, Time: Constant(100 * time.Millisecond)}
	first := Run(t, one(v, 200, time.Second))
	v.LIFO = true
	last := Run(t, one(v, 200, time.Second))
	if a, b := first.Goodput(10*time.Second, 0), last.Goodput(10*time.Second, 0); a > 1 || b < 80 {
		t.Errorf("goodput of an overload = %.1f, last first %.1f, want 0 and nearly the capacity of 100", a, b)
	}
	v.LIFO, v.DropLeft = false, true
	if got := Run(t, one(v, 200, time.Second)).Goodput(10*time.Second, 0); got > 60 {
		t.Errorf("goodput without those who left = %.1f: those who have not wait as long, so it must be low", got)
	}
}

func TestCheckReportsWhatIsBroken(t *testing.T) {
	r := Run(t, one(Service{Workers: 10, Time: Constant(10 * time.Millisecond)}, 100, time.Second,
		Fault{At: 10 * time.Second, For: 5 * time.Second, Kill: true}))
	bad := Bounds{
		From: 5 * time.Second, To: 20 * time.Second, Success: 0.99, Goodput: 99, P50: time.Millisecond, P99: time.Millisecond,
		P999: time.Millisecond, Amplification: 0.5, Recovery: time.Hour,
	}
	got := r.against(bad)
	for _, what := range []string{"success", "goodput", "p50", "p99 ", "p99.9", "attempts per call"} {
		if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, what) }) {
			t.Errorf("%q is not among %q", what, got)
		}
	}
	if got := r.against(Bounds{From: 5 * time.Second, To: 9 * time.Second, Success: 1, P999: time.Second, Amplification: 1}); len(got) > 0 {
		t.Errorf("bounds that hold are reported: %q", got)
	}
	if got := r.against(Bounds{From: 11 * time.Second, Recovery: time.Second}); len(got) != 1 {
		t.Errorf("a recovery after 4 s is within a second: %q", got)
	}
	if got := r.against(Bounds{From: 29 * time.Second, Recovery: time.Second}); len(got) != 1 {
		t.Errorf("a recovery that nobody has seen: %q", got)
	}
	if got := r.against(Bounds{From: 31 * time.Second, Success: 0.1}); len(got) != 1 {
		t.Errorf("success of nothing at all is good enough: %q", got)
	}
}

func TestPictureIsXML(t *testing.T) {
	s := eventful(1)
	r := Run(t, s)
	var b bytes.Buffer
	if err := r.WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	lines, marked := 0, 0
	dec := xml.NewDecoder(&b)
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok {
			switch e.Name.Local {
			case "polyline":
				lines++
			case "title":
				marked++
			}
		}
	}
	if want := 3 * len(s.Faults); lines != 5 || marked != want {
		t.Errorf("picture has %d lines and marks %d faults, want 5 and %d", lines, marked, want)
	}
	if err := r.WriteSVG(full{}); err == nil {
		t.Error("no error of a disk that is full")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("full") }

// A bound of the policy ends calls as the deadline of a caller does.
func TestPolicyTimeoutEndsCalls(t *testing.T) {
	s := one(Service{Workers: 100, Time: Constant(400 * time.Millisecond)}, 50, 0)
	s.Clients[0].Mesh = policy(zerohop.Policy{Timeout: 300 * time.Millisecond})
	if got := Run(t, s).Goodput(0, 0); got != 0 {
		t.Errorf("goodput = %v, want 0", got)
	}
	s.Clients[0].Mesh = policy(zerohop.Policy{Timeout: 500 * time.Millisecond})
	s.Clients[0].Timeout = 300 * time.Millisecond // whichever is sooner
	if got := Run(t, s).Goodput(0, 0); got != 0 {
		t.Errorf("goodput = %v, want 0", got)
	}
	s.Clients[0].Timeout = 450 * time.Millisecond
	Run(t, s).Check(t, Bounds{Success: 1})
}

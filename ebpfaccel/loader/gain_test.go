//go:build linux

package loader

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop/ebpfaccel"
)

func TestGainIsToBeFasterThanTCP(t *testing.T) {
	for _, test := range []struct {
		gain Gain
		want string // "" for none
	}{
		{Gain{Plain: 30 * time.Microsecond, Accelerated: 29 * time.Microsecond}, ""},
		{Gain{Plain: 30 * time.Microsecond, Accelerated: 30 * time.Microsecond}, "30µs, over TCP 30µs"},
		{Gain{Plain: 30 * time.Microsecond, Accelerated: 50 * time.Microsecond}, "50µs, over TCP 30µs"},
	} {
		err := test.gain.Check()
		if errors.Is(err, ErrNoGain) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: Check() = %v, want %q", test.gain, err, test.want)
		}
	}
}

// What is compared is what it says: one connection past TCP, and one over it. Which is faster no test of a busy machine can tell.
func TestMeasureGainMeasuresBoth(t *testing.T) {
	if testCgroup(t); ebpfaccel.Probe() == nil {
		t.Fatal("there is an accelerator before the test")
	}
	if _, err := MeasureGain(t.Context()); !errors.Is(err, ErrNotSupported) {
		t.Errorf("MeasureGain() without an accelerator = %v", err)
	}
	o := load(t, defaults)
	g, err := MeasureGain(t.Context())
	if err != nil || g.Plain <= 0 || g.Accelerated <= 0 {
		t.Errorf("MeasureGain() = %+v, %v", g, err)
	}
	t.Logf("%+v", g)
	c := counters(t, o)
	if want := uint64(2 * gainRounds * gainCalls); c.RedirectedMessages != want || c.TCPMessages != 0 || c.OneSided != 1 {
		t.Errorf("%d messages went past TCP, want %d: %+v", c.RedirectedMessages, want, c)
	}
}

package telemetry

import (
	"net"
	"testing"

	"github.com/zerohop/zerohop/ebpfaccel"
)

func TestWatchAcceleratorCountsFallbacks(t *testing.T) {
	if ebpfaccel.Probe() == nil {
		t.Skip("this process is in a cgroup with an accelerator")
	}
	r := newRecorder(t)
	stop, err := WatchAccelerator(Config{MeterProvider: r.meter})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reason := acceleratorReason.String(string(ebpfaccel.ReasonNotSupported))
	before := total(t, r.instruments(t)["zerohop.accelerator.fallbacks"], reason)
	for range 2 {
		c, err := ebpfaccel.DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if got := total(t, r.instruments(t)["zerohop.accelerator.fallbacks"], reason); got != before+2 {
		t.Errorf("%v fallbacks, want %v and 2", got, before)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

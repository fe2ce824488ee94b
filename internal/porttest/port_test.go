package porttest

import (
	"net"
	"slices"
	"testing"
)

func TestPortsAreTakenAgain(t *testing.T) {
	l, err := Again("")
	if err != nil {
		t.Fatal(err)
	}
	if port := l.Addr().(*net.TCPAddr).Port; port < first || port > last {
		t.Errorf("port %d, want one from %d to %d", port, first, last)
	}
	l.Close()
	again, err := Again(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got, want := again.Addr().String(), l.Addr().String(); got != want {
		t.Errorf("Again(%s) listens on %s", want, got)
	}
}

func TestFreePortsDiffer(t *testing.T) {
	ports, err := Free(20)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ports)
	if n := len(slices.Compact(ports)); n != 20 {
		t.Errorf("%d ports differ, want 20", n)
	}
}

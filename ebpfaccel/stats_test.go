package ebpfaccel

import (
	"net"
	"runtime"
	"testing"
	"weak"
)

// A connection that nobody closes is closed by the runtime, and must not be kept by what counts it.
func TestConnectionsThatAreNotClosedAreForgotten(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before := len(open.some(maxAsked))
	for range 10 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		newConn(c.(*net.TCPConn))
	}
	size := func() int {
		open.mu.Lock()
		defer open.mu.Unlock()
		return len(open.conns)
	}
	for size() > before { // as long as it takes
		runtime.GC()
		runtime.Gosched()
	}
}

func TestStatsNeverFall(t *testing.T) {
	var sums totals
	var told report
	for _, step := range []struct {
		now                          report
		accelerated, redirected, tcp uint64
	}{
		{report{tcp: 5}, 0, 0, 5},
		{report{redirected: 10, tcp: 5}, 1, 10, 5},
		{report{redirected: 30, tcp: 4}, 1, 30, 5},
		{report{redirected: 30, tcp: 6}, 1, 30, 6},
		{report{redirected: 31, tcp: 6}, 1, 31, 6},
	} {
		sums.add(&told, &step.now)
		if s := sums.read(); s.Accelerated != step.accelerated || s.RedirectedBytes != step.redirected || s.TCPBytes != step.tcp {
			t.Errorf("after %+v: %+v", step.now, s)
		}
	}
}

func TestReadingAsksABoundedNumberOfConnections(t *testing.T) {
	var r registry
	var conns []*conn
	for range 10 {
		c := new(conn)
		conns = append(conns, c)
		r.add(weak.Make(c))
	}
	if n := len(r.some(4)); n != 4 {
		t.Errorf("%d connections are asked, want 4", n)
	}
	seen := map[*conn]bool{}
	for len(seen) < len(conns) { // others at each time
		for _, c := range r.some(4) {
			seen[c] = true
		}
	}
	runtime.KeepAlive(conns)
}

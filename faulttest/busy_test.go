//go:build unix

package faulttest

import (
	"fmt"
	"testing"
	"time"

	"github.com/zerohop/zerohop/internal/testenv"
)

// maxLag is how late one call in a thousand may be sent, at most. More says that the machine is too busy for the
// figures to mean anything.
const maxLag = 25 * time.Millisecond

// held reports whether the calls were sent when they were due, to backends that ran.
func (r result) held() bool { return r.lag <= maxLag && r.still <= maxStandstill }

// blame ends the test, whose result did not hold. It skips it if the machine is too busy for a client without a mesh and backends
// without a fault, too: the figures would be those of the machine, and package sim holds zerohop to the same promises in virtual
// time; where ZEROHOP_REQUIRE has "quiet" it fails. If it is not, what is tested is what keeps it busy, and the test fails.
func blame(t *testing.T, r result) {
	t.Helper()
	const controls = 3
	for range controls {
		var control result
		t.Run("control", func(t *testing.T) { control = measureMachine(t) })
		if !control.held() {
			testenv.Need(t, "quiet", fmt.Sprintf("this machine is too busy to measure on: 1 in 1000 calls was sent %v late or more, "+
				"want at most %v; two backends stood still for %v, want at most %v; without a mesh and a fault %v and %v",
				r.lag, maxLag, r.still, maxStandstill, control.lag, control.still))
		}
	}
	t.Fatalf("1 in 1000 calls was sent %v late or more, want at most %v; two backends stood still for %v, want at most %v; "+
		"not so without a mesh and a fault", r.lag, maxLag, r.still, maxStandstill)
}

// measureMachine makes as many calls as any test here, over the protocol that costs more, without a mesh.
func measureMachine(t *testing.T) result {
	t.Helper()
	const rate = 2500
	p := protocols[1]
	list := startBackends(t, 10, capacity{Workers: 20, Queue: 100, Mean: 20 * time.Millisecond})
	call := p.plain(t, p.addrs(list))
	warm := startLoad(t, rate, call)
	warm.until(time.Second)
	warm.stop()
	l := startLoad(t, rate, call)
	l.until(6 * time.Second)
	r := l.stop()
	r.still = standstill(t, list, l.began)
	r.log(t, p.name+" without a mesh, all healthy")
	return r
}

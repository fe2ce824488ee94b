//go:build unix

package faulttest

import (
	"testing"
	"time"
)

func TestFailingFastAttractsNoTraffic(t *testing.T) {
	const rate = 200
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			promise(t, func() result {
				list := startBackends(t, 3, capacity{Workers: 8, Queue: 100, Mean: 10 * time.Millisecond, Fixed: true})
				tr := newTrial(t, p, list, rate)
				list[0].become(t, failing)
				tr.run(t, "first second of failing fast", rate, func(l *load) { l.until(time.Second) })
				return tr.run(t, "one of 3 fails fast", rate, func(l *load) { l.until(5 * time.Second) })
			}, shareAtMost(0, 0.05), func(r result) string {
				if r.picks[0] == 0 {
					return "the failing backend was never tried again: it could not come back"
				}
				return ""
			})
		})
	}
}

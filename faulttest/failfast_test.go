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
			r := undisturbed(t, func() result {
				list := startBackends(t, 3, capacity{Workers: 8, Queue: 100, Mean: 10 * time.Millisecond, Fixed: true})
				tr := newTrial(t, p, list, rate)
				list[0].become(t, failing)
				tr.run(t, "first second of failing fast", rate, func(l *load) { l.until(time.Second) })
				return tr.run(t, "one of 3 fails fast", rate, func(l *load) { l.until(5 * time.Second) })
			})
			if got, want := r.share(0), 0.05; got > want {
				t.Errorf("share of picks of the failing backend = %.4f, want at most %v", got, want)
			}
			if r.picks[0] == 0 {
				t.Error("the failing backend was never tried again: it could not come back")
			}
		})
	}
}

//go:build unix

package faulttest

import (
	"fmt"
	"testing"
	"time"
)

// One of ten backends refuses every request within a millisecond, where others take ten times as long. What each backend
// was sent stands in its own log. Every client finds out for itself, by six attempts or seven in all of the 15 s, so that
// ten clients of 40 calls a second each need the first seconds to get below the share.
func TestFailingFastAttractsNoTraffic(t *testing.T) {
	t.Parallel()
	const (
		rate  = 400
		learn = 2 * time.Second
		share = 0.01
	)
	for _, p := range protocols {
		for _, clients := range []int{1, 10} {
			t.Run(fmt.Sprintf("%s, clients=%d", p.name, clients), func(t *testing.T) {
				var later result
				total := share
				if clients > 1 {
					total = 0.015
				}
				promise(t, func() result {
					list := startBackends(t, 10, capacity{Workers: 8, Queue: 100, Mean: 10 * time.Millisecond, Fixed: true})
					c := newCrowd(t, p, list, clients, rate)
					list[0].become(t, refusing)
					began := c.arrived(t)
					l := startLoad(t, rate, c.call)
					l.until(learn)
					learnt := c.arrived(t)
					l.until(15 * time.Second)
					r := l.stop()
					ended := c.arrived(t)
					r.still = standstill(t, list, l.began)
					r.picks, later.picks = minus(ended, began), minus(ended, learnt)
					t.Logf("share of the refusing backend: %.2f %% in all, %.2f %% after %v", 100*r.share(0), 100*later.share(0), learn)
					r.log(t, "one of 10 refuses")
					t.Logf("requests %v, after %v %v", r.picks, learn, later.picks)
					return r
				}, shareAtMost(0, total), func(result) string { return shareAtMost(0, share)(later) }, okAtLeast(1), func(r result) string {
					if r.picks[0] == 0 {
						return "the refusing backend was never tried again: it could not come back"
					}
					return ""
				})
			})
		}
	}
}

//go:build unix

package faulttest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// Callers make one call after the other, as most do, and a backend is stopped while some of them wait for it. A call
// that met it takes an attempt timeout longer than calls do otherwise or, if there is none, the time that a backup waits.
// The default budget pays for the four calls or so that meet the end of a backend at once; who has more in flight on
// each sets a larger one.
func TestHungBackendCostsOneAttempt(t *testing.T) {
	const (
		attempt = 200 * time.Millisecond
		pause   = 25 * time.Millisecond // before a retry, at most
	)
	own := zerohop.Policy{AttemptTimeout: attempt, Backup: zerohop.Backup{Mode: zerohop.Off}}
	crowd := zerohop.Policy{Budget: zerohop.Budget{Tokens: 100}} // dozens of calls hang at once
	for _, tt := range []struct {
		name    string
		policy  zerohop.Policy
		callers int
		cost    func(usual result) time.Duration
	}{
		{"attempt timeout", own, 8, func(result) time.Duration { return attempt + pause }},
		{"default", zerohop.Policy{}, 8, backupWait},
		{"default but for a budget for many callers", crowd, 60, backupWait},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var usual result
			promise(t, func() result {
				list := startBackends(t, 4, capacity{Workers: 100, Mean: 10 * time.Millisecond, Fixed: true})
				m, count := newMeshWith(t, static(protocols[1].addrs(list)), tt.policy)
				c := startCallers(t, tt.callers, meshedEcho(t, m, service))
				<-time.After(500 * time.Millisecond) // to connect and to learn what is usual
				c.turn()
				<-time.After(time.Second)
				usual = c.turn()
				usual.log(t, "before")
				before := count.snapshot()
				stopped := time.Now()
				list[0].stop(t)
				<-time.After(1500 * time.Millisecond)
				r := c.stop()
				after := count.snapshot()
				list[0].cont(t)
				r.still = standstill(t, list, stopped)
				for _, b := range list {
					a := b.setup.GRPC
					r.picks = append(r.picks, after.picks[a]-before.picks[a])
				}
				r.attempts, r.backups = after.attempts-before.attempts, after.backups-before.backups
				r.log(t, fmt.Sprintf("%d callers, one of 4 backends stopped", tt.callers))
				return r
			}, okAtLeast(1), func(r result) string {
				if r.picks[0] == 0 {
					return "no call met the stopped backend"
				}
				return ""
			}, func(r result) string {
				return atMost("longest call", tt.cost(usual)+usual.max+maxLag, func(r result) time.Duration { return r.max })(r)
			})
		})
	}
}

// Clients that have a call or two in flight lose none or two at most when a backend is stopped: backups, of which the
// default budget of a client pays four or so at once, take the place of calls that hang. A client is not told that the
// backend is gone; each finds out by itself.
func TestHungBackendCostsEachClientFewCalls(t *testing.T) {
	t.Parallel()
	for _, p := range protocols {
		for _, c := range []struct {
			clients int
			rate    float64 // of all together
		}{{1, 100}, {10, 200}} {
			t.Run(fmt.Sprintf("%s, clients=%d", p.name, c.clients), func(t *testing.T) {
				var most int64
				promise(t, func() result {
					list := startBackends(t, 10, capacity{Workers: 100, Mean: 10 * time.Millisecond, Fixed: true})
					crowd := newCrowd(t, p, list, c.clients, c.rate)
					l := startLoad(t, c.rate, crowd.call)
					l.until(500 * time.Millisecond)
					before := crowd.arrived(t)
					list[0].stop(t)
					l.until(6500 * time.Millisecond)
					r := l.stop()
					list[0].cont(t)
					r.still = standstill(t, list, l.began)
					most = crowd.most()
					r.log(t, "one of 10 backends stopped")
					t.Logf("calls lost by client: at most %d, in all %d; requests %v", most, r.calls-r.ok, minus(crowd.arrived(t), before))
					return r
				}, func(result) string {
					if most > 2 {
						return fmt.Sprintf("a client lost %d calls, want at most 2", most)
					}
					return ""
				})
			})
		}
	}
}

// backupWait is when backups join by default, given what is usual.
func backupWait(usual result) time.Duration { return max(50*time.Millisecond, 2*usual.p99) }

// callers are clients that each make one call after the other.
type callers struct {
	stop func() result // waits for calls that have begun and returns what turn does

	mu      sync.Mutex // guards what follows
	began   time.Time
	samples []*sample
}

// startCallers starts n callers, which stop at the latest at the end of the test.
func startCallers(t *testing.T, n int, client echopb.EchoClient) *callers {
	c := &callers{began: time.Now()}
	quit := make(chan struct{})
	var work sync.WaitGroup
	c.stop = sync.OnceValue(func() result {
		close(quit)
		work.Wait()
		return c.turn()
	})
	t.Cleanup(func() { c.stop() })
	for range n {
		work.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				began := time.Now()
				_, err := client.Say(ctx, &echopb.SayRequest{Text: "hello"})
				c.note(&sample{latency: time.Since(began), err: err})
				cancel()
			}
		})
	}
	return c
}

func (c *callers) note(s *sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.samples = append(c.samples, s)
}

// turn returns what became of the calls that ended since the last call of turn.
func (c *callers) turn() result {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := evaluate(c.samples, time.Since(c.began))
	c.samples, c.began = nil, time.Now()
	return r
}

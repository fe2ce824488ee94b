package grpcmesh_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// The set of endpoints changes a hundred times a second while calls run. Endpoints that leave go on serving, as those
// do that are taken out before they stop. Orders show that calls are not merely repeated.
func TestEndpointsMayChangeAllTheTime(t *testing.T) {
	f := launch(t, 10, func(_ context.Context, _ *instance, text string, _ int) error {
		if text != "warm" {
			time.Sleep(time.Duration(rand.Int64N(int64(5 * time.Millisecond)))) // so that changes meet calls under way
		}
		return nil
	})
	all := f.addrs()
	u := use(t, zerohop.Config{}, all)
	u.warm(t, f)
	var over atomic.Bool
	var calls atomic.Int64
	var wg sync.WaitGroup
	for c := range 16 {
		wg.Go(func() {
			for i := 0; !over.Load(); i++ {
				id := fmt.Sprint(c, "-", i)
				say := u.Say
				if i%2 == 0 {
					say = u.Order
				}
				r, err := say(t.Context(), &echopb.SayRequest{Text: id})
				if err != nil || r.Text != id {
					t.Errorf("call %s = %v, %v", id, r, err)
				}
				if got := len(f.journal.of(id)); i%2 == 0 && got != 1 {
					t.Errorf("order %s was executed %d times", id, got)
				}
				calls.Add(1)
			}
		})
	}
	changes := 0
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	for changes < 200 || calls.Load() < 2000 {
		<-every.C
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		u.set(all[:1+rand.IntN(len(all))])
		changes++
	}
	over.Store(true)
	wg.Wait()
	t.Logf("%d calls during %d changes", calls.Load(), changes)
	u.idle(t)
}

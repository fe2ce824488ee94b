package zerohop

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
)

func TestSubscribeTellsWhatIsKnownAndEveryChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var source discoverytest.Memory
		m := open(t, Config{Resolver: &source})
		var mu sync.Mutex
		var seen []Endpoints
		last := func() Endpoints {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return seen[len(seen)-1]
		}
		stop, err := m.Subscribe("orders", func(e Endpoints) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, e)
		})
		if err != nil {
			t.Fatal(err)
		}
		if e := last(); !e.Known || e.Balancer == nil || !errors.Is(e.Err, discovery.ErrUnknownService) {
			t.Errorf("Endpoints of an unknown service = %+v", e)
		}
		source.Set("orders", endpoints(3)...)
		time.Sleep(2 * time.Second)
		if e := last(); !e.Known || e.Err != nil || len(e.Balancer.Set().Nodes()) != 3 {
			t.Errorf("Endpoints = %+v, want 3 nodes", e)
		}
		broken := errors.New("broken")
		source.Break(broken)
		if e := last(); !errors.Is(e.Err, broken) || len(e.Balancer.Set().Nodes()) != 3 {
			t.Errorf("Endpoints = %+v, want 3 nodes and the error", e)
		}
		stop()
		stop()
		told := len(seen)
		source.Break(nil)
		source.Set("orders", endpoints(1)...)
		time.Sleep(time.Minute)
		if last(); len(seen) != told {
			t.Errorf("%d reports after stop", len(seen)-told)
		}
		if _, err := m.Subscribe("", nil); !errors.Is(err, discovery.ErrUnknownService) {
			t.Errorf("Subscribe to no name = %v, want %v", err, discovery.ErrUnknownService)
		}
	})
}

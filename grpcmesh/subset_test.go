package grpcmesh

import (
	"testing"
	"testing/synctest"

	"github.com/zerohop/zerohop"
)

// A subset is for having few connections, and gRPC connects to all endpoints that it is told of.
func TestOnlyTheSubsetIsConnectedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 40, zerohop.Config{Instance: "a", Spec: zerohop.Spec{Defaults: zerohop.Policy{Subset: 5}}})
		answered := map[string]bool{}
		for range 200 {
			answered[b.say(t)] = true
		}
		synctest.Wait()
		b.network.mu.Lock()
		defer b.network.mu.Unlock()
		if len(b.dialled) != 5 || len(answered) != 5 {
			t.Errorf("endpoints connected to = %d, that answered = %d, want 5 of 40", len(b.dialled), len(answered))
		}
	})
}

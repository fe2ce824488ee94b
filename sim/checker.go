package sim

import (
	"context"
	"maps"
	"time"

	"github.com/zerohop/zerohop/healthcheck"
)

// checker makes the active health checks of a mesh, of whatever protocol: an endpoint passes if it answers at all.
// It runs in goroutines of meshes, while the simulation waits.
type checker struct{ world *world }

// condition is what a health check finds.
type condition int32

const (
	well condition = iota
	silent
	dead
)

func (st *state) condition() condition {
	switch {
	case st.killed:
		return dead
	case st.hung || st.cut:
		return silent
	}
	return well
}

// Check makes a health check.
func (c checker) Check(ctx context.Context, p healthcheck.Probe) error {
	e := c.world.byAddr[p.Addr]
	if e == nil {
		return errRefused
	}
	time.Sleep(time.Millisecond + time.Duration(e.number)) // no two at the same moment
	switch condition(e.checked.Load()) {
	case dead:
		return errRefused
	case silent:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// checkers returns those of a mesh: the user's own, and else that of the simulation.
func (w *world) checkers(own map[string]healthcheck.Checker) map[string]healthcheck.Checker {
	all := map[string]healthcheck.Checker{}
	for _, protocol := range []string{"tcp", "http", "https", "grpc"} {
		all[protocol] = checker{w}
	}
	maps.Copy(all, own)
	return all
}

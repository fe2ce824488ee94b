package grpcmesh

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
)

// await returns an error as long as an RPC is to wait for the endpoint that it is bound to, or has none for that.
func (p *picker) await(st *attemptState, c *pool, known *loadbalance.Set) error {
	n, strict := st.attempt.Bound(known)
	if n == nil {
		return nil
	}
	err := c.reach(n)
	switch {
	case err == nil:
		if m, _ := st.attempt.Bound(c.view.Load()); m == n {
			return nil
		}
	case errors.Is(err, errConnecting):
	case strict:
		p.owner.recheck() // for RPCs that wait for ready
		return fmt.Errorf("%w: %s: %w", loadbalance.ErrNoNode, n.Addr(), err)
	default:
		return nil
	}
	if !strict && st.attempt.Age() > patienceForNode {
		return nil
	}
	p.owner.recheck()
	return errConnecting
}

// leaveLane reports whether an RPC that cannot be made in the lane of its call for err is to be tried outside.
func (p *picker) leaveLane(st *attemptState, err error) bool {
	if st == nil || errors.Is(err, errConnecting) && st.attempt.Age() < firstConnect {
		return false
	}
	return st.attempt.LeaveLane()
}

// unconnected tells what becomes of an RPC while no node is connected that it may go to.
func (p *picker) unconnected(st *attemptState, c *pool, service string) error {
	known := c.known.Load()
	wanted := known
	if st != nil {
		wanted = st.attempt.Wanted(known)
	}
	nodes := wanted.Nodes()
	switch {
	case wanted == known && c.pending.Load() > 0 || c.outdated():
		return errConnecting
	case len(nodes) == 0 && p.link.closed.Load():
		return status.Error(codes.Unavailable, zerohop.ErrClosed.Error())
	case len(nodes) == 0:
		return fmt.Errorf("grpcmesh: %s: %w", service, loadbalance.ErrNoEndpoints)
	}
	looked := nodes
	if wanted == known {
		looked = nodes[:1] // it cannot be connected, as none can, and tells why
	} else {
		p.owner.recheck() // nobody tells when one of them is
	}
	var why error
	for _, n := range looked {
		if why = c.reach(n); why == nil || errors.Is(why, errConnecting) {
			return errConnecting
		}
	}
	return fmt.Errorf("grpcmesh: %s: none of %d endpoints is connected: %s: %w", service, len(nodes), looked[len(looked)-1].Addr(), why)
}

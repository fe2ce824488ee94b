package grpcmesh

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// What a change costs must not depend on how many changes there were, nor tell waiting RPCs to look again in vain.
func TestStartTakesLinearWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in which no time passes: views are made for what changed alone
		const n = 10_000
		p := newPolicy(t, balancerName)
		p.update(many(n, 0))
		if got := p.conn.state.ConnectivityState; got != connectivity.Ready || len(p.conn.conns) != n {
			t.Fatalf("state = %v with %d connections, want READY with all", got, len(p.conn.conns))
		}
		// The set of the mesh is one, the empty view another; then some up to 128, and one for each eighth.
		if limit := exact*exact/2 + (growth+3)*n; p.visited > limit {
			t.Errorf("%d views looked at %d nodes, want at most %d", p.views, p.visited, limit)
		}
		if p.conn.states > 5 {
			t.Errorf("gRPC was told %d times, want a few", p.conn.states)
		}
		p.views, p.visited, p.conn.states = 0, 0, 0
		p.update(many(n, 1))
		if p.views > 3 || p.conn.states > 3 || p.conn.made != n+1 {
			t.Errorf("one change made %d views, told gRPC %d times and made %d connections, want a few and 1", p.views, p.conn.states, p.conn.made-n)
		}
	})
}

// A connection that is up gets picks within the time that views may be out of date.
func TestViewsAreUpToDateSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		p := newPolicy(t, balancerName)
		late := many(n, 0)[n-1].Addr
		p.conn.refusing(late, errors.New("not yet"))
		p.update(many(n, 0))
		time.Sleep(staleness)
		synctest.Wait()
		told := p.conn.told()
		p.conn.refusing(late, nil)
		p.conn.conns[late].becomes(connectivity.Idle, nil) // its backoff is over
		p.conn.rest()
		if got := p.picks(t, 20*n)[late]; got != 0 {
			t.Errorf("the new connection got %d picks at once: the view was made for a thousandth of it", got)
		}
		time.Sleep(staleness)
		synctest.Wait()
		if got := p.picks(t, 20*n)[late]; got == 0 {
			t.Errorf("the new connection got none of %d picks", 20*n)
		}
		if p.conn.told() == told {
			t.Error("gRPC was not told of the new view")
		}
	})
}

// picks returns how often each address is picked. All picks must be connections that are up.
func (p *policy) picks(t *testing.T, n int) map[string]int {
	t.Helper()
	count := map[string]int{}
	for range n {
		r, err := p.pick()
		if err != nil {
			t.Fatalf("Pick() = %v", err)
		}
		s := r.SubConn.(*fakeSubConn)
		if p.conn.conns[s.addr] != s {
			t.Fatalf("Pick() = %s, which is not connected", s.addr)
		}
		count[s.addr]++
		r.Done(balancer.DoneInfo{})
	}
	return count
}

func TestLostConnectionsAreNotPicked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		p := newPolicy(t, balancerName)
		eps := many(n, 0)
		p.update(eps)
		p.views = 0
		for i, k := range rand.Perm(n)[:n-1] {
			addr := eps[k].Addr
			lost, told := p.conn.conns[addr], p.conn.told()
			p.conn.refusing(addr, errors.New("gone"))
			lost.listen(balancer.SubConnState{ConnectivityState: connectivity.Idle})
			synctest.Wait()
			if p.conn.told() == told {
				t.Fatal("gRPC was not told of the loss, so RPCs that had picked it still wait")
			}
			if i%10 == 0 {
				p.conn.settle() // they connect again, in vain
			}
			for range 10 {
				switch r, err := p.pick(); {
				case errors.Is(err, balancer.ErrNoSubConnAvailable): // and again with the next view
					time.Sleep(staleness)
					synctest.Wait()
				case err != nil:
					t.Fatalf("Pick() = %v with %d lost", err, i+1)
				case p.conn.refused(r.SubConn.(*fakeSubConn).addr) != nil:
					t.Fatalf("Pick() = %s, which is lost", addr)
				default:
					r.Done(balancer.DoneInfo{})
				}
			}
		}
		if p.views > n {
			t.Errorf("%d views were made for %d losses, want less", p.views, n-1)
		}
		for _, node := range p.mesh.Set().Nodes() {
			if node.InFlight() != 0 {
				t.Fatalf("in flight on %s = %d, want 0", node.Addr(), node.InFlight())
			}
		}
	})
}

func TestPickSurvivesAViewOfLostConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPolicy(t, balancerName)
		p.update(many(3, 0))
		c := p.conn.state.Picker.(*picker).pools["orders"]
		c.pickers.Clear()
		if _, err := p.pick(); !errors.Is(err, balancer.ErrNoSubConnAvailable) {
			t.Errorf("Pick() = %v, want ErrNoSubConnAvailable", err)
		}
		for _, n := range p.mesh.Set().Nodes() {
			if n.InFlight() != 0 {
				t.Errorf("in flight on %s = %d, want 0", n.Addr(), n.InFlight())
			}
		}
	})
}

func TestStateIsThatOfTheBestConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPolicy(t, balancerName)
		eps := many(2, 0)
		refused := errors.New("connection refused")
		p.conn.refusing(eps[0].Addr, refused)
		p.conn.refusing(eps[1].Addr, refused)
		want := func(state connectivity.State, text string) {
			t.Helper()
			p.conn.rest()
			_, err := p.pick()
			if got := p.conn.state.ConnectivityState; got != state || text == "" && err != nil || err != nil && !strings.Contains(err.Error(), text) {
				t.Errorf("state = %v, Pick() = %v, want %v, %q", got, err, state, text)
			}
		}
		p.balancer.ResolverError(errors.New("registry on fire"))
		want(connectivity.TransientFailure, "registry on fire")
		p.update(eps)
		want(connectivity.TransientFailure, "connection refused")
		one := p.conn.conns[eps[0].Addr]
		p.conn.refusing(eps[0].Addr, nil)
		one.becomes(connectivity.Idle, nil)
		want(connectivity.Ready, "")
		p.balancer.ResolverError(errors.New("registry on fire"))
		want(connectivity.Ready, "")
		p.hand(resolver.State{})
		if want(connectivity.Ready, ""); !errors.Is(p.err, balancer.ErrBadResolverState) {
			t.Errorf("a state that is not of the resolver got %v, want ErrBadResolverState", p.err)
		}
		p.conn.refusing(eps[0].Addr, refused)
		one.becomes(connectivity.Idle, nil)
		want(connectivity.TransientFailure, "connection refused")
		p.conn.refusing(eps[0].Addr, nil)
		p.conn.conns[eps[0].Addr].becomes(connectivity.Idle, nil)
		want(connectivity.Ready, "")
		p.balancer.ExitIdle()
		want(connectivity.Ready, "")
		p.update(nil)
		want(connectivity.TransientFailure, loadbalance.ErrNoEndpoints.Error())
		if len(p.conn.conns) != 0 {
			t.Errorf("%d connections are left", len(p.conn.conns))
		}
		p.update(eps)
		want(connectivity.Ready, "")
	})
}

// Services come and go with the link, and share what connections they can.
func TestLinksShareConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPolicy(t, balancerName)
		p.update(many(3, 0))
		other := loadbalance.New(loadbalance.Config{})
		other.Update(many(3, 1)) // two of the three
		both := &link{shared: &shared{}, service: "others", balancers: map[string]*loadbalance.Balancer{"orders": p.mesh, "others": other}}
		p.hand(resolver.State{Attributes: attributes.New(linkKey{}, both)})
		if got := p.conn.made; got != 4 || len(p.conn.conns) != 4 {
			t.Errorf("%d connections were made, want 4 for 4 addresses", got)
		}
		if got := p.picks(t, 300); len(got) != 3 || got[many(3, 1)[2].Addr] == 0 {
			t.Errorf("picks = %v, want 3 addresses of the other service", got)
		}
		p.update(nil) // the first link, with a set that is empty now
		if got := p.conn.conns; len(got) != 0 {
			t.Errorf("connections are left to %v", got)
		}
		other.Update(nil)
		p.mesh.Update(many(3, 0))
		p.hand(resolver.State{Attributes: attributes.New(linkKey{}, both)})
		if _, err := p.pick(); !errors.Is(err, loadbalance.ErrNoEndpoints) {
			t.Errorf("Pick() for a service without endpoints = %v", err)
		}
		other.Update([]discovery.Endpoint{{Addr: "10.9.9.9:80"}})
		if _, err := p.pick(); !errors.Is(err, balancer.ErrNoSubConnAvailable) {
			t.Errorf("Pick() = %v, want it to wait: the endpoint is on its way", err)
		}
		other.Update(many(3, 0))
		p.hand(resolver.State{Attributes: attributes.New(linkKey{}, both)})
		if len(p.conn.conns) != 3 {
			t.Errorf("%d connections, want 3 for both services", len(p.conn.conns))
		}
		p.mesh.Update(nil)
		p.hand(resolver.State{Attributes: attributes.New(linkKey{}, both)})
		if got := p.picks(t, 300); len(got) != 3 || len(p.conn.conns) != 3 {
			t.Errorf("picks = %v, want 3 addresses: the other service has them still", got)
		}
	})
}

// Nothing that comes after Close does anything.
func TestClosedBalancerIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPolicy(t, balancerName)
		p.update(many(1000, 0))
		conns := make([]*fakeSubConn, 0, 1000)
		for _, s := range p.conn.conns {
			conns = append(conns, s)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, s := range conns { // most while it closes
				s.listen(balancer.SubConnState{ConnectivityState: connectivity.Idle})
			}
		})
		p.balancer.Close()
		wg.Wait()
		told, made := p.conn.told(), p.conn.made
		p.balancer.(*meshBalancer).refresh() // the timer had just fired
		p.conn.settle()
		time.Sleep(time.Second)
		if p.conn.told() != told || p.conn.made != made || len(p.conn.conns) != 0 {
			t.Errorf("gRPC was told %d times, %d connections were made and %d are left after Close, want none", p.conn.told()-told, p.conn.made-made, len(p.conn.conns))
		}
	})
}

func TestDifference(t *testing.T) {
	all := loadbalance.New(loadbalance.Config{})
	all.Update(many(6, 0))
	nodes := all.Set().Nodes()
	some := func(at ...int) (list []*loadbalance.Node) {
		for _, i := range at {
			list = append(list, nodes[i])
		}
		return list
	}
	for _, tt := range []struct{ old, next, gone, come []int }{
		{nil, nil, nil, nil},
		{nil, []int{0, 1}, nil, []int{0, 1}},
		{[]int{0, 1}, nil, []int{0, 1}, nil},
		{[]int{0, 1, 2}, []int{0, 1, 2}, nil, nil},
		{[]int{0, 1, 2}, []int{0, 2}, []int{1}, nil},
		{[]int{0, 2}, []int{0, 1, 2}, nil, []int{1}},
		{[]int{0, 1, 2}, []int{0, 3, 2}, []int{1}, []int{3}},
		{[]int{0, 1, 2, 3}, []int{1, 2, 3, 4}, []int{0}, []int{4}},
		{[]int{0, 1, 2}, []int{2, 1, 0}, nil, nil},
		{[]int{5, 1, 3}, []int{4, 3, 0}, []int{5, 1}, []int{4, 0}},
	} {
		gone, come := difference(some(tt.old...), some(tt.next...))
		if !slices.Equal(gone, some(tt.gone...)) || !slices.Equal(come, some(tt.come...)) {
			t.Errorf("difference(%v, %v) = %d gone, %d come, want %v, %v", tt.old, tt.next, len(gone), len(come), tt.gone, tt.come)
		}
	}
}

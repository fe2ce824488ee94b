package bench

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
)

// clientConn is the side of a gRPC ClientConn that a policy sees.
type clientConn struct {
	balancer.ClientConn
	policy balancer.Balancer
	picker atomic.Pointer[balancer.Picker]

	mu    sync.Mutex // guards what follows
	queue []func()   // what the policy is to be told, by one goroutine, as a ClientConn does
	ready int        // connections
}

func (c *clientConn) tell(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, f)
}

// settle tells the policy what there is to tell until so many connections are ready.
func (c *clientConn) settle(n int) {
	for {
		c.mu.Lock()
		queue, ready := c.queue, c.ready
		c.queue = nil
		c.mu.Unlock()
		for _, f := range queue {
			f()
		}
		if len(queue) == 0 {
			if ready == n {
				return
			}
			time.Sleep(100 * time.Microsecond) // it asks for connections in goroutines of its own
		}
	}
}

// reaches reports whether so many picks in a row go to as many connections.
func (c *clientConn) reaches(n int) bool {
	seen := make(map[balancer.SubConn]bool, n)
	for range n {
		r, err := (*c.picker.Load()).Pick(balancer.PickInfo{})
		if err != nil {
			return false
		}
		if r.Done != nil {
			r.Done(balancer.DoneInfo{})
		}
		seen[r.SubConn] = true
	}
	return len(seen) == n
}

func (c *clientConn) call(load any) {
	r, err := (*c.picker.Load()).Pick(balancer.PickInfo{})
	if err != nil {
		panic(err)
	}
	if r.Done != nil {
		r.Done(balancer.DoneInfo{ServerLoad: load})
	}
}

func (c *clientConn) NewSubConn(_ []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	return &subConn{cc: c, listener: opts.StateListener}, nil
}

func (c *clientConn) UpdateState(s balancer.State)                         { c.picker.Store(&s.Picker) }
func (c *clientConn) RemoveSubConn(sc balancer.SubConn)                    { sc.Shutdown() }
func (c *clientConn) UpdateAddresses(balancer.SubConn, []resolver.Address) {}
func (c *clientConn) ResolveNow(resolver.ResolveNowOptions)                {}
func (c *clientConn) Target() string                                       { return "orders" }
func (c *clientConn) MetricsRecorder() stats.MetricsRecorder               { return metricsRecorder{} }

// subConn is ready as soon as it is asked to connect.
type subConn struct {
	balancer.SubConn
	cc       *clientConn
	listener func(balancer.SubConnState)
	ready    bool // guarded by cc.mu
}

func (s *subConn) Connect() {
	s.cc.tell(func() { s.listener(balancer.SubConnState{ConnectivityState: connectivity.Connecting}) })
	s.cc.tell(func() {
		s.setReady(true)
		s.listener(balancer.SubConnState{ConnectivityState: connectivity.Ready})
	})
}

func (s *subConn) Shutdown() {
	s.setReady(false)
	s.cc.tell(func() { s.listener(balancer.SubConnState{ConnectivityState: connectivity.Shutdown}) })
}

func (s *subConn) setReady(ready bool) {
	s.cc.mu.Lock()
	defer s.cc.mu.Unlock()
	if s.ready && !ready {
		s.cc.ready--
	} else if !s.ready && ready {
		s.cc.ready++
	}
	s.ready = ready
}

func (s *subConn) RegisterHealthListener(listener func(balancer.SubConnState)) {
	s.cc.tell(func() { listener(balancer.SubConnState{ConnectivityState: connectivity.Ready}) })
}

func (s *subConn) UpdateAddresses([]resolver.Address) {}

func (s *subConn) GetOrBuildProducer(balancer.ProducerBuilder) (balancer.Producer, func()) {
	panic("not called: load is reported with answers")
}

// metricsRecorder records nothing.
type metricsRecorder struct {
	stats.UnimplementedMetricsRecorder
}

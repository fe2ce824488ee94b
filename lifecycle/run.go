package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

const (
	// defaultTimeout leaves 5 s of the 30 s that Kubernetes gives a pod for what the process does afterwards.
	defaultTimeout = 25 * time.Second
	// deregisterTime bounds how long a registry that does not answer holds up the end. It forgets the instance by its
	// lease or its check.
	deregisterTime = 5 * time.Second
	// echoTime is how long after the end began a signal counts as part of the first: timeout(1) for one sends it to the
	// process and then to the group that the process is in. A person presses a key again later than that.
	echoTime = time.Second
)

// Config says what Run runs.
type Config struct {
	// Servers are served from the start. Required.
	Servers []Server
	// Registrar registers the Instances of the servers. nil means that there are none.
	Registrar discovery.Registrar
	// Signals tell the process to end; another one, a second or more after that, cuts off what is in flight. nil means
	// SIGINT and SIGTERM; without any in a list that is not nil, only the context of Run ends it.
	Signals []os.Signal
	// Lag is how long the servers serve as before, after they were taken out of the registry. 0 means not at all: Drain
	// of httpmesh.Handler and grpcmesh.Server wait long enough for callers that watch a registry. Callers that find the
	// instances by DNS need as long as its records live.
	Lag time.Duration
	// Timeout bounds the time from the signal to the end of Run; calls that last longer are cut off. 0 means 25 s.
	Timeout time.Duration
	// OnError is told of registrations that fail and are tried again. Calls of it may be concurrent; it must not block.
	// nil means nobody.
	OnError func(error)
}

// Run serves and registers c.Servers until ctx ends, a signal comes or a server fails. Then it
//
//  1. takes the instances out of the registry, for at most 5 s and half of the Timeout;
//  2. goes on serving for the Lag;
//  3. calls Drain of all servers at once, and Stop of those that do not end in time.
//
// A registry that cannot be reached when Run begins is no reason not to serve: the registration is tried again, for ever.
// Only instances that can never be registered (discovery.ErrInvalidInstance) end Run.
//
// It returns nil if all calls were answered and all instances taken out, else what failed, joined. All that it has
// started has ended then, except handlers that ignored being cut off. The process should do nothing but end: neither its
// servers nor Run can be used again.
func Run(ctx context.Context, c Config) error {
	err := c.validate()
	if err != nil {
		for _, s := range c.Servers {
			if s.Listener != nil {
				s.Listener.Close()
			}
		}
		return err
	}
	signals := make(chan os.Signal, 2)
	switch {
	case c.Signals == nil:
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	case len(c.Signals) > 0: // Notify takes none for all
		signal.Notify(signals, c.Signals...)
	}
	defer signal.Stop(signals)

	r := newRun(c)
	for i := range c.Servers {
		s := &c.Servers[i]
		r.serving.Go(func() {
			if err := s.Serve(s.Listener); err != nil {
				r.fail(fmt.Errorf("lifecycle: server at %s: %w", s.addr(), err))
			}
			r.end() // early if nobody has drained it
		})
		r.enroll(s)
	}
	select {
	case <-ctx.Done():
	case <-signals:
	case <-r.ended:
	}
	r.shutdown(signals)
	r.serving.Wait()
	return errors.Join(r.errs...)
}

// run is the state of one Run.
type run struct {
	Config
	serving  sync.WaitGroup // goroutines that serve
	enrolled sync.WaitGroup // goroutines that keep an instance registered

	leaving  context.Context // ends when instances are to be taken out
	leave    context.CancelFunc
	registry context.Context // ends when the registry has had its time
	giveUp   context.CancelFunc

	once  sync.Once
	ended chan struct{} // closed by end

	mu   sync.Mutex // guards errs
	errs []error
}

func newRun(c Config) *run {
	r := &run{Config: c, ended: make(chan struct{})}
	if r.Timeout == 0 {
		r.Timeout = defaultTimeout
	}
	if r.OnError == nil {
		r.OnError = func(error) {}
	}
	// Not those of Run's own context: what has to be done when that ends takes time.
	r.leaving, r.leave = context.WithCancel(context.Background())
	r.registry, r.giveUp = context.WithCancel(context.Background())
	return r
}

// end makes Run end, if it has not begun to.
func (r *run) end() { r.once.Do(func() { close(r.ended) }) }

func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

// shutdown takes the steps of the end. A signal hurries it.
func (r *run) shutdown(signals <-chan os.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
	defer cancel()
	over := make(chan struct{})
	defer close(over)
	begun := time.Now()
	go func() { // ends with shutdown
		for {
			select {
			case s := <-signals:
				if time.Since(begun) < echoTime {
					continue
				}
				r.fail(fmt.Errorf("lifecycle: cut off by a second signal: %v", s))
				cancel()
			case <-over:
			}
			return
		}
	}()

	half, cancelHalf := context.WithTimeout(ctx, r.Timeout/2)
	defer cancelHalf()
	r.depart(half)
	sleep(half, r.Lag)

	var draining sync.WaitGroup
	for i := range r.Servers {
		s := &r.Servers[i]
		draining.Go(func() {
			if err := s.Drain(ctx); err != nil {
				r.fail(fmt.Errorf("lifecycle: drain of the server at %s: %w", s.addr(), err))
				s.Stop()
			}
		})
	}
	draining.Wait()
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

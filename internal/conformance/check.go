package conformance

import (
	"context"
	"testing"

	"go.uber.org/goleak"
)

// Check is one run of one check of a suite.
type Check[T any] struct {
	t       testing.TB
	cfg     Config[T]
	watches []*Watch[T]
}

// Run runs a check, and looks at what it leaves behind: no goroutine may be there that was not before, except those of connections
// of net/http and gRPC that stay open for the next request. Tests that use it must not run in parallel with others.
func Run[T any](t testing.TB, cfg Config[T], check func(*Check[T])) {
	c := &Check[T]{t: t, cfg: cfg}
	before := goleak.IgnoreCurrent()
	defer func() {
		t.Helper()
		for _, w := range c.watches {
			w.Cancel()
		}
		for _, w := range c.watches {
			w.End(cfg.Timeout)
		}
		// Looks again for a while if there are goroutines, so late updates show up below.
		options := []goleak.Option{before}
		for _, function := range pooled {
			options = append(options, goleak.IgnoreAnyFunction(function))
		}
		if err := goleak.Find(options...); err != nil {
			t.Errorf("after all watches ended: %v", err)
		}
		for _, w := range c.watches {
			if fault := w.fault.Load(); fault != nil {
				t.Error(*fault)
			}
		}
	}()
	check(c)
}

// Start makes a call of Watch in the background. It ends with the check, at the latest.
func (c *Check[T]) Start(ctx context.Context, call func(ctx context.Context, update func(T)) error) *Watch[T] {
	ctx, cancel := context.WithCancel(ctx)
	w := &Watch[T]{Config: c.cfg, News: make(chan string, c.cfg.Queue), Done: make(chan error, 1), Cancel: cancel, t: c.t}
	go func() { // ended and awaited by Run
		err := call(ctx, w.update)
		w.returned.Store(true)
		w.Done <- err
	}()
	c.watches = append(c.watches, w)
	return w
}

// pooled are the functions of goroutines of connections, which outlive requests on purpose and belong to the client and
// the server.
var pooled = []string{
	"net/http.(*persistConn).readLoop", "net/http.(*persistConn).writeLoop",
	"net/http.(*conn).serve", "net/http.(*connReader).backgroundRead",
	"golang.org/x/net/http2.(*ClientConn).readLoop",
	"google.golang.org/grpc.(*addrConn).connect", "google.golang.org/grpc/internal/transport.(*loopyWriter).run",
	"google.golang.org/grpc/internal/transport.(*http2Client).reader",
	"google.golang.org/grpc/internal/transport.(*http2Client).keepalive",
}

// Outage makes a source unreachable until heal is called or the test ends.
func Outage(t testing.TB, begin, end func(t testing.TB)) (heal func()) {
	t.Helper()
	broken := true
	heal = func() {
		if broken {
			broken = false
			end(t)
		}
	}
	t.Cleanup(heal)
	begin(t)
	return heal
}

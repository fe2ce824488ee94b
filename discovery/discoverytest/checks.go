package discoverytest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/conformance"
)

// endpoints returns the endpoints with the given numbers, 1 to 254.
func endpoints(numbers ...int) []discovery.Endpoint {
	set := make([]discovery.Endpoint, len(numbers))
	for i, n := range numbers {
		set[i] = discovery.Endpoint{Addr: fmt.Sprintf("192.0.2.%d:8080", n), Weight: 1}
	}
	return set
}

// set gives service its endpoints until the end of the check.
func (c *check) set(service string, numbers ...int) []discovery.Endpoint {
	c.t.Helper()
	if !c.listed[service] {
		c.listed[service] = true
		c.t.Cleanup(func() { c.src.Set(c.t, service, nil) })
	}
	set := endpoints(numbers...)
	c.src.Set(c.t, service, set)
	return set
}

func (c *check) firstSet() {
	const service = "conformance-first"
	all := c.set(service, 1, 2, 3)
	w := c.start(context.Background(), service)
	if got, want := w.Next(), addrs(all); got != want {
		c.t.Errorf("first set is %q, want %q: complete from the start", got, want)
	}
}

func (c *check) changes() {
	const service = "conformance-changes"
	one := c.set(service, 1)
	w := c.start(context.Background(), service)
	w.until(one, one, one)

	two := c.set(service, 1, 2)
	w.until(two, one, two)

	three := c.set(service, 1, 2, 3)
	w.until(three, two, three)

	w.until(c.set(service, 2, 4), endpoints(2), endpoints(1, 2, 3, 4))
	w.until(c.set(service, 2), endpoints(2), endpoints(2, 4))

	// Many changes at once may come as one, but the last state must come.
	for n := range 10 {
		c.set(service, 2, 10+n)
	}
	w.until(endpoints(2, 19), endpoints(2), endpoints(2, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19))
}

func (c *check) removalToZero() {
	const service = "conformance-removal"
	two := c.set(service, 1, 2)
	w := c.start(context.Background(), service)
	w.until(two, two, two)

	c.src.Set(c.t, service, nil)
	w.untilNone(two)
}

// untilNone reads sets until an empty one, or the end of the watch with ErrUnknownService.
func (w *watch) untilNone(possible []discovery.Endpoint) {
	w.check.t.Helper()
	deadline := time.After(w.Timeout)
	for {
		select {
		case set := <-w.News:
			if set == "" {
				return
			}
		case err := <-w.Done:
			w.Done <- err
			if len(w.News) > 0 {
				continue
			}
			if !errors.Is(err, discovery.ErrUnknownService) {
				w.check.t.Fatalf("Watch = %v, want an empty set or %v", err, discovery.ErrUnknownService)
			}
			return
		case <-deadline:
			w.check.t.Fatalf("neither an empty set nor %v within %v", discovery.ErrUnknownService, w.Timeout)
		}
	}
}

func (c *check) unknownService() {
	w := c.start(context.Background(), "conformance-no-such-service")
	w.untilNone(nil)
}

func (c *check) contextEnd() {
	const service = "conformance-context"
	one := c.set(service, 1)

	w := c.start(context.Background(), service)
	w.until(one, one, one)
	w.Cancel()
	if err := w.End(prompt); !errors.Is(err, context.Canceled) {
		c.t.Errorf("Watch = %v after cancel, want %v", err, context.Canceled)
	}

	const lifetime = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	defer cancel()
	if err := c.start(ctx, service).End(lifetime + prompt); !errors.Is(err, context.DeadlineExceeded) {
		c.t.Errorf("Watch = %v after the deadline, want %v", err, context.DeadlineExceeded)
	}

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.start(ended, service).End(prompt); !errors.Is(err, context.Canceled) {
		c.t.Errorf("Watch = %v with an ended context, want %v", err, context.Canceled)
	}
}

func (c *check) concurrentWatches() {
	const each = 3
	services := []string{"conformance-a", "conformance-b", "conformance-c"}
	var watches []*watch
	for i, service := range services {
		c.set(service, i+1)
		for range each {
			watches = append(watches, c.start(context.Background(), service))
		}
	}
	for i, w := range watches {
		one := endpoints(i/each + 1)
		w.until(one, one, one)
	}
	// The end of one watch must not disturb another one of the same service.
	watches[0].Cancel()
	_ = watches[0].End(prompt)
	for i, service := range services {
		c.set(service, i+1, i+11)
	}
	for i, w := range watches[1:] {
		n := (i + 1) / each
		w.until(endpoints(n+1, n+11), endpoints(n+1), endpoints(n+1, n+11))
	}
}

// breakSource breaks the source until heal is called or the check ends.
func (c *check) breakSource() (heal func()) {
	c.t.Helper()
	return conformance.Outage(c.t, c.src.Break, c.src.Heal)
}

func (c *check) brokenSource() {
	const service = "conformance-broken"
	one := c.set(service, 1)
	running := c.start(context.Background(), service)
	running.until(one, one, one)

	c.breakSource()
	for name, w := range map[string]*watch{
		"running": running,
		"new":     c.start(context.Background(), service),
	} {
		err := w.End(c.src.Timeout)
		if errors.Is(err, context.Canceled) || errors.Is(err, discovery.ErrUnknownService) {
			c.t.Errorf("%s watch of a broken source = %v, want the reason why it broke", name, err)
		}
		if name == "new" && len(w.News) > 0 {
			c.t.Errorf("new watch of a broken source delivers %q, want nothing", <-w.News)
		}
	}
}

func (c *check) recovery() {
	const service = "conformance-recovery"
	c.set(service, 1, 2)
	failed := make(chan error, queue)
	w := c.startFunc(context.Background(), func(ctx context.Context, update func([]discovery.Endpoint)) error {
		return discovery.Run(ctx, c.src.Resolver, service, discovery.RunOptions{
			Observe: func(e discovery.Event) {
				if e.Kind == discovery.EventWatchFailed {
					select {
					case failed <- e.Err:
					default:
					}
				}
			},
		}, update)
	})
	w.until(endpoints(1, 2), nil, endpoints(1, 2))

	heal := c.breakSource()
	select {
	case <-failed:
	case <-time.After(c.src.Timeout):
		c.t.Fatalf("the watch does not fail within %v", c.src.Timeout)
	}
	heal()
	c.set(service, 2, 3)
	for {
		got := w.Next()
		if got == "" {
			c.t.Fatal("the set became empty while the source was broken, want the last good one")
		}
		if got == addrs(endpoints(2, 3)) {
			return
		}
	}
}

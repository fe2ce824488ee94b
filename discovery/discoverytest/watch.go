package discoverytest

import (
	"context"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// queue is how many sets a watch may deliver beyond what a check has read. More is a flood.
const queue = 4096

// watch is one running call of Watch, or of Run.
type watch struct {
	t       testing.TB
	timeout time.Duration
	sets    chan string // one set: "192.0.2.1:80 192.0.2.2:80"
	done    chan error
	cancel  context.CancelFunc

	updating, returned atomic.Bool
	fault              atomic.Pointer[string] // the first breach of the contract
}

// start calls Watch of service in the background. The watch ends with the check, at the latest.
func (c *check) start(ctx context.Context, service string) *watch {
	return c.startFunc(ctx, func(ctx context.Context, update func([]discovery.Endpoint)) error {
		return c.src.Resolver.Watch(ctx, service, update)
	})
}

func (c *check) startFunc(ctx context.Context, call func(context.Context, func([]discovery.Endpoint)) error) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{t: c.t, timeout: c.src.Timeout, sets: make(chan string, queue), done: make(chan error, 1), cancel: cancel}
	go func() {
		err := call(ctx, w.update)
		w.returned.Store(true)
		w.done <- err
	}()
	c.watches = append(c.watches, w)
	return w
}

func (w *watch) update(set []discovery.Endpoint) {
	if !w.updating.CompareAndSwap(false, true) {
		w.blame("two calls of update at the same time")
	}
	defer w.updating.Store(false)
	runtime.Gosched() // invites another call, if the resolver makes one
	if w.returned.Load() {
		w.blame("update was called after Watch returned")
	}
	select {
	case w.sets <- addrs(set):
	default:
		w.blame("a flood of updates")
	}
	clear(set) // the slice is ours: a resolver that keeps using it breaks itself
}

func (w *watch) blame(fault string) { w.fault.CompareAndSwap(nil, &fault) }

// next returns the next set.
func (w *watch) next() string {
	w.t.Helper()
	select {
	case set := <-w.sets:
		return set
	case err := <-w.done:
		w.done <- err
		select {
		case set := <-w.sets:
			return set
		default:
			w.t.Fatalf("Watch ended with %v, want another set", err)
		}
	case <-time.After(w.timeout):
		w.t.Fatalf("no set within %v", w.timeout)
	}
	return ""
}

// until reads sets until one is want. Each of them must hold the addresses in always and none that is not in
// possible.
func (w *watch) until(want []discovery.Endpoint, always, possible []discovery.Endpoint) {
	w.t.Helper()
	for {
		got := strings.Fields(w.next())
		for _, addr := range strings.Fields(addrs(always)) {
			if !slices.Contains(got, addr) {
				w.t.Fatalf("set %v lacks %s, which the source never dropped", got, addr)
			}
		}
		for _, addr := range got {
			if !slices.Contains(strings.Fields(addrs(possible)), addr) {
				w.t.Fatalf("set %v has %s, which the source does not list", got, addr)
			}
		}
		if strings.Join(got, " ") == addrs(want) {
			return
		}
	}
}

// end waits until Watch returns and gives its error.
func (w *watch) end(within time.Duration) error {
	w.t.Helper()
	select {
	case err := <-w.done:
		w.done <- err
		if err == nil {
			w.t.Fatal("Watch returned nil, want an error")
		}
		return err
	case <-time.After(within):
		w.t.Fatalf("Watch did not return within %v", within)
		return nil
	}
}

// addrs returns the sorted addresses of a set in canonical form.
func addrs(set []discovery.Endpoint) string {
	list := make([]string, len(set))
	for i, e := range set {
		list[i] = e.Addr
		if ap, err := netip.ParseAddrPort(e.Addr); err == nil {
			list[i] = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

package httpmesh

import (
	"context"
	"io"
	"net/http"
	"time"
)

// drainTick is how often Drain looks whether it is over, and so how much too late it may notice. Ten times less would
// burn CPU that the last requests need, ten times more would show in the time of a restart.
const drainTick = 10 * time.Millisecond

// Drain makes callers leave, and waits until they have. From its call on, Ready answers 503 and every answer tells its
// client to use another connection: by Connection: close on HTTP/1, by GOAWAY on HTTP/2. Requests go on being served: to
// refuse them would only make callers fail that have not heard of the drain yet. Drain returns nil when no request
// has been in flight for HandlerOptions.Quiet, or the error of ctx when that ends first. There is no way back.
//
// To stop a server without failing a request:
//
//  1. take it out of the registry, by Close of its discovery.Registration;
//  2. Drain, with a context that bounds how long the slowest request is waited for;
//  3. http.Server.Shutdown, which closes what idle connections there are.
//
// Event streams and hijacked connections last as long as their handlers, which should end when Draining says so.
func (h *Handler) Drain(ctx context.Context) error {
	h.drain.Do(func() { close(h.draining) })
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	quiet, seen := time.Now(), h.started.Load()
	for was := false; ; {
		busy, n, now := h.InFlight() > 0, h.started.Load(), time.Now()
		if busy || was || n != seen {
			quiet, seen = now, n
		}
		if was = busy; !busy && now.Sub(quiet) >= h.o.Quiet {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Draining returns a channel that is closed when Drain is called. Handlers that would run for long, such as those of event
// streams, end when it is.
func (h *Handler) Draining() <-chan struct{} { return h.draining }

func (h *Handler) isDraining() bool {
	select {
	case <-h.draining:
		return true
	default:
		return false
	}
}

// Ready is an http.HandlerFunc for the probes of load balancers: it answers 200, and 503 since Drain was called. It
// is to be served beside the Handler and not by it, for a probe is a request like any other to Drain.
func (h *Handler) Ready(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if h.isDraining() {
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n")
}

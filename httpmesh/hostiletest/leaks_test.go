package hostiletest

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// Bodies that are closed early, or without a look, must free what they hold: the connection is read on to its end, or
// closed if that is far.
func TestBodiesClosedEarlyHoldNothing(t *testing.T) {
	protocols(t, func(t *testing.T, h2 bool) {
		leakCheck(t)
		const workers = 8
		s := serve(t, h2, func(w http.ResponseWriter, req *http.Request) {
			size := 100
			if rand.N(4) == 0 {
				size = 100_000
			}
			io.WriteString(w, strings.Repeat("x", size))
		})
		c := connect(t, base(h2), zerohop.Policy{}, s.addr)
		n := scale(8000)
		if h2 {
			n = scale(2000)
		}
		var most atomic.Int64
		parallel(n, workers, func(id int) {
			resp, err := c.RoundTrip(request(t.Context(), t, http.MethodGet, "http://orders/", nil))
			if err != nil {
				t.Errorf("call: %v", err)
				return
			}
			if id%2 == 0 {
				resp.Body.Read(make([]byte, 1+rand.N(200)))
			}
			resp.Body.Close()
			if open := s.open.Load(); open > most.Load() {
				most.Store(open)
			}
		})
		c.checkIdle(t)
		// Some may be closed by one side and not yet by the other.
		if got := most.Load(); got > 4*workers {
			t.Errorf("up to %d connections for %d callers", got, workers)
		}
		settle(t, "as many connections as callers at most", func() bool { return s.open.Load() <= workers })
		c.checkClosed(t, s)
		t.Logf("%d calls: %d connections, up to %d at a time", n, s.opened.Load(), most.Load())
	})
}

// Hooks must not panic. If one does, its caller learns of it, and nothing is counted as under way for ever.
func TestPanicsOfHooksHoldNothing(t *testing.T) {
	leakCheck(t)
	var armed atomic.Int64
	fuse := func(hook int64) {
		if armed.CompareAndSwap(hook, 0) {
			panic("hook")
		}
	}
	cfg := zerohop.Config{
		Hooks: zerohop.Hooks{
			CallStart: func(ctx context.Context, _ zerohop.CallInfo) context.Context { fuse(1); return ctx },
			AttemptStart: func(ctx context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo) context.Context {
				fuse(2)
				return ctx
			},
			Propagate:   func(context.Context, func(string, string)) { fuse(3) },
			AttemptDone: func(context.Context, zerohop.CallInfo, zerohop.AttemptInfo, zerohop.AttemptResult) { fuse(5) },
			CallDone:    func(context.Context, zerohop.CallInfo, zerohop.CallResult) { fuse(6) },
		},
		Classify: func(_ zerohop.CallInfo, _ zerohop.AttemptResult, v resilience.Verdict) resilience.Verdict {
			fuse(4)
			return v
		},
	}
	cfg.Spec.Defaults.Backup.Mode = zerohop.Off
	s := serve(t, false, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 1000)) })
	c := connectWith(t, base(false), cfg, s.addr)
	for i := range scale(3000) {
		hook := int64(i%6 + 1)
		armed.Store(hook)
		func() {
			defer func() { recover() }()
			resp, err := c.RoundTrip(request(t.Context(), t, http.MethodGet, "http://orders/", nil))
			if err != nil {
				t.Errorf("call: %v", err)
				return
			}
			defer resp.Body.Close() // again after a hook has panicked
			io.Copy(io.Discard, resp.Body)
		}()
		if armed.Load() != 0 {
			t.Fatalf("hook %d was not called", hook)
		}
	}
	c.checkIdle(t)
	c.checkClosed(t, s)
	if status, _, err := do(c, request(t.Context(), t, http.MethodGet, "http://orders/", nil)); status != 200 || err != nil {
		t.Errorf("call after all panics = %d, %v", status, err)
	}
}

package httpmesh

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// hidden is a base that is not an *http.Transport, but made of one.
type hidden struct{ *http.Transport }

func TestResendsOfOtherBasesAreCounted(t *testing.T) {
	t.Run("caller with a trace", func(t *testing.T) { testResends(t, true) })
	t.Run("caller without", func(t *testing.T) { testResends(t, false) })
}

func testResends(t *testing.T, traced bool) {
	var n, conns atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 2 { // on a connection that was used before
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, "ok")
	})
	var ends []zerohop.AttemptResult
	m := open(t, zerohop.Config{
		Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Mode: zerohop.Off}}},
		Hooks: zerohop.Hooks{AttemptDone: func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
			ends = append(ends, r)
		}},
	})
	base := hidden{&http.Transport{}}
	tr := NewTransport(m, base)
	t.Cleanup(tr.CloseIdleConnections)
	ctx, report := zerohop.WithReport(t.Context())
	if traced {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { conns.Add(1) }})
	}
	for range 2 {
		resp, err := get(ctx, t, tr, "http://orders/")
		if got := read(t, resp, err); got != "ok" {
			t.Errorf("answer = %q", got)
		}
	}
	if got := conns.Load(); got != 3 && traced || n.Load() != 3 {
		t.Errorf("the caller's trace saw %d connections, the server %d requests, want 3", got, n.Load())
	}
	if ends[0].Resends != 0 || ends[1].Resends != 1 {
		t.Errorf("attempts ended as %+v, want one resend of the second", ends)
	}
	if got := report.Calls()[1].Attempts; len(got) != 1 || got[0].Resends != 1 {
		t.Errorf("report has %+v, want one attempt that was sent again", got)
	}
}

func TestResendsAreNotMadeOverTransportsOfNetHTTP(t *testing.T) {
	for _, method := range []string{"GET", "PUT", "POST"} {
		var n atomic.Int32
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if n.Add(1) == 2 {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprint(w, "ok")
		})
		m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Mode: zerohop.Off}}}})
		tr := client(t, m)
		resp, err := get(t.Context(), t, tr, "http://orders/")
		read(t, resp, err)
		req := request(t.Context(), t, method, "http://orders/", nil)
		req.Header.Set("Idempotency-Key", "1")
		_, err = tr.RoundTrip(req)
		if e := failure(t, err); n.Load() != 2 || !e.Sent || len(e.Attempts) != 1 {
			t.Errorf("%s: server got %d requests, error = %+v, want one attempt that may have been executed", method, n.Load(), e)
		}
		if node := nodes(t, m)[0]; node.Penalized(time.Now()) {
			t.Errorf("%s: the endpoint is avoided for a connection that it closed", method)
		}
	}
}

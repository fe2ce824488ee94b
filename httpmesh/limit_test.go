package httpmesh

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// A place is taken until the body of the answer was read to its end.
func TestLimitHoldsUntilTheEndOfTheBody(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") })
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: zerohop.Policy{Limit: zerohop.Limit{Mode: zerohop.On, Max: 1}}}})
	c := &http.Client{Transport: client(t, m)}
	for range 3 {
		resp, err := c.Get("http://orders/")
		if err != nil {
			t.Fatal(err)
		}
		var e *zerohop.Error
		if _, err := c.Get("http://orders/"); !errors.As(err, &e) || e.Reason != zerohop.Limited || !errors.Is(err, resilience.ErrLimited) {
			t.Errorf("second request = %v, want that it is limited", err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		resp.Body.Close()
	}
}

// However many requests are made, servers see as many at once as the limits of calls and of endpoints allow.
func TestServersSeeNoMoreThanTheLimits(t *testing.T) {
	for _, p := range []zerohop.Policy{
		{Limit: zerohop.Limit{Mode: zerohop.On, Max: 4, Queue: 100, MaxWait: time.Minute}},
		{EndpointLimit: zerohop.EndpointLimit{Mode: zerohop.On, Algorithm: "fixed", Max: 2}},
	} {
		var now, most atomic.Int64
		work := func(w http.ResponseWriter, r *http.Request) {
			n := now.Add(1)
			defer now.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(time.Millisecond)
		}
		p.Backup.Mode = zerohop.Off
		m := open(t, zerohop.Config{Resolver: source(addr(serve(t, work)), addr(serve(t, work))), Spec: zerohop.Spec{Defaults: p}})
		c := &http.Client{Transport: client(t, m)}
		var all sync.WaitGroup
		var ok, refused atomic.Int64
		for range 16 {
			all.Go(func() {
				for range 10 {
					resp, err := c.Get("http://orders/")
					switch {
					case err == nil:
						read(t, resp, nil)
						ok.Add(1)
					case errors.Is(err, resilience.ErrLimited):
						refused.Add(1)
					default:
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if got := most.Load(); got > 4 {
			t.Errorf("%d requests at once, want at most 4", got)
		}
		if queued := p.Limit.Queue > 0; ok.Load() == 0 || queued && refused.Load() > 0 {
			t.Errorf("%d answered, %d refused with %+v", ok.Load(), refused.Load(), p)
		}
	}
}

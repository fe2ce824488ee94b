package hostiletest

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// Callers that cancel at any time and close bodies early must never make another caller read what was left for them.
func TestAnswersBelongToTheirRequests(t *testing.T) {
	protocols(t, func(t *testing.T, h2 bool) {
		leakCheck(t)
		h := func(w http.ResponseWriter, req *http.Request) {
			id := req.Header.Get("Id")
			w.Header().Set("Id", id)
			switch rand.N(16) {
			case 0:
				hold(req, 2*time.Millisecond)
			case 1:
				w.WriteHeader(http.StatusServiceUnavailable) // tried again: the answer is discarded
			case 2:
				http.NewResponseController(w).Flush()
				hold(req, time.Millisecond)
			}
			io.WriteString(w, strings.Repeat(id+";", 1<<rand.N(12)))
		}
		policy := zerohop.Policy{
			Budget: zerohop.Budget{Mode: zerohop.Off},
			Retry:  zerohop.Retry{Base: time.Microsecond, Max: time.Microsecond},
			Backup: zerohop.Backup{Quantile: 0.95, Factor: 1, Min: time.Millisecond},
		}
		a, b := serve(t, h2, h), serve(t, h2, h)
		c := connect(t, base(h2), policy, a.addr, b.addr)
		n := scale(20_000)
		if h2 {
			n = scale(10_000)
		}
		var whole, canceled, early atomic.Int64
		parallel(n, 16, func(i int) {
			id := fmt.Sprintf("%08d", i)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if rand.N(4) == 0 {
				defer time.AfterFunc(rand.N(2*time.Millisecond), cancel).Stop()
			}
			req := request(ctx, t, http.MethodGet, "http://orders/", nil)
			req.Header.Set("Id", id)
			resp, err := c.RoundTrip(req)
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("call: %v", err)
				}
				canceled.Add(1)
				return
			}
			defer resp.Body.Close()
			if got := resp.Header.Get("Id"); got != id {
				t.Errorf("answer to %s is that to %s", id, got)
			}
			body := io.Reader(resp.Body)
			if rand.N(4) == 0 {
				early.Add(1)
				body = io.LimitReader(body, rand.Int64N(30_000))
			}
			data, err := io.ReadAll(body)
			switch {
			case ctx.Err() != nil:
				canceled.Add(1)
			case err != nil:
				t.Errorf("body of the answer to %s: %v", id, err)
			default:
				whole.Add(1)
			}
			if unit := id + ";"; !strings.HasPrefix(strings.Repeat(unit, 1+len(data)/len(unit)), string(data)) {
				t.Errorf("body of the answer to %s is %.100q", id, data)
			}
		})
		c.checkIdle(t)
		t.Logf("%d calls: %d canceled, %d closed early; %d connections", n, canceled.Load(), early.Load(), a.opened.Load()+b.opened.Load())
		if canceled.Load() == 0 || whole.Load() == 0 || early.Load() == 0 {
			t.Error("want some of each")
		}
		c.checkClosed(t, a)
		c.checkClosed(t, b)
	})
}

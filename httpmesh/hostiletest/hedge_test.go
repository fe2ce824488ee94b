package hostiletest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// hold waits for a random time up to most, or for the caller to go away.
func hold(req *http.Request, most time.Duration) {
	timer := time.NewTimer(rand.N(most))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-req.Context().Done():
	}
}

// The first answer wins, and its body is read long after the other attempt was cancelled.
func TestHedgedDownloadsArriveWhole(t *testing.T) {
	protocols(t, func(t *testing.T, h2 bool) {
		leakCheck(t)
		const size, files = 512 << 10, 8
		data := make([]byte, size+files)
		rand.NewChaCha8([32]byte{}).Read(data)
		var sums [files][sha256.Size]byte
		for i := range sums {
			sums[i] = sha256.Sum256(data[i : i+size])
		}
		// One answer in eight begins late, one in eight stops on its way: near what others take, so that attempts
		// often end together.
		h := func(w http.ResponseWriter, req *http.Request) {
			file, _ := strconv.Atoi(req.URL.Path[1:])
			slow := rand.N(8)
			if slow == 0 {
				hold(req, 10*time.Millisecond)
			}
			w.Header().Set("Content-Length", strconv.Itoa(size))
			r := bytes.NewReader(data[file : file+size])
			if slow == 1 {
				io.CopyN(w, r, rand.Int64N(size))
				http.NewResponseController(w).Flush()
				hold(req, 10*time.Millisecond)
			}
			r.WriteTo(w)
		}
		var hedges, attempts, ended, losers, calls atomic.Int64
		hooks := zerohop.Hooks{
			AttemptStart: func(ctx context.Context, _ zerohop.CallInfo, a zerohop.AttemptInfo) context.Context {
				attempts.Add(1)
				if a.Backup {
					hedges.Add(1)
				}
				return ctx
			},
			AttemptDone: func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
				ended.Add(1)
				switch r.Outcome {
				case resilience.Success:
				case resilience.Neutral:
					losers.Add(1)
				default:
					t.Errorf("attempt ended as %v: %v", r.Outcome, r.Err)
				}
			},
			CallDone: func(_ context.Context, _ zerohop.CallInfo, r zerohop.CallResult) {
				calls.Add(1)
				if r.Outcome != resilience.Success || r.Err != nil {
					t.Errorf("call ended as %v: %v", r.Outcome, r.Err)
				}
			},
		}
		policy := zerohop.Policy{
			Backup: zerohop.Backup{Quantile: 0.95, Factor: 1, Min: time.Millisecond},
			Budget: zerohop.Budget{Mode: zerohop.Off},
		}
		a, b := serve(t, h2, h), serve(t, h2, h)
		c := connectWith(t, base(h2), zerohop.Config{Spec: zerohop.Spec{Defaults: policy}, Hooks: hooks}, a.addr, b.addr)
		n := scale(5000)
		if h2 {
			n = scale(400)
		}
		parallel(n, 4, func(id int) {
			file := id % files
			resp, err := c.RoundTrip(request(t.Context(), t, http.MethodGet, "http://orders/"+strconv.Itoa(file), nil))
			if err != nil {
				t.Errorf("download: %v", err)
				return
			}
			defer resp.Body.Close()
			sum := sha256.New()
			if n, err := io.Copy(sum, resp.Body); err != nil || [sha256.Size]byte(sum.Sum(nil)) != sums[file] {
				t.Errorf("download = %d, %d bytes, %v", resp.StatusCode, n, err)
			}
		})
		c.checkIdle(t)
		settle(t, "all attempts have ended", func() bool { return ended.Load() == attempts.Load() })
		if got := calls.Load(); got != int64(n) {
			t.Errorf("calls done = %d, want %d", got, n)
		}
		t.Logf("%d downloads, %d hedges, %d losers", n, hedges.Load(), losers.Load())
		if hedges.Load() < int64(n)/200 {
			t.Errorf("hedges = %d of %d downloads, want more", hedges.Load(), n)
		}
		// One that had answered as well, a moment too late, is a success of its endpoint, and any other is no news of it.
		if got, most := losers.Load(), attempts.Load()-int64(n); got == 0 && !testing.Short() || got > most {
			t.Errorf("neutral attempts = %d, want some, and at most %d: all but one of each call", got, most)
		}
		c.checkClosed(t, a)
		c.checkClosed(t, b)
	})
}

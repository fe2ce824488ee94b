package httpmesh

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/zerohop/zerohop"
)

// Requests that come before the server has said how many it takes wait for that, as it refuses what is too much.
func TestBurstBeforeTheSettings(t *testing.T) {
	var mu sync.Mutex
	busy := map[int]int{}
	refused := 0
	limited := func(f *frames, n int, id uint32) {
		mu.Lock()
		defer mu.Unlock()
		if busy[n] == 2 {
			refused++
			f.write(func() { f.WriteRSTStream(id, http2.ErrCodeRefusedStream) })
			return
		}
		busy[n]++
		time.AfterFunc(time.Second, func() {
			mu.Lock()
			defer mu.Unlock()
			busy[n]--
			f.ok(id)
		})
	}
	handmade(t, &http.Transport{}, zerohop.Connect{}, limited, func(t *testing.T, p *pool) {
		var tasks sync.WaitGroup
		for range 20 {
			tasks.Go(func() { fetch(t, p) })
		}
		tasks.Wait()
		if refused > 0 {
			t.Errorf("%d requests exceeded what a connection takes", refused)
		}
	}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
}

// A connection whose only place is taken for long does not keep others from having one of their own.
func TestFirstRequestThatIsNeverAnswered(t *testing.T) {
	handmade(t, &http.Transport{}, zerohop.Connect{}, func(f *frames, n int, id uint32) {
		if n > 1 {
			f.ok(id)
		}
	}, func(t *testing.T, p *pool) {
		ctx, cancel := context.WithCancel(t.Context())
		var tasks sync.WaitGroup
		tasks.Go(func() {
			if _, _, err := travel(p, request(ctx, t, "GET", "http://orders/", nil)); !errors.Is(err, context.Canceled) {
				t.Errorf("error = %v, want %v", err, context.Canceled)
			}
		})
		time.Sleep(time.Nanosecond) // of the bubble: the request is out
		start := time.Now()
		fetch(t, p)
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("a request waited for %v", took)
		}
		cancel()
		tasks.Wait()
	}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
}

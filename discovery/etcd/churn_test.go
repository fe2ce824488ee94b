//go:build unix

package etcd_test

import (
	"bufio"
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/etcd"
	"github.com/zerohop/zerohop/internal/etcdtest"
)

// serverWatches returns how many watches the server holds.
func serverWatches(t testing.TB, server *etcdtest.Server) int {
	t.Helper()
	resp, err := http.Get("http://" + server.Addr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "etcd_debugging_mvcc_watcher_total "); ok {
			n, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("the server does not say how many watches it holds")
	return 0
}

// Watches that come and go at any moment leave nothing behind on the stream that others keep open, also when the server dies
// among them.
func TestWatchesThatComeAndGoLeaveNothingAtTheServer(t *testing.T) {
	server := etcdtest.Start(t, etcdtest.Options{})
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	c := newClient(t, server)
	put(t, c, "orders/1", `{"Addr":"192.0.2.1:80"}`)
	r := etcd.Resolver{Client: c}
	stays := follow(t, r, "orders")
	stays.until("192.0.2.1:80")
	churn := func(watches int) {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for range watches / 50 {
					ctx, cancel := context.WithTimeout(t.Context(), rand.N(20*time.Millisecond))
					var ended atomic.Bool
					_ = r.Watch(ctx, "orders", func([]discovery.Endpoint) {
						if ended.Load() {
							t.Error("update after the end of Watch")
						}
					})
					ended.Store(true)
					cancel()
				}
			})
		}
		wg.Wait()
	}
	churn(500)
	server.Kill(t)
	restarted := make(chan struct{})
	go func() { defer close(restarted); churn(1000) }()
	server.Restart(t)
	<-restarted
	put(t, c, "orders/2", `{"Addr":"192.0.2.2:80"}`)
	stays.until("192.0.2.1:80", "192.0.2.2:80")
	churn(500)
	for late := time.Now().Add(patience / 3); ; <-time.After(20 * time.Millisecond) {
		n := serverWatches(t, server)
		if n == 1 {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("the server holds %d watches, want 1", n)
		}
	}
}

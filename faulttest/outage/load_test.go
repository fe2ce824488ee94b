//go:build unix

package outage

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/httpmesh"
)

const (
	// interval is the time between two calls of a load.
	interval = time.Second / 15
	// callTimeout is the deadline of every call. It is not what is tested here.
	callTimeout = 5 * time.Second
)

// backend is an HTTP server.
type backend struct {
	*httptest.Server
	stop func()
}

func startBackend(t *testing.T) *backend {
	b := &backend{Server: httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}))}
	b.stop = sync.OnceFunc(func() {
		b.CloseClientConnections()
		b.Close()
	})
	t.Cleanup(b.stop)
	return b
}

// addrsOf returns the addresses of backends, sorted.
func addrsOf(list []*backend) []string {
	var addrs []string
	for _, b := range list {
		addrs = append(addrs, b.Listener.Addr().String())
	}
	slices.Sort(addrs)
	return addrs
}

// load calls a service at regular times, whatever becomes of the calls.
type load struct {
	// stop ends it and returns how many calls it made, and the errors of those that failed.
	stop func() (int, []error)

	mu    sync.Mutex // guards what follows
	calls int
	errs  []error
}

func startLoad(t *testing.T, m *zerohop.Mesh, service string) *load {
	client := &http.Client{Transport: httpmesh.NewTransport(m, nil)}
	l := new(load)
	quit, done := make(chan struct{}), make(chan struct{})
	begun := time.Now()
	go func() { // ended and awaited by stop
		defer close(done)
		var calls sync.WaitGroup
		defer calls.Wait()
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				return
			case <-ticker.C:
				calls.Go(func() {
					at := time.Since(begun).Round(time.Millisecond)
					err := get(client, service)
					l.mu.Lock()
					defer l.mu.Unlock()
					l.calls++
					if err != nil {
						l.errs = append(l.errs, fmt.Errorf("after %v of load: %w", at, err))
					}
				})
			}
		}
	}()
	end := sync.OnceFunc(func() { close(quit); <-done })
	t.Cleanup(end)
	l.stop = func() (int, []error) {
		end()
		return l.calls, l.errs
	}
	return l
}

func get(client *http.Client, service string) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+service+"/", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}

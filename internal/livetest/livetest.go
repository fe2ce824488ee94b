// Package livetest checks that a document in a store drives the routing of a mesh that is in use.
package livetest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

var (
	changes = flag.Int("changes", 2, "how many changes of routing to measure")
	pause   = flag.Duration("pause", 110*time.Millisecond, "time between two of them; changes within 100 ms are applied as one")
)

const (
	// period is the time between two calls: 200 a second.
	period = 5 * time.Millisecond
	// some is how many calls are made to see that nothing has changed.
	some = 20
	// patience is how long things may take that have no bound of their own.
	patience = 30 * time.Second
	// within is how long a change may take from the write to the first call, most of the time.
	within = time.Second
)

// Store is a source and the server that it reads.
type Store struct {
	Source config.Source
	// Set writes a document.
	Set func(t testing.TB, document []byte)
	// Kill ends the server and Restart starts it again, with or without what it held.
	Kill, Restart func(t testing.TB)
}

// Test moves calls that are made all the time from one backend to another and back, by documents in the store; shows the mesh a
// mistake; and takes the server away for a while. No call may fail.
func Test(t *testing.T, s Store) {
	mesh, err := zerohop.New(zerohop.Config{Resolver: backends(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer mesh.Close()
	s.Set(t, document("a"))

	events := make(chan config.Event, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		err := config.Run(ctx, mesh, s.Source, config.RunOptions{
			Observe: func(e config.Event) { events <- e },
			Rand:    func() uint64 { return 1 << 60 }, // a sixteenth of the longest wait, so that the test is soon over
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v, want %v", err, context.Canceled)
		}
	})
	await(t, events, config.EventApplied)
	calls := newTraffic(t, mesh)
	calls.until(t, "a")

	var took []time.Duration
	for i := range *changes {
		calls.stay(t, int(*pause/period))
		to := string("ba"[i%2])
		start := time.Now()
		s.Set(t, document(to))
		calls.until(t, to)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("from the write to the first call on the new backend: p50 %v, max %v of %d changes", took[len(took)/2], took[len(took)-1], len(took))
	if p50 := took[len(took)/2]; p50 > within {
		t.Errorf("p50 of the time from a write to the first call is %v, want %v", p50, within)
	}

	_, generation := mesh.Spec()
	s.Set(t, []byte("routes: [{backend: []}]\n"))
	if e := await(t, events, config.EventRefused); e.Err == nil || e.Generation != generation {
		t.Errorf("event of a mistake: %+v, want an error and generation %d", e, generation)
	}
	calls.stay(t, some)

	s.Kill(t)
	await(t, events, config.EventWatchFailed)
	calls.stay(t, some)
	s.Restart(t)
	calls.stay(t, 1)
	s.Set(t, document("c"))
	calls.until(t, "c")
	calls.stay(t, some)
	calls.end(t)
}

// document returns one that sends calls to a backend.
func document(backend string) []byte {
	return fmt.Appendf(nil, "services: {orders: , orders-a: , orders-b: , orders-c: }\nroutes:\n- match: {service: orders}\n  backends: [{service: orders-%s}]\n", backend)
}

// backends starts one instance each of three services, which answer with their letters.
func backends(t *testing.T) discovery.Static {
	services := discovery.Static{"orders": nil}
	for _, letter := range []string{"a", "b", "c"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, letter) }))
		t.Cleanup(server.Close)
		services["orders-"+letter] = []discovery.Endpoint{{Addr: server.Listener.Addr().String()}}
	}
	return services
}

// await waits for an event of a kind.
func await(t *testing.T, events <-chan config.Event, kind config.EventKind) config.Event {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case e := <-events:
			if e.Kind == kind {
				return e
			}
		case <-late:
			t.Fatalf("no event %q within %v", kind, patience)
		}
	}
}

// traffic makes calls until it is ended.
type traffic struct {
	answers chan string // of calls in order; "" stands for one that failed
	now     string      // the last backend that until waited for
	stop    func()
}

func newTraffic(t *testing.T, mesh *zerohop.Mesh) *traffic {
	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil), Timeout: patience}
	c := &traffic{answers: make(chan string, 100_000)}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	c.stop = func() { cancel(); running.Wait(); client.CloseIdleConnections() }
	t.Cleanup(c.stop)
	running.Go(func() {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			answer, err := get(client)
			if err != nil {
				t.Errorf("a call failed: %v", err)
			}
			c.answers <- answer
		}
	})
	return c
}

func get(client *http.Client) (string, error) {
	resp, err := client.Get("http://orders/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(body), err
}

// until waits for the first call on a backend.
func (c *traffic) until(t *testing.T, backend string) {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case answer := <-c.answers:
			if answer == backend {
				c.now = backend
				return
			}
			if answer != c.now && c.now != "" {
				t.Errorf("a call on %q, want one on %q or %q", answer, c.now, backend)
			}
		case <-late:
			t.Fatalf("no call on %q within %v", backend, patience)
		}
	}
}

// stay checks that the next n calls, and those that were made already, are on the same backend as the last.
func (c *traffic) stay(t *testing.T, n int) {
	t.Helper()
	for range n + len(c.answers) {
		if answer := <-c.answers; answer != c.now {
			t.Errorf("a call on %q, want %q", answer, c.now)
		}
	}
}

// end ends the calls.
func (c *traffic) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.stay(t, 0)
}

//go:build unix

package faulttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/resilience"
)

// Three thousand streams are open at a time while two of five backends are killed and come back. Only streams of those
// break, which are opened again. In the end half of them are half-closed and half cancelled, and nothing is left of any.
func TestThousandsOfStreamsLeaveNothing(t *testing.T) {
	const streams = 3000
	list := startBackends(t, 5, capacity{Workers: 1})
	before := goleak.IgnoreCurrent()
	t.Run("streams", func(t *testing.T) {
		s := newStreams(t, list)
		s.run(t, streams)
		s.await(t, "opening", func() bool { return s.open == streams })
		if got := s.inFlight(t); got != streams {
			t.Errorf("in flight = %d with %d open streams", got, streams)
		}
		for _, b := range list[:2] {
			b.kill(t)
			<-time.After(time.Second)
		}
		s.await(t, "reopening", func() bool { return s.open == streams })
		for _, b := range list[:2] {
			b.start(t)
		}
		<-time.After(time.Second)
		s.end(t)
		if got := s.inFlight(t); got != 0 {
			t.Errorf("in flight = %d after all streams have ended, want 0", got)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		t.Logf("%d streams, of which broke: %v", s.begun, s.failures)
		for i, b := range list {
			if n := s.failures[b.setup.GRPC]; (n > 0) != (i < 2) {
				t.Errorf("%d streams of backend %d broke, want some for each of the first two and none for others", n, i)
			}
		}
	})
	goleak.VerifyNone(t, before)
}

// streams are bidirectional streams that are kept open.
type streams struct {
	mesh    *zerohop.Mesh
	client  echopb.EchoClient
	ending  chan struct{}
	workers sync.WaitGroup

	mu              sync.Mutex // guards what follows
	changed         sync.Cond
	open, begun     int
	calls, attempts int            // under way
	failures        map[string]int // of attempts, by address
}

func newStreams(t *testing.T, list []*backend) *streams {
	s := &streams{ending: make(chan struct{}), failures: map[string]int{}}
	s.changed.L = &s.mu
	m, err := zerohop.New(zerohop.Config{Resolver: static(protocols[1].addrs(list)), Hooks: zerohop.Hooks{
		CallStart: func(ctx context.Context, _ zerohop.CallInfo) context.Context {
			s.count(func() { s.calls++ })
			return ctx
		},
		CallDone: func(context.Context, zerohop.CallInfo, zerohop.CallResult) { s.count(func() { s.calls-- }) },
		AttemptStart: func(ctx context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo) context.Context {
			s.count(func() { s.attempts++ })
			return ctx
		},
		AttemptDone: func(_ context.Context, _ zerohop.CallInfo, a zerohop.AttemptInfo, r zerohop.AttemptResult) {
			s.count(func() {
				if s.attempts--; r.Outcome == resilience.Failure && a.Node != nil {
					s.failures[a.Node.Addr()]++
				}
			})
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	s.mesh, s.client = m, meshedEcho(t, m, service)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for seen := map[string]bool{}; len(seen) < len(list); { // so that all are connected
		r, err := s.client.Say(ctx, &echopb.SayRequest{})
		if err != nil {
			t.Fatal(err)
		}
		seen[r.Node] = true
	}
	return s
}

func (s *streams) count(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.changed.Broadcast()
}

// await waits, not for ever, until the condition holds.
func (s *streams) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	late := false
	defer time.AfterFunc(10*time.Second, func() { s.count(func() { late = true }) }).Stop()
	for !holds() {
		if s.changed.Wait(); late {
			t.Fatalf("no %s after 10 s: %d streams are open, %d calls and %d attempts under way", what, s.open, s.calls, s.attempts)
		}
	}
}

// end ends all streams, and waits until the mesh knows.
func (s *streams) end(t *testing.T) {
	t.Helper()
	close(s.ending)
	s.workers.Wait()
	s.await(t, "end of all calls", func() bool { return s.calls == 0 && s.attempts == 0 })
}

// inFlight returns what the mesh counts on all nodes.
func (s *streams) inFlight(t *testing.T) (sum int) {
	t.Helper()
	stop, err := s.mesh.Subscribe(service, func(e zerohop.Endpoints) {
		for _, n := range e.Balancer.Set().Nodes() {
			sum += n.InFlight()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	return sum
}

// run keeps n streams open, each of which says something once a second.
func (s *streams) run(t *testing.T, n int) {
	t.Cleanup(s.workers.Wait)
	for i := range n {
		s.workers.Go(func() {
			for {
				err := s.chat(t.Context(), i%2 == 0)
				select {
				case <-s.ending:
					if err != nil {
						t.Errorf("stream at the end: %v", err)
					}
					return
				default:
				}
				if status.Code(err) != codes.Unavailable {
					t.Errorf("stream: %v, want UNAVAILABLE or nothing", err)
					return
				}
			}
		})
	}
}

// chat keeps one stream open until the end or an error.
func (s *streams) chat(ctx context.Context, cancels bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.count(func() { s.begun++ })
	stream, err := s.client.Chat(ctx)
	if err != nil {
		return err
	}
	if err := exchange(stream, "first"); err != nil {
		return err
	}
	s.count(func() { s.open++ })
	defer s.count(func() { s.open-- })
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			if err := exchange(stream, "more"); err != nil {
				return err
			}
		case <-stream.Context().Done(): // it broke
			_, err := stream.Recv()
			return err
		case <-s.ending:
			return finish(stream, cancels, cancel)
		}
	}
}

// exchange sends a text and receives it.
func exchange(stream echopb.Echo_ChatClient, text string) error {
	if err := stream.Send(&echopb.SayRequest{Text: text}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	r, err := stream.Recv()
	if err == nil && r.Text != text {
		err = fmt.Errorf("got %q for %q", r.Text, text)
	}
	return err
}

// finish ends a stream by cancelling or half-closing it.
func finish(stream echopb.Echo_ChatClient, cancels bool, cancel func()) error {
	if cancels {
		cancel()
	} else if err := stream.CloseSend(); err != nil {
		return err
	}
	_, err := stream.Recv()
	if cancels && status.Code(err) == codes.Canceled || !cancels && errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("%w at the end", err)
}

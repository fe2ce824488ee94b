package interop_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/interop/shop"
	"github.com/zerohop/zerohop/resilience"
)

func TestServersStream(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		f := shops(t, w, zerohop.Policy{})
		if got, err := watch(t.Context(), f, 100, opts...); len(got) != 100 || err != nil {
			t.Errorf("%d answers, %v, want 100", len(got), err)
		}
		if got := f.await(t, 1)[0]; got != resilience.Success {
			t.Errorf("outcome = %v, want success", got)
		}
	})
}

// watch asks for n answers and returns those that came.
func watch(ctx context.Context, f *fleet, n int32, opts ...connect.ClientOption) (list []*shop.Answer, err error) {
	s, err := f.client(opts...).Watch(ctx, connect.NewRequest(&shop.Item{Text: "apple", Count: n}))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for s.Receive() {
		list = append(list, s.Msg())
	}
	return list, s.Err()
}

func TestClientsStream(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		f := shops(t, w, zerohop.Policy{})
		s := f.client(opts...).Stock(t.Context())
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprint("apple ", i))
			if err := s.Send(&shop.Item{Text: want[i]}); err != nil {
				t.Fatal(err)
			}
		}
		answer, err := s.CloseAndReceive()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := answer.Msg.Text, strings.Join(want, " "); got != want {
			t.Errorf("the shop got %q, want %q", got, want)
		}
		if got := f.await(t, 1)[0]; got != resilience.Success {
			t.Errorf("outcome = %v, want success", got)
		}
	})
}

// Each message is answered before the next is sent, so the answers must not wait for the end of the request.
func TestBothStream(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		f := shops(t, w, zerohop.Policy{})
		haggle(t, f, 100, opts...)
		if got := f.await(t, 1)[0]; got != resilience.Success {
			t.Errorf("outcome = %v, want success", got)
		}
	})
}

func haggle(t testing.TB, f *fleet, n int, opts ...connect.ClientOption) {
	t.Helper()
	s := f.client(opts...).Haggle(t.Context())
	for i := range n {
		text := fmt.Sprint("apple ", i)
		if err := s.Send(&shop.Item{Text: text}); err != nil {
			t.Fatal(err)
		}
		answer, err := s.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if answer.Text != text {
			t.Errorf("answer = %q, want %q", answer.Text, text)
		}
	}
	if err := s.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end, error = %v, want %v", err, io.EOF)
	}
	if err := s.CloseResponse(); err != nil {
		t.Fatal(err)
	}
}

func TestStreamsThatFailAreSeen(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		for _, row := range []struct {
			code    connect.Code
			outcome resilience.Outcome
		}{{connect.CodeUnavailable, resilience.Failure}, {connect.CodeNotFound, resilience.Success}, {connect.CodeResourceExhausted, resilience.Overload}} {
			f := shops(t, w, zerohop.Policy{})
			f.failing(row.code, f.nodes...)
			got, err := watch(mark(t.Context()), f, 3, opts...)
			checkLunch(t, err, row.code)
			if len(got) != 3 || f.calls() != 1 {
				t.Errorf("%d answers to %d calls, want 3 to 1", len(got), f.calls())
			}
			if got := f.await(t, 1)[0]; got != row.outcome {
				t.Errorf("%v: outcome = %v, want %v", row.code, got, row.outcome)
			}
		}
	})
}

func TestClientStreamsThatFailAreSeen(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		f := shops(t, w, zerohop.Policy{})
		f.failing(connect.CodeUnavailable, f.nodes...)
		s := f.client(opts...).Stock(mark(t.Context()))
		if err := s.Send(&shop.Item{Text: "apple"}); err != nil {
			t.Fatal(err)
		}
		_, err := s.CloseAndReceive()
		checkLunch(t, err, connect.CodeUnavailable)
		if got, want := f.calls(), 1; got != want {
			t.Errorf("%d calls, want %d", got, want)
		}
		if got := f.await(t, 1)[0]; got != resilience.Failure {
			t.Errorf("outcome = %v, want a failure", got)
		}
	})
}

func TestNodesThatDieInTheMiddleOfAStreamAreSeen(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		f := shops(t, w, zerohop.Policy{})
		var killed atomic.Bool
		received := make(chan struct{})
		for _, b := range f.nodes {
			b.midstream = func(ctx context.Context) error {
				if killed.Swap(true) {
					return nil
				}
				<-received
				b.server.Listener.Close()
				go b.server.CloseClientConnections() // waits for this handler
				<-ctx.Done()
				return ctx.Err()
			}
		}
		s, err := f.client(opts...).Watch(mark(t.Context()), connect.NewRequest(&shop.Item{Count: 2}))
		if err != nil {
			t.Fatal(err)
		}
		if !s.Receive() {
			t.Fatal(s.Err())
		}
		close(received)
		var e *connect.Error
		if s.Receive() || !errors.As(s.Err(), &e) {
			t.Errorf("error = %v, want a *connect.Error", s.Err())
		}
		s.Close()
		if got := f.await(t, 1)[0]; got != resilience.Failure {
			t.Errorf("outcome = %v, want a failure", got)
		}
		if f.calls() != 1 {
			t.Errorf("%d calls, want 1", f.calls())
		}
		// The others still answer.
		for range 10 {
			haggle(t, f, 2, opts...)
		}
	})
}

func TestStreamsGoToNodesThatCanBeReached(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		f := shops(t, w, zerohop.Policy{})
		f.nodes[0].server.Close()
		f.nodes[1].server.Close()
		for range 3 {
			haggle(t, f, 2, opts...)
			if got, err := watch(t.Context(), f, 2, opts...); len(got) != 2 || err != nil {
				t.Errorf("%d answers, %v, want 2", len(got), err)
			}
		}
	})
}

func TestLongStreamsAreNotCut(t *testing.T) {
	const limit = 500 * time.Millisecond
	for _, rpc := range rpcs {
		t.Run(rpc.name, func(t *testing.T) {
			t.Parallel()
			f := shops(t, overH2C, zerohop.Policy{AttemptTimeout: limit})
			for _, b := range f.nodes {
				b.midstream = func(ctx context.Context) error {
					select {
					case <-time.After(2 * limit):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
			}
			if got, err := watch(t.Context(), f, 2, rpc.opts...); len(got) != 2 || err != nil {
				t.Errorf("%d answers, %v, want 2", len(got), err)
			}
			haggle(t, f, 2, rpc.opts...)
		})
	}
}

func TestStreamsEndWithTheirCaller(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		ctx, cancel := context.WithCancel(t.Context())
		f := shops(t, w, zerohop.Policy{})
		left := make(chan struct{})
		for _, b := range f.nodes {
			b.midstream = func(ctx context.Context) error {
				<-ctx.Done()
				close(left)
				return ctx.Err()
			}
		}
		s, err := f.client(opts...).Watch(ctx, connect.NewRequest(&shop.Item{Count: 2}))
		if err != nil {
			t.Fatal(err)
		}
		if !s.Receive() {
			t.Fatal(s.Err())
		}
		cancel()
		if s.Receive() {
			t.Error("received more after the context ended")
		}
		if got, want := connect.CodeOf(s.Err()), connect.CodeCanceled; got != want {
			t.Errorf("code = %v, want %v", got, want)
		}
		s.Close()
		<-left
		if got := f.await(t, 1)[0]; got != resilience.Neutral && got != resilience.Success {
			t.Errorf("outcome = %v, want one that blames nobody", got)
		}
	})
}

package httpmesh

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// errNeighbour is what cancels a context when a call beside failed, as golang.org/x/sync/errgroup does.
var errNeighbour = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}

func TestCauseOfCancellationProvesNothing(t *testing.T) {
	reached := make(chan struct{}, 2)
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		<-r.Context().Done()
	})
	m := open(t, zerohop.Config{Resolver: source(addr(s))})
	foreign := &http.Transport{DisableKeepAlives: true}
	for name, base := range map[string]http.RoundTripper{"pool": &http.Transport{}, "foreign": roundTrip(foreign.RoundTrip)} {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-reached
			cancel(errNeighbour)
		}()
		tr := NewTransport(m, base)
		_, err := get(ctx, t, tr, "http://orders/")
		tr.CloseIdleConnections()
		if e := failure(t, err); !e.Sent || !errors.Is(err, errNeighbour) {
			t.Errorf("%s: Sent = %v, error = %v, want a request that was sent and its cause", name, e.Sent, err)
		}
	}
}

func TestBodyCutByCauseOfCancellationIsNoFailure(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begin")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	outcomes := make(chan resilience.Outcome, 1)
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Hooks: zerohop.Hooks{
		AttemptDone: func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
			outcomes <- r.Outcome
		},
	}})
	ctx, cancel := context.WithCancelCause(t.Context())
	resp, err := get(ctx, t, client(t, m), "http://orders/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	time.AfterFunc(20*time.Millisecond, func() { cancel(errNeighbour) })
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, errNeighbour) {
		t.Errorf("error = %v, want the cause", err)
	}
	if got, want := <-outcomes, resilience.Neutral; got != want {
		t.Errorf("outcome = %v, want %v", got, want)
	}
}

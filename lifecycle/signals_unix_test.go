//go:build unix

package lifecycle

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRunObeysSignals(t *testing.T) {
	d := &diary{start: time.Now()}
	served := make(chan struct{})
	s := d.server(time.Hour)
	serve, drain, drains := s.Serve, s.Drain, make(chan struct{})
	s.Serve = func(l net.Listener) error {
		close(served)
		return serve(l)
	}
	s.Drain = func(ctx context.Context) error {
		close(drains)
		return drain(ctx)
	}
	_, done := start(Config{Servers: []Server{s}, Signals: []os.Signal{syscall.SIGUSR1}})
	<-served
	for _, next := range []chan struct{}{drains, nil} {
		if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if next != nil {
			<-next
		}
	}
	if err := <-done; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "second signal") {
		t.Errorf("Run() = %v, want that it was cut off by a second signal", err)
	}
}

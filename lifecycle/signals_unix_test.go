//go:build unix

package lifecycle

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
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
	signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR1) // for good: one that comes when Run has ended must not end the tests
	again := time.NewTicker(echoTime / 10)
	defer again.Stop()
	var err error
	for ended := false; !ended; {
		if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		select {
		case err = <-done:
			ended = true
		case <-again.C:
		}
	}
	<-drains
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "second signal") {
		t.Errorf("Run() = %v, want that it was cut off by a second signal", err)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// show is one run of the program.
type show struct {
	*screen
	length   time.Duration // of a phase
	results  []results     // by phase
	done     int           // phases
	registry *registry
	backends [backends]*process
	killed   time.Time     // when a backend was
	noticed  time.Duration // how long after that the registry dropped it, 0 if it has not yet
}

func newShow(out *screen, length time.Duration) *show {
	lease := max(length*2/5, time.Second)
	return &show{screen: out, length: length, results: make([]results, len(story)), registry: newRegistry(lease)}
}

// play starts everything, goes through the story and stops everything.
func (s *show) play(ctx context.Context) (err error) {
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.registry}
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(listener) }()
	defer func() {
		_ = server.Close()
		if e := <-serving; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		s.registry.close()
	}()

	defer s.stopBackends()
	for i, name := range names {
		executed := func(tag string) {
			if phase, column, err := untag(tag); err == nil {
				s.results[phase][column].execute(i)
			}
		}
		if s.backends[i], err = start(name, "http://"+listener.Addr().String(), executed, lost); err != nil {
			return err
		}
	}
	for _, service := range []string{httpService, grpcService} {
		if err := s.registry.await(ctx, service, backends); err != nil {
			return err
		}
	}
	without, err := plainClients(s.registry)
	if err != nil {
		return err
	}
	defer without.close()
	with, err := zerohopClients(s.registry)
	if err != nil {
		return err
	}
	defer with.close()

	calls := [columns]call{without.get, with.get, without.say, with.say}
	for n := range story {
		if err := s.phase(ctx, n, calls); err != nil {
			return err
		}
	}
	return nil
}

func (s *show) stopBackends() {
	for _, b := range s.backends {
		if b != nil {
			b.quit()
		}
	}
	for _, b := range s.backends {
		if b != nil {
			b.stop()
		}
	}
}

// phase drives the load, and brings the fault about while calls are under way.
func (s *show) phase(ctx context.Context, n int, calls [columns]call) error {
	if !s.live {
		s.print(fmt.Sprintf("Phase %d of %d: %s", n+1, len(story), story[n].note))
	}
	start := time.Now()
	end := start.Add(s.length)
	over := make(chan struct{})
	go func() { // waited for below
		defer close(over)
		s.results[n].run(ctx, n, calls, start, end)
	}()
	fault := time.After(s.length / 50)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var failed error
	for {
		select {
		case <-fault:
			failed = s.fault(story[n])
		case <-tick.C:
			s.watchRegistry()
			if s.live {
				s.draw(s.picture(n, time.Until(end)))
			}
		case <-over:
			if err := errors.Join(failed, context.Cause(ctx)); err != nil {
				return err
			}
			s.done++
			if !s.live {
				s.print(append(s.table(s.results[n].stats(), s.labels(), s.styles()), "")...)
			}
			return s.heal(story[n])
		}
	}
}

func (s *show) fault(p phase) error {
	victim := s.backends[p.victim]
	if p.fault == beKilled {
		s.killed = time.Now()
		return victim.kill()
	}
	return victim.tell(p.fault)
}

func (s *show) heal(p phase) error {
	if p.fault == beKilled {
		return nil
	}
	return s.backends[p.victim].tell(beHealthy)
}

// watchRegistry notes when the registry has dropped the backend that was killed.
func (s *show) watchRegistry() {
	if s.killed.IsZero() || s.noticed > 0 {
		return
	}
	if set, _ := s.registry.endpoints(httpService); len(set) < backends {
		s.noticed = time.Since(s.killed)
	}
}

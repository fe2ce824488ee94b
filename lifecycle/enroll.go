package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/zerohop/zerohop/discovery"
)

const (
	// registerTime bounds one try. A registry that is elected anew answers within it.
	registerTime = 10 * time.Second
	// firstWait and lastWait bound the waits between tries: callers find the instance 2 s after the registry is back,
	// and a thousand instances that wait for it send less than a thousand requests a second.
	firstWait = 200 * time.Millisecond
	lastWait  = 1500 * time.Millisecond
)

// enroll keeps the instances of a server registered until the end.
func (r *run) enroll(s *Server) {
	for _, inst := range s.Instances {
		if inst.Endpoint.Addr == "" {
			inst.Endpoint.Addr = s.addr()
		}
		if l, ok := s.Listener.(interface{ Meta() map[string]string }); ok {
			inst.Endpoint.Meta = merged(l.Meta(), inst.Endpoint.Meta)
		}
		r.enrolled.Go(func() { r.keep(inst) })
	}
}

// merged returns a copy of both. What the user says comes first.
func merged(found, given map[string]string) map[string]string {
	if len(found) == 0 {
		return given
	}
	all := maps.Clone(found)
	maps.Copy(all, given)
	return all
}

// keep registers inst, and takes it out when it is time to leave.
func (r *run) keep(inst discovery.Instance) {
	registration := r.register(inst)
	if registration == nil {
		return
	}
	<-r.leaving.Done()
	if err := registration.Close(r.registry); err != nil {
		r.fail(fmt.Errorf("lifecycle: %s stays registered until its lease or check fails: %w", inst.Service, err))
	}
}

// register tries until it is time to leave. A try that has begun is not broken off then: the registry might have
// the instance, and nobody would take it out.
func (r *run) register(inst discovery.Instance) discovery.Registration {
	var waits *backoff.ExponentialBackOff
	for r.leaving.Err() == nil {
		ctx, cancel := context.WithTimeout(r.registry, registerTime)
		registration, err := r.Registrar.Register(ctx, inst)
		cancel()
		if err == nil {
			return registration
		}
		err = fmt.Errorf("lifecycle: registration of %s: %w", inst.Service, err)
		if errors.Is(err, discovery.ErrInvalidInstance) {
			r.fail(err)
			r.end()
			return nil
		}
		r.OnError(err)
		if waits == nil {
			waits = &backoff.ExponentialBackOff{InitialInterval: firstWait, Multiplier: 2, MaxInterval: lastWait, RandomizationFactor: 0.5, Clock: backoff.SystemClock}
			waits.Reset()
		}
		sleep(r.leaving, waits.NextBackOff())
	}
	return nil
}

// depart takes all instances out of the registry.
func (r *run) depart(ctx context.Context) {
	r.leave()
	timer := time.AfterFunc(deregisterTime, r.giveUp)
	stop := context.AfterFunc(ctx, r.giveUp)
	r.enrolled.Wait()
	timer.Stop()
	stop()
	r.giveUp()
}

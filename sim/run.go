package sim

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Run simulates a scenario and returns what happened. It fails the test at once if the scenario makes no sense, and if
// what must always hold did not: that the simulation, or zerohop, has a defect.
//
// Several may run at the same time. It must not be called in a bubble of testing/synctest, since it makes one.
func Run(t *testing.T, s Scenario) *Result {
	t.Helper()
	if s.Seed == 0 {
		s.Seed = 1
	}
	r, err := simulate(t, s)
	switch {
	case err == nil:
		return r
	case r != nil:
		s = Shrink(t, s, func(r *Result, err error) bool { return r != nil && err != nil })
		t.Fatalf("sim: seed %d: %v\nThese faults are enough for something of the kind: %v\nReplay: go test -run '^%s$'",
			s.Seed, err, s.Faults, strings.ReplaceAll(t.Name(), "/", "$/^"))
	default:
		t.Fatalf("sim: %v", err)
	}
	return nil
}

// simulate is Run without a judgement.
func simulate(t *testing.T, s Scenario) (r *Result, err error) {
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("invalid scenario: %w", err)
	}
	synctest.Test(t, func(*testing.T) {
		w := &world{scenario: &s, made: time.Now()}
		defer w.close()
		if err = w.build(); err != nil {
			return
		}
		w.run(s.For)
		r = w.finish()
		err = errors.Join(w.broken...)
	})
	return r, err
}

// random returns the random numbers of one part.
func (w *world) random(part string) *rand.Rand { return rand.New(w.stream(part)) }

// build makes the services, endpoints and clients.
func (w *world) build() error {
	s := w.scenario
	w.services, w.byAddr = map[string]*service{}, map[string]*endpoint{}
	w.result = &Result{Scenario: *s, Services: map[string]*ServiceResult{}}
	for i, name := range slices.Sorted(maps.Keys(s.Services)) {
		v := &service{Service: s.Services[name], world: w, name: name}
		v.registry.world, v.registry.rnd = w, w.random("registry "+name)
		v.Workers = max(v.Workers, 1)
		w.services[name] = v
		w.named = append(w.named, v)
		for n := range max(v.Service.Endpoints, 1) {
			e := &endpoint{
				world: w, service: v, number: n, series: newSeries(s.For), made: newSeries(s.For),
				addr: fmt.Sprintf("10.%d.%d.%d:80", i, n/250, 1+n%250),
				rnd:  w.random(fmt.Sprint("endpoint ", name, " ", n)),
			}
			e.state = v.stateOf(n)
			var err error
			if e.admission, err = e.newAdmission(); err != nil {
				return fmt.Errorf("services.%s.admission: %w", name, err)
			}
			v.endpoints = append(v.endpoints, e)
			w.byAddr[e.addr] = e
		}
		v.publish()
	}
	for _, v := range w.named {
		var calls []string
		for _, c := range v.Calls {
			calls = append(calls, c.Service)
		}
		for _, e := range v.endpoints {
			if len(calls) > 0 {
				m, err := w.newMesh(fmt.Sprint(v.name, " ", e.number), v.Mesh, calls...)
				if err != nil {
					return fmt.Errorf("services.%s.mesh: %w", v.name, err)
				}
				e.mesh = m
			}
		}
	}
	for i := range s.Clients {
		c := &s.Clients[i]
		var meshes []*mesh
		for n := range max(c.Count, 1) {
			m, err := w.newMesh(fmt.Sprint("client ", i, " ", n), c.Mesh, c.Service)
			if err != nil {
				return fmt.Errorf("clients[%d].mesh: %w", i, err)
			}
			meshes = append(meshes, m)
			v := w.services[c.Service]
			v.clients = append(v.clients, m)
		}
		series := newSeries(s.For)
		w.result.Clients = append(w.result.Clients, series)
		w.arrivals(c, meshes, series, fmt.Sprint("calls ", i))
	}
	// Every mesh knows its endpoints then.
	time.Sleep(time.Duration(w.feeds+1) * time.Microsecond)
	synctest.Wait()
	w.start = time.Now()
	w.plan()
	return nil
}

// finish gives up what is under way, and sums up.
func (w *world) finish() *Result {
	w.ended = true
	for _, m := range w.meshes {
		for m.stopped > 0 {
			m.resume()
		}
	}
	for len(w.calls) > 0 {
		c := w.calls[0]
		c.ctx.end(errOver)
		c.wake()
	}
	w.checkRest()
	r := w.result
	r.Series = sumOf(w.scenario.For, r.Clients...)
	for _, v := range w.named {
		var made []*Series
		s := &ServiceResult{}
		for _, e := range v.endpoints {
			s.Endpoints = append(s.Endpoints, e.series)
			made = append(made, e.made)
		}
		s.Attempts, s.Calls = sumOf(w.scenario.For, s.Endpoints...), sumOf(w.scenario.For, made...)
		r.Services[v.name] = s
	}
	r.Events, r.Hash = w.count, w.trace
	return r
}

// close lets go of the meshes.
func (w *world) close() {
	for _, m := range w.meshes {
		for _, stop := range m.stops {
			stop()
		}
		_ = m.Close()
	}
}

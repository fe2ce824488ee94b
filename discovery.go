package zerohop

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// Discovery says how far a mesh trusts the source of endpoints. The zero value is a good default.
type Discovery struct {
	// EmptyGrace is how long a source must insist that a service has lost all its endpoints, or more than MaxRemoval of them,
	// before it is believed: a watch that begins that long after the first such answer must say the same. 0 means 5 s, negative
	// that it is believed at once.
	EmptyGrace time.Duration
	// MaxRemoval is the share of the endpoints of a service, of four or more, that may vanish in one answer without that. A
	// single one always may. 0 means 0.5; with 1 only the loss of all endpoints is in doubt.
	MaxRemoval float64
}

func (d *Discovery) validate() error {
	if !(d.MaxRemoval >= 0 && d.MaxRemoval <= 1) {
		return fmt.Errorf("discovery.maxRemoval: must be between 0 and 1, got %v", d.MaxRemoval)
	}
	return nil
}

// DiscoveryState is what is known of the endpoints of a service and of their source.
type DiscoveryState struct {
	// Known is set as soon as the source has answered, be it with no endpoints.
	Known bool `json:"known"`
	// Endpoints is how many are in use, and Held how many of them the source does not list any more: it is to say so again;
	// see Discovery.
	Endpoints int `json:"endpoints"`
	Held      int `json:"held,omitempty"`
	// Changed is when the endpoints in use last changed. It is the zero time before the first answer.
	Changed time.Time `json:"changed,omitzero"`
	// Lost is when the source was last heard, or when the service was first asked for. It is the zero time while a watch works.
	Lost time.Time `json:"lost,omitzero"`
	// Age is how long the source has not been heard now: 0 while a watch works, however old the endpoints are. Endpoints stay
	// in use without limit.
	Age time.Duration `json:"age,omitempty"`
	// Err is why the source is not heard, nil if it is or has only not answered yet.
	Err error `json:"-"`
}

// Discovery tells what is known of the endpoints of a service, and false if nobody has asked for them so far: it does not
// begin to watch them. It takes a lock, but never for long.
func (m *Mesh) Discovery(service string) (DiscoveryState, bool) {
	s := m.known()[strings.ToLower(service)]
	if s == nil {
		return DiscoveryState{}, false
	}
	return s.discovery()
}

// discovery returns what is known of the endpoints and of their source, and false if nobody has asked for them.
func (s *upstream) discovery() (DiscoveryState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun.IsZero() {
		return DiscoveryState{}, false
	}
	d := DiscoveryState{Known: s.known, Endpoints: s.last.Endpoints, Held: s.last.Held, Changed: s.renewed, Lost: s.last.Lost, Err: s.err}
	if s.last.Kind == 0 { // nothing has happened since
		d.Lost = s.begun
	}
	if !d.Lost.IsZero() {
		d.Age = time.Since(d.Lost)
	}
	return d, true
}

// update takes over a set of endpoints.
func (s *upstream) update(eps []discovery.Endpoint) {
	s.zoning.update(s, eps)
	if s.mesh.snapshots != nil {
		s.latest = eps
	}
	if c := s.checks.Load(); c != nil {
		c.update()
	}
	s.serving.Store(len(eps) > 0)
	s.change(func() {
		s.known, s.renewed = true, time.Now()
		if !errors.Is(s.err, discovery.ErrUnknownService) || len(eps) > 0 { // that is why there are none
			s.err = nil
		}
	})
}

// observe takes note of what happens to the watch.
func (s *upstream) observe(ev discovery.Event) {
	switch ev.Kind {
	case discovery.EventWatchFailed, discovery.EventAnswerRejected:
		s.change(func() { s.last, s.err = ev, ev.Err })
	case discovery.EventConfirmed:
		s.change(func() { s.last, s.err = ev, nil })
	default:
		s.mu.Lock()
		s.last = ev
		s.mu.Unlock()
	}
	if w := s.mesh.snapshots; w != nil {
		w.observe(s.key, ev, s.latest)
		s.latest = nil
	}
	if h := s.mesh.cfg.Hooks.Discovery; h != nil {
		h(s.name, ev)
	}
}

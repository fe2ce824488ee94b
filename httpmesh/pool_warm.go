package httpmesh

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/zerohop/zerohop"
)

const (
	// warmPause is the shortest time between two rounds of opening connections ahead of requests, so that a server
	// that closes them at once is not flooded.
	warmPause = time.Second
	// maxWarm is how many services a Transport follows to connect to new endpoints ahead of requests. A mesh forgets
	// services that nobody follows when there are too many, and names may come from requests.
	maxWarm = 100
)

// warmUp opens connections ahead of requests while there are too few, one after the other: one of HTTP/2 is enough.
// p.mu is held.
func (p *pool) warmUp(now time.Time) {
	missing := p.warm - p.live
	switch {
	case missing <= 0 || p.released || len(p.shared) > 0 || p.limit > 0 && p.live >= p.limit:
		p.cold = 0
	case len(p.dials) > 0:
	case p.cold == 0 && now.Before(p.warmAt):
		p.arm(p.warmAt, now)
	default:
		if p.cold == 0 {
			p.cold, p.warmAt = missing, now.Add(warmPause)
		}
		p.cold--
		p.dial(nil)
	}
}

// warm connects to all endpoints of a service, now and when others join, as a request for the URL would.
func (t *Transport) warm(service string, policy zerohop.Connect, u url.URL, k kind) {
	key := fmt.Sprint(service, " ", k, " ", u.Scheme, " ", u.Host)
	t.mu.Lock()
	if t.warmed == nil {
		t.warmed = map[string]struct{}{}
	}
	_, known := t.warmed[key]
	if known || len(t.warmed) == maxWarm {
		t.mu.Unlock()
		return
	}
	t.warmed[key] = struct{}{}
	t.mu.Unlock()
	// It lasts as long as the mesh, as the Transport does. An error means that the mesh was closed.
	_, _ = t.mesh.Subscribe(service, func(known zerohop.Endpoints) {
		for _, n := range known.Balancer.Set().Nodes() {
			if t.handler(n) != nil {
				continue
			}
			e := t.endpoint(n)
			t.poolAt(e, service, &policy, &u, k)
			if !slices.Contains(known.Balancer.Set().Nodes(), n) {
				e.release() // it left before there was something to release
			}
		}
	})
}

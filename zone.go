package zerohop

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/zerohop/zerohop/discovery"
)

const (
	// zoneTimeout bounds one question for the zone. zoneWait is the window of the first pause after one that failed, which
	// doubles up to zoneWaitMax: without a zone calls work, if at a higher price.
	zoneTimeout = 10 * time.Second
	zoneWait    = 500 * time.Millisecond
	zoneWaitMax = time.Minute
	// maxZone is how many bytes a zone may have, as in an endpoint.
	maxZone = 256
)

// site is where the process runs, as far as it is known.
type site struct {
	zone   string
	source string
	asked  bool // the resolver is to say
}

// site returns what is known without asking anybody.
func (c *Config) site() *site {
	if c.Zone != "" {
		return &site{zone: c.Zone, source: "config"}
	}
	if zone := os.Getenv("ZEROHOP_ZONE"); zone != "" {
		return &site{zone: zone, source: "environment"}
	}
	_, ok := c.Resolver.(discovery.ZoneSource)
	return &site{asked: ok}
}

// Zone returns the failure domain that the process runs in and where it is known from: "config" (Config.Zone),
// "environment" (ZEROHOP_ZONE) or "resolver". Both are empty as long as it is not known. The source is "resolver" and the zone is
// empty if the resolver has said that there is none.
func (m *Mesh) Zone() (zone, source string) {
	at := m.site.Load()
	return at.zone, at.source
}

// locate asks the resolver for the zone until it has said it or the mesh is closed.
func (m *Mesh) locate() {
	window := zoneWait
	for m.ctx.Err() == nil {
		if zone, err := m.askZone(); err == nil {
			m.moveTo(zone)
			return
		}
		pause := time.NewTimer(window/2 + time.Duration(m.cfg.Rand()%uint64(window)))
		select {
		case <-pause.C:
		case <-m.ctx.Done():
			pause.Stop()
		}
		window = min(2*window, zoneWaitMax)
	}
}

func (m *Mesh) askZone() (zone string, err error) {
	ctx, cancel := context.WithTimeout(m.ctx, zoneTimeout)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("zerohop: zone of the process: panic: %v", v)
		}
	}()
	zone, err = m.cfg.Resolver.(discovery.ZoneSource).Zone(ctx)
	if err == nil && (len(zone) > maxZone || strings.ContainsFunc(zone, unicode.IsControl)) {
		err = fmt.Errorf("zerohop: zone of the process: %.64q is none", zone)
	}
	return zone, err
}

// moveTo makes all services heed the zone.
func (m *Mesh) moveTo(zone string) {
	m.site.Store(&site{zone: zone, source: "resolver"})
	m.mu.Lock() // services that come now know it
	services := m.known()
	m.mu.Unlock()
	for _, s := range services {
		if s.zoning.moveTo(s.upstream, zone) {
			s.change(func() {}) // who holds connections looks at the nodes again
		}
	}
}

// zoning keeps the endpoints of a service until the zone is known, by which they are then seen anew.
type zoning struct {
	mu   sync.Mutex // guards what follows, and the order of updates; taken before locks of the balancer
	late bool       // the zone matters and is not known yet
	eps  []discovery.Endpoint
}

func (z *zoning) update(s *upstream, eps []discovery.Endpoint) {
	s.hold()
	defer s.release()
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.late {
		z.eps = eps
	}
	s.balancer.Update(eps)
}

// moveTo reports whether there are endpoints that the zone matters for.
func (z *zoning) moveTo(s *upstream, zone string) bool {
	s.hold()
	defer s.release()
	z.mu.Lock()
	defer z.mu.Unlock()
	eps := z.eps
	z.late, z.eps = false, nil
	s.balancer.SetZone(zone)
	if eps != nil && zone != "" {
		s.balancer.Update(eps)
	}
	return eps != nil
}

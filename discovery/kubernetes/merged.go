package kubernetes

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/zerohop/zerohop/discovery"
)

const (
	// moveTime is how long an endpoint that is in no slice any more is kept. The control plane moves endpoints between
	// slices by two writes in any order, which are some milliseconds apart, or 50 each if it is throttled (20 a second).
	// Ten times longer, calls would go to addresses that may have another owner by then.
	moveTime = 300 * time.Millisecond
	// maxRecords bounds what a stream can make a watch hold. It is ten times what discovery.Run takes.
	maxRecords = 100_000
)

// merged holds the slices of a service and makes one set of them.
type merged struct {
	port       string
	notReady   bool // list what is not ready
	preferIPv6 bool

	slices map[string]part // by name
	size   int             // records in all slices, and one for each slice

	// last holds the endpoints of the last set by address, and gone those of them that are in no slice, with the time
	// up to which they are kept.
	last map[string]discovery.Endpoint
	gone map[string]time.Time
}

// part is what a slice holds, or why it cannot be used.
type part struct {
	kind    discoveryv1.AddressType
	records []record
	err     error
}

// replace takes a complete list.
func (m *merged) replace(list []discoveryv1.EndpointSlice, t target) error {
	m.slices, m.size = make(map[string]part, len(list)), 0
	for i := range list {
		if t.has(&list[i]) {
			if err := m.put(&list[i], true); err != nil {
				return err
			}
		}
	}
	return nil
}

// put takes a slice as it is now, or that there is none of this name.
func (m *merged) put(slice *discoveryv1.EndpointSlice, exists bool) error {
	old, known := m.slices[slice.Name]
	if known {
		m.size -= 1 + len(old.records)
		delete(m.slices, slice.Name)
	}
	if !exists {
		return nil
	}
	if m.size+1+len(slice.Endpoints) > maxRecords {
		return fmt.Errorf("more than %d slices and endpoints", maxRecords)
	}
	p := part{kind: slice.AddressType}
	p.records, p.err = records(slice, m.port, m.notReady)
	if known && p.err == nil && m.alone(p.kind) {
		for _, r := range old.records {
			delete(m.last, r.endpoint.Addr)
		}
	}
	m.slices[slice.Name] = p
	m.size += 1 + len(p.records)
	return nil
}

// alone reports whether there is no slice for addresses of this kind. Kubernetes creates slices before it takes endpoints out of
// others: so what leaves the only slice in an update of it moves nowhere, and nothing need be kept.
func (m *merged) alone(kind discoveryv1.AddressType) bool {
	for _, p := range m.slices {
		if p.kind == kind {
			return false
		}
	}
	return true
}

// set returns the endpoints of all slices and the time when it is to be called again if nothing else happens; zero if it is
// not. It fails if there are endpoints, and none has a port to use.
func (m *merged) set(now time.Time) (set []discovery.Endpoint, again time.Time, err error) {
	pods := make(map[string]record)
	listed := make(map[string]record)
	list := func(r record) {
		if known, ok := listed[r.endpoint.Addr]; !ok || better(r, known, m.preferIPv6) {
			listed[r.endpoint.Addr] = r
		}
	}
	// In order of names, so that equal slices give equal sets.
	for _, name := range slices.Sorted(maps.Keys(m.slices)) {
		p := m.slices[name]
		err = cmp.Or(err, p.err)
		for _, r := range p.records {
			if r.pod == "" {
				list(r)
			} else if known, ok := pods[r.pod]; !ok || better(r, known, m.preferIPv6) {
				pods[r.pod] = r
			}
		}
	}
	for _, r := range pods {
		list(r)
	}
	if err != nil && len(listed) == 0 {
		return nil, time.Time{}, err
	}
	again = m.hold(listed, now)
	set = make([]discovery.Endpoint, 0, len(listed)+len(m.gone))
	for _, r := range listed {
		if !r.left {
			set = append(set, r.endpoint)
		}
	}
	for addr := range m.gone {
		set = append(set, m.last[addr])
	}
	m.last = make(map[string]discovery.Endpoint, len(set))
	for _, e := range set {
		m.last[e.Addr] = e
	}
	return set, again, nil
}

// hold notes which endpoints of the last set are in no slice and still kept, and returns when the first of them is not.
// Those that were said to terminate go at once.
func (m *merged) hold(listed map[string]record, now time.Time) (again time.Time) {
	gone := make(map[string]time.Time)
	for addr, e := range m.last {
		if _, ok := listed[addr]; ok || e.Health == discovery.Terminating {
			continue
		}
		until, ok := m.gone[addr]
		if !ok {
			until = now.Add(moveTime)
		}
		if !until.After(now) {
			continue
		}
		gone[addr] = until
		if again.IsZero() || until.Before(again) {
			again = until
		}
	}
	m.gone = gone
	return again
}

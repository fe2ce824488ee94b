package telemetry

import (
	"maps"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// maxSeries bounds the sets of attributes of an instrument. It is the limit that SDKs have by default: with a higher
// one they would begin to merge series, in an order of their own.
const maxSeries = 2000

// labels is one set of attributes, ready for use: to record with it allocates nothing here.
type labels struct {
	record []metric.RecordOption
	add    []metric.AddOption
}

func newLabels(attrs ...attribute.KeyValue) *labels {
	o := metric.WithAttributeSet(attribute.NewSet(attrs...))
	return &labels{record: []metric.RecordOption{o}, add: []metric.AddOption{o}}
}

// labelKey is what tells the sets of attributes of an instrument apart.
type labelKey[K any] interface {
	comparable
	// canonical returns the key with everything that comes from outside reduced to what is known.
	canonical(n *names) K
	// attributes lists the attributes of a canonical key.
	attributes() []attribute.KeyValue
}

// series holds the sets of attributes of one instrument. Readers take no lock.
type series[K labelKey[K]] struct {
	names *names
	known atomic.Pointer[map[K]*labels] // by canonical key

	mu   sync.Mutex // guards writes of known
	full *labels
}

func newSeries[K labelKey[K]](n *names) *series[K] {
	s := &series[K]{names: n, full: newLabels(attribute.Bool("otel.metric.overflow", true))}
	s.known.Store(&map[K]*labels{})
	return s
}

// get returns the labels for a key. Keys of calls to named services are canonical as they are, so that the first
// look finds them.
func (s *series[K]) get(k K) *labels {
	if l := (*s.known.Load())[k]; l != nil {
		return l
	}
	k = k.canonical(s.names)
	switch known := *s.known.Load(); {
	case known[k] != nil:
		return known[k]
	case len(known) >= maxSeries-1:
		return s.full
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.known.Load()
	if l := old[k]; l != nil {
		return l
	}
	if len(old) >= maxSeries-1 { // one is left, for all the rest
		return s.full
	}
	next := maps.Clone(old)
	next[k] = newLabels(k.attributes()...)
	s.known.Store(&next)
	return next[k]
}

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
	record  []metric.RecordOption
	observe []metric.ObserveOption
	count   atomic.Int64 // what a counter has come to
}

func newLabels(attrs ...attribute.KeyValue) *labels {
	o := metric.WithAttributeSet(attribute.NewSet(attrs...))
	return &labels{record: []metric.RecordOption{o}, observe: []metric.ObserveOption{o}}
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

// counter is a counter that is observed when somebody collects, rather than told of each event: that costs a call one atomic
// addition, and a provider that is set later learns of what was before.
type counter[K labelKey[K]] struct {
	*series[K]
	instrument metric.Int64ObservableCounter
}

// add counts n events.
func (c *counter[K]) add(k K, n int) { c.get(k).count.Add(int64(n)) }

func (c *counter[K]) collect(o metric.Observer) {
	for _, l := range *c.known.Load() {
		o.ObserveInt64(c.instrument, l.count.Load(), l.observe...)
	}
	if n := c.full.count.Load(); n > 0 {
		o.ObserveInt64(c.instrument, n, c.full.observe...)
	}
}

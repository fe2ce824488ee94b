package telemetry

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// other stands for all names that are not told apart, as the semantic conventions have it.
const other = "_OTHER"

const (
	maxHosts   = 500  // services and hosts: far more than one program calls
	maxMethods = 1000 // of gRPC: those of the generated code of a large program
	// maxRoutes is a quarter of the series of an instrument. Names of routes come from specs, and some have the date or a version in them:
	// with no limit, those of last month would leave no series for a service that is new.
	maxRoutes = 500
	maxName   = 256 // bytes
)

// names are the names that become attributes of metrics and names of spans.
type names struct {
	hosts   nameSet // services too
	methods nameSet // of gRPC
	routes  nameSet
}

func newNames() *names {
	return &names{hosts: nameSet{limit: maxHosts}, methods: nameSet{limit: maxMethods}, routes: nameSet{limit: maxRoutes}}
}

// nameSet tells the first so many names apart. Readers take no lock.
type nameSet struct {
	limit int
	known atomic.Pointer[map[string]string]
	mu    sync.Mutex // guards writes of known
}

// bound returns the name, or "_OTHER" if there are too many or it is not fit for an attribute.
func (n *nameSet) bound(name string) string {
	if name == "" {
		return ""
	}
	if s, known := n.find(name); known {
		return s
	}
	if len(name) > maxName || !utf8.ValidString(name) {
		return other
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if s, known := n.find(name); known {
		return s
	}
	next := map[string]string{}
	if old := n.known.Load(); old != nil {
		next = maps.Clone(*old)
	}
	name = strings.Clone(name) // it may be a part of something large
	next[name] = name
	n.known.Store(&next)
	return name
}

// find returns what stands for a name, and false if that is not decided yet.
func (n *nameSet) find(name string) (string, bool) {
	m := n.known.Load()
	if m == nil {
		return "", false
	}
	if s, ok := (*m)[name]; ok {
		return s, true
	}
	return other, len(*m) >= n.limit
}

// clean makes text from outside fit for an attribute of a span: exporters drop whole batches for invalid UTF-8.
func clean(text string) string { return cut(text, maxName) }

// cut makes text from outside valid and at most so many bytes long.
func cut(text string, most int) string {
	if len(text) > most {
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

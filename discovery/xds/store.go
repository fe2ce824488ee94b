package xds

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

const (
	// remembered is how long the resources of a service are kept that nobody watches: longer than discovery.Run waits between
	// two watches.
	remembered = 2 * time.Minute
	// maxNesting is how deep aggregates may lie in each other, as in gRPC (A37).
	maxNesting = 16
)

// store holds what the control plane has said. It outlives streams, because what they say must be compared with what
// was before. It has no lock.
type store struct {
	grace       time.Duration
	clusters    map[string]*resource[cluster]
	assignments map[string]*resource[assignment]
	roots       map[string]*root // by name of the cluster
}

// root is a cluster that stands for a service.
type root struct {
	watchers map[*watcher]bool
	idle     time.Time // since when nobody watches

	// view is what watchers get to see, nil if that is not known yet. deps are the resources it was made of,
	// and names their names by type.
	view  *view
	deps  []dep
	names map[string][]string
}

// view is an answer to a watch: endpoints or an error.
type view struct {
	set []discovery.Endpoint // shared and not changed
	err error
}

// dep is a revision of a resource.
type dep struct {
	of  *record
	rev uint64
}

func newStore(grace time.Duration) *store {
	return &store{
		grace:       grace,
		clusters:    make(map[string]*resource[cluster]),
		assignments: make(map[string]*resource[assignment]),
		roots:       make(map[string]*root),
	}
}

// root returns that of the named cluster, and makes it if needed.
func (st *store) root(name string) *root {
	if st.roots[name] == nil {
		st.roots[name] = &root{watchers: make(map[*watcher]bool)}
	}
	return st.roots[name]
}

// restart forgets what belongs to the last stream.
func (st *store) restart() {
	for _, r := range st.clusters {
		r.asked, r.heard, r.rev = time.Time{}, false, r.rev+1
	}
	for _, r := range st.assignments {
		r.asked, r.heard, r.rev = time.Time{}, false, r.rev+1
	}
}

// expire lets time pass. It returns when to call it again (zero: not for the sake of time) and what was lost.
func (st *store) expire(now time.Time) (next time.Time, lost []error) {
	sooner := func(due time.Time) {
		if !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	for name, r := range st.clusters {
		due, news := r.expire(now, st.grace)
		if sooner(due); news && r.good {
			lost = append(lost, st.deletion("cluster", name))
		}
	}
	for name, r := range st.assignments {
		due, news := r.expire(now, st.grace)
		if sooner(due); news && r.good {
			lost = append(lost, st.deletion("endpoints resource", name))
		}
	}
	for name, r := range st.roots {
		if len(r.watchers) > 0 {
			continue
		}
		if due := r.idle.Add(remembered); now.Before(due) {
			sooner(due)
		} else {
			delete(st.roots, name)
		}
	}
	return next, lost
}

// deletion says that a resource is gone and in use all the same.
func (st *store) deletion(kind, name string) error {
	kept := "for ever"
	if st.grace >= 0 {
		kept = fmt.Sprintf("for %v", st.grace)
	}
	return fmt.Errorf("xds: the control plane no longer has the %s %s: its last version is kept %s", kind, cut(name), kept)
}

// refresh brings the views up to date, tells the watchers of those that changed, and forgets resources that nobody needs.
func (st *store) refresh() {
	used := map[string]map[string]bool{clusterType: {}, assignmentType: {}}
	for name, r := range st.roots {
		if len(r.deps) == 0 || slices.ContainsFunc(r.deps, func(d dep) bool { return d.of.rev != d.rev }) {
			w := walk{store: st, seen: make(map[string]bool), names: make(map[string][]string)}
			w.cluster(name, 0)
			r.view, r.deps, r.names = w.view(name), w.deps, w.names
			for watcher := range r.watchers {
				watcher.wake()
			}
		}
		for kind, names := range r.names {
			for _, name := range names {
				used[kind][name] = true
			}
		}
	}
	maps.DeleteFunc(st.clusters, func(name string, _ *resource[cluster]) bool { return !used[clusterType][name] })
	maps.DeleteFunc(st.assignments, func(name string, _ *resource[assignment]) bool { return !used[assignmentType][name] })
}

// serving reports whether there are endpoints of all services that are watched.
func (st *store) serving() bool {
	for name := range st.roots {
		if !st.has(name) {
			return false
		}
	}
	return true
}

// has reports whether the cluster of a service is known.
func (st *store) has(name string) bool {
	c := st.clusters[name]
	return c != nil && c.good
}

// walk collects what a cluster consists of.
type walk struct {
	store *store
	seen  map[string]bool // clusters: an aggregate may name one twice, or itself
	deps  []dep
	names map[string][]string

	pending bool
	err     error
	leaves  []assignment
	reason  string // why there is no leaf
}

func (w *walk) cluster(name string, depth int) {
	if w.seen[name] {
		return
	}
	w.seen[name] = true
	if depth > maxNesting {
		w.fail(fmt.Errorf("aggregates lie in each other more than %d deep", maxNesting))
		return
	}
	r := lookUp(w, w.store.clusters, clusterType, name)
	if !r.good {
		if r.state() == absent && depth == 0 {
			w.reason = "the control plane has no cluster " + cut(name)
		}
		return
	}
	for _, part := range r.value.parts {
		w.cluster(part, depth+1)
	}
	if r.value.inline != nil {
		w.leaves = append(w.leaves, *r.value.inline)
	}
	if of := r.value.resource; of != "" {
		switch a := lookUp(w, w.store.assignments, assignmentType, of); a.state() {
		case usable:
			w.leaves = append(w.leaves, a.value)
		case absent:
			w.reason = "the control plane has no endpoints resource " + cut(of)
		}
	}
}

// lookUp returns a resource and notes that it is needed.
func lookUp[T any](w *walk, all map[string]*resource[T], kind, name string) *resource[T] {
	r := all[name]
	if r == nil {
		r = new(resource[T])
		all[name] = r
	}
	if !slices.Contains(w.names[kind], name) {
		w.names[kind] = append(w.names[kind], name)
	}
	w.deps = append(w.deps, dep{&r.record, r.rev})
	switch r.state() {
	case waiting:
		w.pending = true
	case failed:
		w.fail(fmt.Errorf("%s: %w", cut(name), r.bad))
	}
	return r
}

func (w *walk) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// view returns what the walk has found, with the failover levels of the parts one after the other.
func (w *walk) view(name string) *view {
	switch {
	case w.pending:
		return nil
	case len(w.leaves) == 1:
		return &view{set: w.leaves[0].set}
	case len(w.leaves) > 1:
		v, base := new(view), 0
		for _, leaf := range w.leaves {
			for _, e := range leaf.set {
				e.Priority = uint8(min(base+int(e.Priority), 255))
				v.set = append(v.set, e)
			}
			base += leaf.levels
		}
		return v
	case w.err != nil:
		return &view{err: fmt.Errorf("xds: cluster %s: %w", cut(name), w.err)}
	case w.reason == "":
		w.reason = "no part of the cluster " + cut(name) + " exists"
	}
	return &view{err: fmt.Errorf("%w: %s", discovery.ErrUnknownService, w.reason)}
}

// wanted returns the names of the resources of a type that are needed, sorted.
func (st *store) wanted(kind string) []string {
	if kind == clusterType {
		return slices.Sorted(maps.Keys(st.clusters))
	}
	return slices.Sorted(maps.Keys(st.assignments))
}

// asked notes that the stream has asked for resources.
func (st *store) asked(kind string, names []string, now time.Time) {
	for _, name := range names {
		var s *record
		if kind == clusterType {
			if r := st.clusters[name]; r != nil {
				s = &r.record
			}
		} else if r := st.assignments[name]; r != nil {
			s = &r.record
		}
		if s != nil && s.asked.IsZero() {
			s.asked = now
		}
	}
}

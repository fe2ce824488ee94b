package config

import (
	"bytes"
	"context"
	"time"

	"github.com/zerohop/zerohop"
)

// EventKind says what an Event tells.
type EventKind uint8

const (
	// EventApplied says that the mesh has a new generation, and Event.Change what is different in it.
	EventApplied EventKind = iota + 1
	// EventUnchanged says that a document came that says what the mesh has already.
	EventUnchanged
	// EventRefused says that a document was refused for the reason in Event.Err, a join of *Error. The mesh stays as it is.
	EventRefused
	// EventMissing says that there is no document any more, or none yet. The mesh stays as it is.
	EventMissing
	// EventWatchFailed says that the watch ended with Event.Err and that the next one starts in Event.Wait.
	EventWatchFailed
	// EventJudged says that calls are judged by a document from now on; see Judge.
	EventJudged
)

// String returns the name of the kind in lower case.
func (k EventKind) String() string {
	switch k {
	case EventApplied:
		return "applied"
	case EventUnchanged:
		return "unchanged"
	case EventRefused:
		return "refused"
	case EventMissing:
		return "missing"
	case EventWatchFailed:
		return "watch failed"
	case EventJudged:
		return "judged"
	}
	return "unknown"
}

// Event tells what Run did.
type Event struct {
	Kind EventKind
	// Generation is that of the mesh after the event. Load tells none.
	Generation uint64
	// Change belongs to EventApplied.
	Change zerohop.Change
	// Shadow belongs to EventJudged.
	Shadow *zerohop.Shadow
	// Err is why, where Kind says so.
	Err error
	// Wait is the time until the next watch, where Kind says so.
	Wait time.Duration
}

// Run keeps a mesh at what the document of a source says until ctx ends, and returns the error of ctx. End it before the mesh is
// closed.
//
// A document that is refused, as a whole and for any mistake in it, is empty, or is taken away leaves the mesh as it is: the last
// good Spec stays. A change is applied at once, those that follow within 100 ms as one.
//
// The watch is begun again whenever it ends, a panic of the source included, after a random wait within a window that grows from
// 0.2 s to 15 s; what a *discovery.RefusedError asks for is added, up to a minute.
func Run(ctx context.Context, mesh *zerohop.Mesh, src Source, opts RunOptions) error {
	if opts.Observe == nil {
		opts.Observe = func(Event) {}
	}
	r := runner{mesh: mesh, opts: opts}
	s := supervisor{source: src, rand: opts.Rand, accept: r.accept, failed: func(err error, wait time.Duration) {
		r.tell(Event{Kind: EventWatchFailed, Err: err, Wait: wait})
	}}
	return s.run(ctx)
}

// runner applies documents to a mesh.
type runner struct {
	mesh *zerohop.Mesh
	opts RunOptions
	// last is the document that made, or fits, the generation of the mesh; nil if that is not known. Sources may send it again.
	last       []byte
	generation uint64
}

func (r *runner) tell(e Event) {
	_, e.Generation = r.mesh.Spec()
	r.opts.Observe(e)
}

func (r *runner) accept(document []byte) {
	if document == nil {
		r.tell(Event{Kind: EventMissing})
		return
	}
	if _, now := r.mesh.Spec(); r.last != nil && now == r.generation && bytes.Equal(r.last, document) {
		r.tell(Event{Kind: EventUnchanged})
		return
	}
	change, changed, err := r.apply(document)
	switch {
	case err != nil:
		r.tell(Event{Kind: EventRefused, Err: err})
		return
	case changed:
		r.tell(Event{Kind: EventApplied, Change: change})
	default:
		r.tell(Event{Kind: EventUnchanged})
	}
	r.last = document
	_, r.generation = r.mesh.Spec()
}

// apply updates the mesh, and reports whether that made a difference.
func (r *runner) apply(document []byte) (change zerohop.Change, changed bool, err error) {
	d, err := Read(document, r.opts.Parse)
	if err != nil {
		return change, false, err
	}
	if err := d.refuseEmpty(); err != nil {
		return change, false, err
	}
	change, err = r.mesh.Update(d.Spec)
	if err != nil {
		return change, false, d.Explain(err)
	}
	return change, len(change.Fields) > 0, nil
}

package config

import (
	"bytes"
	"context"
	"time"

	"github.com/zerohop/zerohop"
)

// Judge is Run for a document that is to be tried before it is applied: the calls of the mesh are judged by it and go on as they
// do; see zerohop.Mesh.Shadow. Each document takes the place of the one before, with a Shadow of its own, which Event.Shadow has
// for EventJudged. A document that is refused, is empty or is taken away leaves the judging to the last good one.
//
// It blocks until ctx has ended, then stops the judging, and returns the error of ctx.
func Judge(ctx context.Context, mesh *zerohop.Mesh, src Source, opts RunOptions) error {
	if opts.Observe == nil {
		opts.Observe = func(Event) {}
	}
	j := judge{runner: runner{mesh: mesh, opts: opts}}
	s := supervisor{source: src, rand: opts.Rand, accept: j.accept, failed: func(err error, wait time.Duration) {
		j.tell(Event{Kind: EventWatchFailed, Err: err, Wait: wait})
	}}
	err := s.run(ctx)
	if j.shadow != nil {
		j.shadow.Stop()
	}
	return err
}

// judge keeps the Shadow of the last good document.
type judge struct {
	runner
	shadow *zerohop.Shadow // nil if there was none yet
	spec   zerohop.Spec
}

func (j *judge) accept(document []byte) {
	switch {
	case document == nil:
		j.tell(Event{Kind: EventMissing})
	case j.shadow != nil && bytes.Equal(j.last, document):
		j.tell(Event{Kind: EventUnchanged})
	default:
		j.consider(document)
	}
}

func (j *judge) consider(document []byte) {
	d, err := Read(document, j.opts.Parse)
	if err == nil {
		err = d.refuseEmpty()
	}
	if err != nil {
		j.tell(Event{Kind: EventRefused, Err: err})
		return
	}
	if j.shadow != nil && len(zerohop.Diff(j.spec, d.Spec)) == 0 {
		j.last = document
		j.tell(Event{Kind: EventUnchanged})
		return
	}
	shadow, err := j.mesh.Shadow(d.Spec)
	if err != nil {
		j.tell(Event{Kind: EventRefused, Err: d.Explain(err)})
		return
	}
	j.shadow, j.spec, j.last = shadow, d.Spec, document
	j.tell(Event{Kind: EventJudged, Shadow: shadow})
}

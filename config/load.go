package config

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zerohop/zerohop"
)

// ErrNoDocument is what Load fails with if the source says that there is no document.
var ErrNoDocument = errors.New("config: there is no document")

// RunOptions are the options of Run and Load. The zero value is ready to use.
type RunOptions struct {
	// Parse says how documents are read. Run checks the Spec by Mesh.Update, so Check is for Load alone.
	Parse ParseOptions
	// Rand is the source of the jitter between watches. It is called one call at a time. nil means math/rand/v2.
	Rand func() uint64
	// Observe is told what happens. Its calls are sequential and none comes after Run or Load returned; it must not block.
	// nil means nobody.
	Observe func(Event)
}

// Load returns the Spec in the first document of a source, for the start of a process: give the context a deadline. A watch that
// breaks is begun again as Run does, until ctx ends: then the error is that of ctx, and wraps why the last watch ended. A
// document that Parse refuses, or that is empty, is an error at once, and so is that there is none: ErrNoDocument.
func Load(ctx context.Context, src Source, opts RunOptions) (zerohop.Spec, error) {
	if opts.Observe == nil {
		opts.Observe = func(Event) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		spec    zerohop.Spec
		failure error
		done    bool
	)
	s := supervisor{source: src, rand: opts.Rand}
	s.accept = func(document []byte) {
		if document == nil {
			failure = ErrNoDocument
		} else {
			spec, failure = parse(document, opts.Parse, false)
		}
		done = true
		cancel()
	}
	s.failed = func(err error, wait time.Duration) {
		failure = err
		opts.Observe(Event{Kind: EventWatchFailed, Err: err, Wait: wait})
	}
	if err := s.run(ctx); !done {
		if failure != nil {
			err = fmt.Errorf("config: %w (%w)", err, failure)
		}
		return zerohop.Spec{}, err
	}
	return spec, failure
}

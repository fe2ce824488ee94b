package configtest

import (
	"context"
	"slices"
	"time"

	"github.com/zerohop/zerohop/internal/conformance"
)

// queue is how many documents a watch may deliver beyond what a check has read. More is a flood.
const queue = 1024

// absent stands for no document.
const absent = "(none)"

// newsOf says how the documents are read that a watch delivers.
func newsOf(timeout time.Duration) conformance.Config[[]byte] {
	return conformance.Config[[]byte]{
		Noun: "document", Queue: queue, Timeout: timeout,
		Text: func(document []byte) string {
			if document == nil {
				return absent
			}
			return string(document)
		},
		Clear: func(document []byte) { clear(document) },
	}
}

// watch is one running call of Watch.
type watch struct {
	*conformance.Watch[[]byte]
	check *check
}

// start calls Watch in the background. The watch ends with the check, at the latest.
func (c *check) start(ctx context.Context) *watch {
	return &watch{c.watches.Start(ctx, c.src.Source.Watch), c}
}

// until reads documents until one is want. Those before must be among possible.
func (w *watch) until(want string, possible ...string) {
	w.check.t.Helper()
	for {
		got := w.Next()
		if got == want {
			return
		}
		if !slices.Contains(possible, got) {
			w.check.t.Fatalf("document %s was never there at that time, want %s", short(got), short(want))
		}
	}
}

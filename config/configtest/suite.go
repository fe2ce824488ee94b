package configtest

import (
	"testing"
	"time"

	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/internal/conformance"
)

// Source is a source under test, and what it reads under the control of the suite.
type Source struct {
	// Source is what is tested. Required.
	Source config.Source
	// Set makes the document another one, or takes it away if it is nil. It returns when that is so, fails the test if it is not
	// possible, and is called from the goroutine of the test. It is also called to clean up, with nil. Required.
	Set func(t testing.TB, document []byte)
	// Break makes the source unreachable, so that running watches fail and new ones cannot begin; Heal makes it reachable
	// again, with or without the document. Both nil means that the source cannot break, and the checks of that are skipped.
	Break, Heal func(t testing.TB)
	// Size is how many bytes the largest document has. 0 means 1 MiB.
	Size int
	// Timeout is how long a change may take to show. 0 means 10 s.
	Timeout time.Duration
}

// prompt is how long Watch may take to return after its context ended.
const prompt = time.Second

// check is one run of one check.
type check struct {
	t       testing.TB
	src     Source
	watches *conformance.Check[[]byte]
}

var checks = []struct {
	name   string
	breaks bool // needs Source.Break
	run    func(*check)
}{
	{"First", false, (*check).first},
	{"None", false, (*check).none},
	{"Changes", false, (*check).changes},
	{"Unchanged", false, (*check).unchanged},
	{"Removal", false, (*check).removal},
	{"Large", false, (*check).large},
	{"Burst", false, (*check).burst},
	{"ContextEnd", false, (*check).contextEnd},
	{"ConcurrentWatches", false, (*check).concurrentWatches},
	{"BrokenSource", true, (*check).brokenSource},
	{"Recovery", true, (*check).recovery},
}

// Test runs the conformance suite as subtests of t. It checks after each subtest that no goroutine is left, except those of
// connections of net/http and gRPC that stay open for the next request: tests that use it must not run in parallel with
// others.
func Test(t *testing.T, src Source) {
	if src.Timeout == 0 {
		src.Timeout = 10 * time.Second
	}
	if src.Size == 0 {
		src.Size = 1 << 20
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			if c.breaks && (src.Break == nil || src.Heal == nil) {
				t.Skip("the source cannot be broken")
			}
			runCheck(t, src, c.run)
		})
	}
}

// runCheck runs one check and looks at what it leaves behind.
func runCheck(t testing.TB, src Source, run func(*check)) {
	conformance.Run(t, newsOf(src.Timeout), func(w *conformance.Check[[]byte]) {
		src.Set(t, nil)
		t.Cleanup(func() { src.Set(t, nil) })
		run(&check{t: t, src: src, watches: w})
	})
}

package discoverytest

import (
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/conformance"
)

// Source is a resolver under test and the source it reads, under the control of the suite.
type Source struct {
	// Resolver is what is tested. Required.
	Resolver discovery.Resolver
	// Set makes the source list exactly the endpoints for service, in any number of steps that never
	// take out an endpoint that stays. It returns when the source has them, fails the test if that is not
	// possible, and is called from the goroutine of the test. It is also called to clean up, with no
	// endpoints. Required.
	Set func(t testing.TB, service string, set []discovery.Endpoint)
	// Break makes the source unreachable, so that running watches fail and new ones cannot begin; Heal makes it
	// reachable again, possibly without what it knew. Both nil means that the source cannot break, and
	// the checks of that are skipped.
	Break, Heal func(t testing.TB)
	// Timeout is how long a change may take to show. 0 means 10 s.
	Timeout time.Duration
}

// prompt is how long Watch may take to return after its context ended.
const prompt = time.Second

// check is one run of one check.
type check struct {
	t       testing.TB
	src     Source
	listed  map[string]bool // services to remove at the end
	watches *conformance.Check[[]discovery.Endpoint]
}

var checks = []struct {
	name   string
	breaks bool // needs Source.Break
	run    func(*check)
}{
	{"FirstSet", false, (*check).firstSet},
	{"Changes", false, (*check).changes},
	{"RemovalToZero", false, (*check).removalToZero},
	{"UnknownService", false, (*check).unknownService},
	{"ContextEnd", false, (*check).contextEnd},
	{"ConcurrentWatches", false, (*check).concurrentWatches},
	{"BrokenSource", true, (*check).brokenSource},
	{"Recovery", true, (*check).recovery},
}

// Test runs the conformance suite as subtests of t. The endpoints it sets have addresses of the documentation range
// 192.0.2.0/24 that nobody calls; the services have names that begin with "conformance-". It checks after
// each subtest that no goroutine is left, except those of connections of net/http and gRPC that stay open for the next
// request: tests that use it must not run in parallel with others.
func Test(t *testing.T, src Source) {
	if src.Timeout == 0 {
		src.Timeout = 10 * time.Second
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
	conformance.Run(t, newsOf(src.Timeout), func(w *conformance.Check[[]discovery.Endpoint]) {
		run(&check{t: t, src: src, listed: map[string]bool{}, watches: w})
	})
}

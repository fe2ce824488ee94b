package discoverytest

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zerohop/zerohop/discovery"
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
	watches []*watch
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
	c := &check{t: t, src: src, listed: map[string]bool{}}
	before := goleak.IgnoreCurrent()
	defer func() {
		c.t.Helper()
		for _, w := range c.watches {
			w.cancel()
		}
		for _, w := range c.watches {
			w.end(c.src.Timeout)
		}
		// Looks again for a while if there are goroutines, so late updates show up below.
		options := []goleak.Option{before}
		for _, function := range pooled {
			options = append(options, goleak.IgnoreAnyFunction(function))
		}
		if err := goleak.Find(options...); err != nil {
			c.t.Errorf("after all watches ended: %v", err)
		}
		for _, w := range c.watches {
			if fault := w.fault.Load(); fault != nil {
				c.t.Error(*fault)
			}
		}
	}()
	run(c)
}

// pooled are the functions of goroutines of connections, which outlive requests on purpose and belong to the client and
// the server.
var pooled = []string{
	"net/http.(*persistConn).readLoop", "net/http.(*persistConn).writeLoop",
	"net/http.(*conn).serve", "net/http.(*connReader).backgroundRead",
	"golang.org/x/net/http2.(*ClientConn).readLoop",
	"google.golang.org/grpc.(*addrConn).connect", "google.golang.org/grpc/internal/transport.(*loopyWriter).run",
	"google.golang.org/grpc/internal/transport.(*http2Client).reader",
	"google.golang.org/grpc/internal/transport.(*http2Client).keepalive",
}

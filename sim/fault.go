package sim

import (
	"fmt"
	"strings"
	"time"
)

// Fault is something that goes wrong. Those that concern the same endpoint at the same time add up.
type Fault struct {
	// At is when it begins, and For how long it lasts. 0 means to the end.
	At, For time.Duration
	// Service is the service that it happens to. Required.
	Service string
	// Endpoints are those that it happens to, by their number from 0. nil means all. What happens to clients or to the
	// registry does not look at it.
	Endpoints []int

	// Capacity is what is left of the workers, between 0 and 1. 0 means all of them; see Hang.
	Capacity float64
	// Slow is how many times longer requests take that begin meanwhile. 0 means 1.
	Slow float64
	// Fail is the share of requests that are answered with 503 at once.
	Fail float64
	// Shed is the share of requests that are answered with 429 at once.
	Shed float64
	// After is the Retry-After of what Fail and Shed answer, in full seconds in practice. 0 means none.
	After time.Duration
	// Latency is added to every message.
	Latency time.Duration
	// Hang stops an endpoint as SIGSTOP would: it takes requests and answers them when it goes on, and its own calls stand
	// still; see Pause.
	Hang bool
	// Kill ends an endpoint: what it works on is reset, and connections are refused.
	Kill bool
	// Partition lets no message pass. They arrive when it is over.
	Partition bool
	// Leave takes an endpoint off the list that resolvers get. It still answers those who do not know yet.
	Leave bool

	// Load multiplies the rate of the Clients of the service. 0 means 1.
	Load float64
	// Pause stops the Clients of the service as SIGSTOP would. They begin no calls. When they go on they first see all
	// that has arrived meanwhile, and then that timers have fired.
	Pause bool
	// Late is by how much timers of the Clients of the service fire too late at most: a random part of it.
	Late time.Duration

	// Registry is what is wrong with the source of the endpoints of the service. Empty means nothing.
	Registry Registry
}

// Registry is a way in which the source of endpoints fails its clients. Of several at the same time, that counts which
// stands first here.
type Registry string

const (
	// RegistryBroken ends all watches, and every new one at once.
	RegistryBroken Registry = "broken"
	// RegistryUnknown says that there is no such service.
	RegistryUnknown Registry = "unknown"
	// RegistryEmpty says that the service has no endpoints.
	RegistryEmpty Registry = "empty"
	// RegistryPartial lists a fourth of the endpoints, at least one.
	RegistryPartial Registry = "partial"
	// RegistryLost tells of no change before it is over.
	RegistryLost Registry = "lost"
	// RegistryStale answers what was right when the simulation began.
	RegistryStale Registry = "stale"
	// RegistryGarbage mixes addresses that are none and endpoints named twice with what is right, and leaves nothing else of it
	// in some answers.
	RegistryGarbage Registry = "garbage"
	// RegistryRestarted ends all watches once, and has new ones told the endpoints in another order.
	RegistryRestarted Registry = "restarted"
	// RegistryLate tells of changes up to a second too late, each client at another time.
	RegistryLate Registry = "late"
)

// registries are in the order of their precedence.
var registries = []Registry{
	RegistryBroken, RegistryUnknown, RegistryEmpty, RegistryPartial, RegistryLost, RegistryStale, RegistryGarbage, RegistryRestarted, RegistryLate,
}

// effects reports whether a fault does anything.
func (f *Fault) effects() bool {
	return f.Capacity != 0 || f.Slow != 0 || f.Fail != 0 || f.Shed != 0 || f.Latency != 0 || f.Hang || f.Kill || f.Partition || f.Leave ||
		f.Load != 0 || f.Pause || f.Late != 0 || f.Registry != ""
}

// validate reports every mistake in a fault of a service of so many endpoints.
func (f *Fault) validate(path string, endpoints int, check func(ok bool, format string, args ...any)) {
	check(f.At >= 0 && f.For >= 0, "%s: at and for must not be negative, got %v and %v", path, f.At, f.For)
	check(f.effects(), "%s: does nothing", path)
	check(f.Capacity >= 0 && f.Capacity <= 1, "%s.capacity: must be between 0 and 1, got %v", path, f.Capacity)
	check(f.Slow >= 0 && f.Slow <= 1e6, "%s.slow: must be between 0 and 1e6, got %v", path, f.Slow)
	check(f.Fail >= 0 && f.Fail <= 1, "%s.fail: must be between 0 and 1, got %v", path, f.Fail)
	check(f.Shed >= 0 && f.Shed <= 1, "%s.shed: must be between 0 and 1, got %v", path, f.Shed)
	check(f.After >= 0, "%s.after: must not be negative, got %v", path, f.After)
	check(f.After == 0 || f.Fail > 0 || f.Shed > 0, "%s.after: does nothing without fail or shed", path)
	check(f.Load >= 0 && f.Load <= 1e6, "%s.load: must be between 0 and 1e6, got %v", path, f.Load)
	check(f.Latency >= 0, "%s.latency: must not be negative, got %v", path, f.Latency)
	check(f.Late >= 0, "%s.late: must not be negative, got %v", path, f.Late)
	check(f.Registry == "" || f.Registry.rank() < len(registries), "%s.registry: unknown kind %q", path, f.Registry)
	for _, n := range f.Endpoints {
		check(n >= 0 && n < endpoints, "%s.endpoints: there is no endpoint %d", path, n)
	}
}

// String tells what a fault does.
func (f Fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", f.At)
	if f.For > 0 {
		fmt.Fprintf(&b, " to %v", f.At+f.For)
	}
	fmt.Fprintf(&b, ": %s", f.Service)
	if f.Endpoints != nil {
		fmt.Fprintf(&b, " %v", f.Endpoints)
	}
	for _, n := range []struct {
		name  string
		value float64
	}{{"capacity", f.Capacity}, {"slow", f.Slow}, {"fail", f.Fail}, {"shed", f.Shed}, {"load", f.Load}} {
		if n.value != 0 {
			fmt.Fprintf(&b, " %s %v", n.name, n.value)
		}
	}
	for _, n := range []struct {
		name  string
		value time.Duration
	}{{"after", f.After}, {"latency", f.Latency}, {"late", f.Late}} {
		if n.value != 0 {
			fmt.Fprintf(&b, " %s %v", n.name, n.value)
		}
	}
	for _, n := range []struct {
		name string
		on   bool
	}{{"hang", f.Hang}, {"kill", f.Kill}, {"partition", f.Partition}, {"leave", f.Leave}, {"pause", f.Pause}} {
		if n.on {
			b.WriteString(" " + n.name)
		}
	}
	if f.Registry != "" {
		b.WriteString(" registry " + string(f.Registry))
	}
	return b.String()
}

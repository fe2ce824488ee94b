package consul

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/consulapi"
	"github.com/zerohop/zerohop/internal/pace"
)

const (
	// pollInterval is the pause where blocking on an index makes no sense: the server gives none, or the
	// answer is stale and the next change of the index tells nothing about when it no longer is.
	pollInterval = 5 * time.Second
	// defaultMaxStale is how long ago a server may have heard from its leader for us to believe it that an instance
	// is gone. An election takes up to 10 s with Consul's default timing; who is cut off longer than
	// that answers with the past.
	defaultMaxStale = 10 * time.Second
)

// Resolver watches services in the health catalog of Consul. It is a [discovery.Resolver], safe for concurrent use.
//
// Each watch holds one request open at the agent and makes at most one request a second (three in a row),
// whatever the agent does. Consul does not tell an unknown service from one without instances: both are an
// empty set.
//
// By default the leader answers, in the consistency mode that Consul calls default: what a leader says that lost its
// place a moment ago can be too old by its lease, 2.5 s at most with Consul's own timing. AllowStale and UseCache take
// load off it and cost no correctness: instances that such an answer lacks are kept, and the leader asked (in the
// mode consistent), if the answer
//
//   - has a lower index than one before, also before the watch was started again: it is older (a client that is not
//     made by NewClient knows only of its own watch);
//   - comes from a server without a leader, or out of touch with it for longer than MaxStale;
//   - is empty and comes from any server, a cache or a stream. A cache can be empty for no reason
//     (https://github.com/hashicorp/consul/issues/21548).
//
// Instances that such an answer adds are used at once. While nobody can say more, it stays at that.
type Resolver struct {
	// Client reaches the agent. Required. See [NewClient].
	Client *api.Client
	// TokenFile holds the ACL token, read before each request: a token that is rotated there is used at
	// once. Empty means the token of Client, which api.Client reads only when it is made.
	TokenFile string
	// Datacenter is where to look. Empty means that of Client, else that of the agent.
	Datacenter string
	// Failover names other datacenters, in order: one is watched while those before it, Datacenter the first, have no
	// healthy instance, as Consul's prepared queries do it. Its instances get the priority of its place or more, and
	// Meta["consul-datacenter"]. One that does not answer is passed over and tried again. Watching it only then
	// saves, for each service and process, a request that is always open at its leader, and leaves those instances out that
	// only the mesh finds bad: a [discovery.Failover] of a [Resolver] for each datacenter does the opposite.
	Failover []string
	// OnError is told why a datacenter of Failover could not be asked, each time: one that does not exist is found by its
	// error only. It may be called concurrently and must not block. nil means nobody.
	OnError func(error)
	// Tags must all be on an instance.
	Tags []string
	// Filter is a Consul filter expression on instances, for example `Service.Meta.version == "2"`.
	Filter string
	// IncludeFailing also lists instances that do not pass their checks: warning ones with their warning
	// weight (Draining if that is 0), critical ones as Unhealthy, those in maintenance as Draining.
	// The default lists only those that pass all checks.
	IncludeFailing bool
	// AllowStale lets any server answer instead of only the leader, also while there is no leader.
	AllowStale bool
	// MaxStale is how long ago a server or a cache may have heard of the leader to be believed that an instance is
	// gone. 0 means 10 s.
	MaxStale time.Duration
	// UseCache lets the agent answer from its cache, which it keeps up to date with one query for all processes
	// on the host.
	UseCache bool
}

var _ discovery.Resolver = Resolver{}

// Remote implements [discovery.RemoteSource]: others can write to the catalog.
func (r Resolver) Remote() bool { return true }

// Watch implements [discovery.Resolver]. Its errors name the address of the agent; they are a
// *discovery.RefusedError if the agent answers with a status other than 200 or hides the service from the
// token.
func (r Resolver) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	if r.Client == nil {
		return fmt.Errorf("%w in Resolver", consulapi.ErrNoClient)
	}
	if r.MaxStale < 0 {
		return fmt.Errorf("consul: Resolver.MaxStale: %v is negative", r.MaxStale)
	}
	if r.MaxStale == 0 {
		r.MaxStale = defaultMaxStale
	}
	if err := consulapi.CheckName("service name", service); err != nil {
		return err
	}
	if len(r.Failover) == 0 {
		return r.watch(ctx, service, update)
	}
	if err := checkFailover(r.Datacenter, r.Failover); err != nil {
		return err
	}
	return newChain(r, service, update).watch(ctx)
}

// watch watches one datacenter.
func (r Resolver) watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	w := watch{Resolver: r, service: service, update: update}
	return w.run(ctx)
}

// watch is the state of one Watch.
type watch struct {
	Resolver
	service string
	update  func([]discovery.Endpoint)
	pace    pace.Pacer

	// last is the set that update got last, if published.
	last      []discovery.Endpoint
	published bool
}

func (w *watch) run(ctx context.Context) error {
	var (
		index uint64 // to block on, if not 0
		sure  bool   // the leader is to answer
	)
	for {
		if err := w.pace.Wait(ctx); err != nil {
			return err
		}
		a, err := w.ask(ctx, index, sure)
		switch {
		case err != nil && sure && w.published && leaderless(err):
			a.doubtful, a.set = true, w.last // as it was, until somebody knows more
		case err != nil:
			return err
		default:
			a.doubtful = w.doubts(a, index, sure)
			if a.doubtful && !w.published && (a.known > 0 || len(a.set) == 0) {
				// There is nothing to add to: our caller knows more than this answer.
				if sure {
					return a.explain(errLagging)
				}
				if err := pace.Sleep(ctx, indexesOf(a.x).doubt(a.key, time.Now())); err != nil {
					return err
				}
				index, sure = 0, true
				continue
			}
			if a.doubtful {
				a.set = union(a.set, w.last)
			} else {
				a.remember(sure)
			}
			w.last, w.published = a.set, true
			w.update(slices.Clone(a.set))
		}
		if a.doubtful && !sure {
			index, sure = 0, true
			continue
		}
		index, sure = a.index, false
		if a.doubtful || index == 0 {
			index = 0
			if err := pace.Sleep(ctx, pollInterval+rand.N(pollInterval/5)); err != nil {
				return err
			}
		}
	}
}

// doubts reports whether what a lacks may be there all the same. asked is the index that the request blocked on.
func (w *watch) doubts(a answer, asked uint64, sure bool) bool {
	switch {
	case a.stale(w.MaxStale):
		return true
	case sure:
		return false
	case a.index < asked, asked == 0 && a.index < a.known:
		return true
	}
	secondHand := w.AllowStale || w.UseCache || a.streamed
	return len(a.set) == 0 && secondHand && !(w.published && len(w.last) == 0)
}

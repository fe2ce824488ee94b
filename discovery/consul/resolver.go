package consul

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
)

const (
	// pollInterval is the pause where blocking on an index makes no sense: the server gives none, or the
	// answer is stale and the next change of the index tells nothing about when it no longer is.
	pollInterval = 5 * time.Second
	// maxStale is how long ago a server may have heard from its leader for us to believe it that an instance
	// is gone. An election takes up to 10 s with Consul's default timing; who is cut off longer than
	// that answers with the past.
	maxStale = 10 * time.Second
)

// errFiltered stands for an empty answer that is empty because the token may not see the service.
var errFiltered = errors.New("permission denied: the answer is empty because ACLs hide the service")

// Resolver watches services in the health catalog of Consul. It is a [discovery.Resolver], safe for concurrent use.
//
// Each watch holds one request open at the agent and makes at most one request a second (three in a row),
// whatever the agent does. Consul does not tell an unknown service from one without instances: both are an
// empty set. While the answering server has no leader, or has not heard from it for 10 s, instances are added
// and not removed.
type Resolver struct {
	// Client reaches the agent. Required. See [NewClient].
	Client *api.Client
	// TokenFile holds the ACL token, read before each request: a token that is rotated there is used at
	// once. Empty means the token of Client, which api.Client reads only when it is made.
	TokenFile string
	// Datacenter is where to look. Empty means that of Client, else that of the agent.
	Datacenter string
	// Tags must all be on an instance.
	Tags []string
	// Filter is a Consul filter expression on instances, for example `Service.Meta.version == "2"`.
	Filter string
	// IncludeFailing also lists instances that do not pass their checks: warning ones with their warning
	// weight (Draining if that is 0), critical ones as Unhealthy, those in maintenance as Draining.
	// The default lists only those that pass all checks.
	IncludeFailing bool
	// AllowStale lets any server answer instead of only the leader. It takes load off the leader.
	AllowStale bool
}

var _ discovery.Resolver = Resolver{}

// Watch implements [discovery.Resolver]. Its errors name the address of the agent; they are a
// *discovery.RefusedError if the agent answers with a status other than 200 or hides the service from the
// token.
func (r Resolver) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	if r.Client == nil {
		return fmt.Errorf("%w in Resolver", errNoClient)
	}
	if err := checkName("service name", service); err != nil {
		return err
	}
	var (
		pace  pacer
		index uint64
		last  []discovery.Endpoint
	)
	for {
		if err := sleep(ctx, pace.take(time.Now())); err != nil {
			return err
		}
		set, meta, err := r.ask(ctx, service, index, &pace)
		if err != nil {
			return err
		}
		held := stale(meta)
		if held {
			set = union(set, last)
		}
		last = set
		update(slices.Clone(set))
		if index = nextIndex(index, meta.LastIndex); held || meta.LastIndex == 0 {
			index = 0
			if err := sleep(ctx, pollInterval+rand.N(pollInterval/5)); err != nil {
				return err
			}
		}
	}
}

// ask makes one query, which blocks if index is not 0. What it needs beyond that it takes from pace.
func (r Resolver) ask(ctx context.Context, service string, index uint64, pace *pacer) (
	set []discovery.Endpoint, meta *api.QueryMeta, err error,
) {
	limit := answerTime
	if index > 0 {
		limit += waitTime + waitTime/16
	}
	what := fmt.Sprintf("health of %q", service)
	var entries []*api.ServiceEntry
	x, err := r.agent().call(ctx, what, limit, func(q *api.QueryOptions) error {
		q.Datacenter, q.Filter, q.AllowStale = r.Datacenter, r.Filter, r.AllowStale
		q.WaitIndex, q.WaitTime = index, waitTime
		entries, meta, err = r.Client.Health().ServiceMultipleTags(service, r.Tags, !r.IncludeFailing, q)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if len(entries) == 0 {
		hidden, err := r.hidden(ctx, x, meta, pace)
		if err != nil {
			return nil, nil, err
		}
		if hidden {
			return nil, nil, x.explain(what, errFiltered)
		}
	}
	return endpoints(entries), meta, nil
}

// hidden reports whether an empty answer is empty because of ACLs. Consul says so to the holder of a token. To
// everybody else it does not; then the Consul servers, which are registered everywhere, are the probe: who
// may not see them may see nothing.
func (r Resolver) hidden(ctx context.Context, x *exchange, meta *api.QueryMeta, pace *pacer) (bool, error) {
	if meta.ResultsFilteredByACLs {
		return true, nil
	}
	if meta.DefaultACLPolicy != "deny" || !x.anonymous() {
		return false, nil
	}
	if err := sleep(ctx, pace.take(time.Now())); err != nil {
		return false, err
	}
	var servers []*api.ServiceEntry
	_, err := r.agent().call(ctx, `health of "consul"`, answerTime, func(q *api.QueryOptions) (err error) {
		q.Datacenter, q.AllowStale = r.Datacenter, r.AllowStale
		servers, _, err = r.Client.Health().Service("consul", "", false, q)
		return err
	})
	return len(servers) == 0, err
}

func (r Resolver) agent() agent { return agent{client: r.Client, tokenFile: r.TokenFile} }

// nextIndex returns the index to block on, given that of the request and that of its answer. 0 means not to block:
// the answer has none that can be used, or it went backwards because the server was restored or
// restarted, and waiting for the old index would miss all changes until the new one has caught up.
func nextIndex(asked, got uint64) uint64 {
	if got < asked {
		return 0
	}
	return got
}

// stale reports whether the answer must not be taken as proof that an instance is gone. Agents that answer
// from a stream do not fill in the leader; without a usable index api.Client reads no further headers.
func stale(meta *api.QueryMeta) bool {
	if meta.LastIndex == 0 {
		return false
	}
	return meta.LastContact > maxStale || !meta.KnownLeader && meta.QueryBackend != api.QueryBackendStreaming
}

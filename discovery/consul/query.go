package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/consulapi"
	"github.com/zerohop/zerohop/internal/httpstatus"
	"github.com/zerohop/zerohop/internal/pace"
)

// errLagging stands for an answer that is older than what is known, and that nobody can say more about.
var errLagging = errors.New("the server has lost its leader and knows less than it did")

// answer is what an agent said of a service.
type answer struct {
	set      []discovery.Endpoint
	index    uint64 // 0 if there is none
	known    uint64 // the highest index of earlier answers
	streamed bool   // from a stream of events
	doubtful bool

	meta *api.QueryMeta
	x    *consulapi.Exchange
	what string
	key  indexKey
}

// ask makes one query, which blocks if index is not 0. What it needs beyond that it takes from w.pace. If sure is set,
// the leader answers, and has made sure that it still is the leader.
func (w *watch) ask(ctx context.Context, index uint64, sure bool) (a answer, err error) {
	limit := consulapi.AnswerTime
	if index > 0 {
		limit += consulapi.WaitTime + consulapi.WaitTime/16
	}
	a.what, a.key = fmt.Sprintf("health of %q", w.service), indexKey{w.Datacenter, w.service}
	if w.Datacenter != "" {
		a.what += fmt.Sprintf(" in datacenter %q", w.Datacenter)
	}
	var entries []*api.ServiceEntry
	a.x, err = w.agent().Call(ctx, a.what, limit, func(q *api.QueryOptions) error {
		q.Datacenter, q.Filter = w.Datacenter, w.Filter
		q.AllowStale, q.UseCache, q.RequireConsistent = w.AllowStale && !sure, w.UseCache && !sure, sure
		q.WaitIndex, q.WaitTime = index, consulapi.WaitTime
		entries, a.meta, err = w.Client.Health().ServiceMultipleTags(w.service, w.Tags, !w.IncludeFailing, q)
		return err
	})
	if a.x != nil {
		indexesOf(a.x).asked(a.key, time.Now())
	}
	if err != nil {
		return a, err
	}
	if len(entries) == 0 {
		hidden, err := w.hidden(ctx, a.x, a.meta)
		if err != nil {
			return a, err
		}
		if hidden {
			return a, a.explain(consulapi.ErrHidden)
		}
	}
	a.set, a.index = endpoints(entries), a.meta.LastIndex
	a.known, a.streamed = indexesOf(a.x).get(a.key), a.meta.QueryBackend == api.QueryBackendStreaming
	return a, nil
}

// hidden reports whether an empty answer is empty because of ACLs. Consul says so to the holder of a token. To
// everybody else it does not; then the Consul servers, which are registered everywhere, are the probe: who
// may not see them may see nothing.
func (w *watch) hidden(ctx context.Context, x *consulapi.Exchange, meta *api.QueryMeta) (bool, error) {
	if meta.ResultsFilteredByACLs {
		return true, nil
	}
	if meta.DefaultACLPolicy != "deny" || !x.Anonymous() {
		return false, nil
	}
	if err := w.pace.Wait(ctx); err != nil {
		return false, err
	}
	var servers []*api.ServiceEntry
	_, err := w.agent().Call(ctx, `health of "consul"`, consulapi.AnswerTime, func(q *api.QueryOptions) (err error) {
		q.Datacenter, q.AllowStale = w.Datacenter, w.AllowStale
		servers, _, err = w.Client.Health().Service("consul", "", false, q)
		return err
	})
	return len(servers) == 0, err
}

func (r Resolver) agent() consulapi.Agent {
	return consulapi.Agent{Client: r.Client, TokenFile: r.TokenFile}
}

// stale reports whether the source was out of touch with the leader for too long. Agents that answer from a stream do not
// fill in the leader; without a usable index api.Client reads no further headers.
func (a answer) stale(most time.Duration) bool {
	if a.meta.LastIndex == 0 {
		return false
	}
	return max(a.meta.LastContact, a.meta.CacheAge) > most || !a.meta.KnownLeader && !a.streamed
}

// remember notes the index, for watches that begin later. That of the leader counts even if it is lower: the catalog was
// restored.
func (a answer) remember(sure bool) { indexesOf(a.x).set(a.key, a.index, sure || a.index == 0) }

func (a answer) explain(err error) error { return a.x.Explain(a.what, err) }

// leaderless reports whether err is the answer of a server that has no leader to ask.
func leaderless(err error) bool { return httpstatus.Of(err) >= http.StatusInternalServerError }

type indexKey struct{ datacenter, service string }

// indexes holds the index of the last answer for each service, so that a watch knows an answer that is older than one
// that an earlier watch got. nil forgets all.
type indexes struct {
	mu    sync.Mutex // guards what follows
	known map[indexKey]uint64
	paces map[indexKey]*pace.Pacer
}

// indexesOf returns those of the client; nil if it keeps none.
func indexesOf(x *consulapi.Exchange) *indexes {
	i, _ := x.Owner().(*indexes)
	return i
}

func newIndexes() *indexes {
	return &indexes{known: make(map[indexKey]uint64), paces: make(map[indexKey]*pace.Pacer)}
}

// asked notes a request.
func (i *indexes) asked(key indexKey, now time.Time) {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pacer(key).Take(now)
}

// doubt returns how long to wait before the leader is asked about the first answer of a watch, at most pace.Interval. Watches
// that end because nobody knows more cost two requests each, which would be more than one a second.
func (i *indexes) doubt(key indexKey, now time.Time) time.Duration {
	if i == nil {
		return 0
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	next := *i.pacer(key)
	return min(next.Take(now), pace.Interval)
}

// pacer returns that of all watches of a service. i.mu must be held.
func (i *indexes) pacer(key indexKey) *pace.Pacer {
	p := i.paces[key]
	if p == nil {
		p = new(pace.Pacer)
		i.paces[key] = p
	}
	return p
}

func (i *indexes) get(key indexKey) uint64 {
	if i == nil {
		return 0
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.known[key]
}

// set notes index. A lower one than before counts only with force.
func (i *indexes) set(key indexKey, index uint64, force bool) {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if index > i.known[key] || force {
		i.known[key] = index
	}
}

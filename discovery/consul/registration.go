package consul

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/consulapi"
	"github.com/zerohop/zerohop/internal/pace"
)

const (
	// firstPause and longPause bound the random pause after a failure. With longPause an instance is back well
	// within 2 s after the agent is; the agent is on this host and a request that it does not answer is cheap.
	firstPause = 200 * time.Millisecond
	longPause  = time.Second
	// refusedPause is the bound while the agent denies or limits us: asking again at once cannot help.
	refusedPause = 30 * time.Second
)

// registration is one instance that is kept registered.
type registration struct {
	agent   consulapi.Agent
	service *api.AgentServiceRegistration // owned by keep after the first registration
	lease   time.Duration                 // 0 if Consul calls the instance
	onError func(error)

	stop context.CancelFunc
	done chan struct{} // closed when keep has ended
	turn chan struct{} // holds one value while a Close is at work; guards gone
	gone bool          // deregistered
}

// Close implements [discovery.Registration]. After an error the instance may still be registered, and another
// Close tries again.
func (g *registration) Close(ctx context.Context) error {
	g.stop()
	select {
	case <-g.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if g.gone {
		return nil
	}
	_, err := g.agent.Call(ctx, g.what("deregister"), consulapi.AnswerTime, func(q *api.QueryOptions) error {
		return g.agent.Client.Agent().ServiceDeregisterOpts(g.service.ID, q)
	})
	if err != nil && !consulapi.NotFound(err) {
		return err
	}
	g.gone = true
	return nil
}

// keep renews and registers until ctx ends.
func (g *registration) keep(ctx context.Context) {
	defer close(g.done)
	var pacer pace.Pacer
	hash, failures := "", 0
	for pacer.Wait(ctx) == nil {
		var err error
		if hash, err = g.round(ctx, hash); err == nil {
			failures = 0
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if g.onError != nil {
			g.onError(err)
		}
		_ = pace.Sleep(ctx, pause(err, failures)) // an end of ctx is seen by the loop
		failures++
	}
}

// round renews the lease and waits at the agent until it is time for the next round, until the service changes or
// until the connection to the agent breaks. hash names the state of the service that the last round saw; it
// returns that of this one. "" makes the next round return without waiting.
func (g *registration) round(ctx context.Context, hash string) (string, error) {
	wait, limit := consulapi.WaitTime, consulapi.AnswerTime
	if g.lease > 0 {
		wait = g.lease/3 - rand.N(g.lease/24)
		limit = min(limit, max(g.lease/3, time.Second)) // a dead connection must not cost the lease
		_, err := g.agent.Call(ctx, g.what("renew"), limit, func(q *api.QueryOptions) error {
			return g.agent.Client.Agent().UpdateTTLOpts(g.service.Check.CheckID, "", api.HealthPassing, q)
		})
		if consulapi.NotFound(err) {
			return "", g.register(ctx)
		}
		if err != nil {
			return "", err
		}
	}
	if hash != "" {
		limit += wait + wait/16
	}
	_, err := g.agent.Call(ctx, g.what("watch registration of"), limit, func(q *api.QueryOptions) error {
		q.WaitHash, q.WaitTime = hash, wait
		service, _, err := g.agent.Client.Agent().Service(g.service.ID, q)
		if err == nil && service != nil {
			hash = service.ContentHash
		}
		return err
	})
	if consulapi.NotFound(err) {
		return "", g.register(ctx)
	}
	if err != nil {
		return "", err
	}
	return hash, nil
}

func (g *registration) register(ctx context.Context) error {
	_, err := g.agent.Call(ctx, g.what("register"), consulapi.AnswerTime, func(q *api.QueryOptions) error {
		// Without the replacement, a check of an earlier life of the instance would stay and turn critical.
		opts := api.ServiceRegisterOpts{ReplaceExistingChecks: true, Token: q.Token}.WithContext(q.Context())
		return g.agent.Client.Agent().ServiceRegisterOpts(g.service, opts)
	})
	return err
}

func (g *registration) what(verb string) string { return fmt.Sprintf("%s %q", verb, g.service.ID) }

// pause returns the random time to wait after the given number of failures before this one.
func pause(err error, failures int) time.Duration {
	longest, after := longPause, time.Duration(0)
	if refused, ok := errors.AsType[*discovery.RefusedError](err); ok {
		after = refused.After
		if refused.Denied || after > 0 {
			longest = refusedPause
		}
	}
	return after + rand.N(min(longest, firstPause<<min(failures, 10)))
}
